#!/bin/sh
# Installs what is missing, builds everything, and runs all tests. Arguments go to `cargo test`.
set -eu
cd "$(dirname "$0")/.."
. tests/tools.sh
need cc tmux git jq socat sqlite3 systemctl
# The end-to-end tests run the programs of the other packages, which `cargo test` alone would not build.
cargo build --workspace --bins
exec cargo test --workspace "$@"
