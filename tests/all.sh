#!/bin/sh
# Installs what is missing, builds, and runs all tests. Arguments go to `cargo test`.
set -eu
cd "$(dirname "$0")/.."

sh tests/tools.sh cc git jq socat tmux
# The end-to-end tests run the built programs, which cargo does not build for another package's tests.
cargo build --workspace --locked --bins
cargo test --workspace --locked --no-fail-fast "$@"
