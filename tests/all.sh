#!/bin/sh
# Installs what is missing, builds everything, and runs all tests. Arguments go to `cargo test`.
set -eu
cd "$(dirname "$0")/.."
. tests/tools.sh
need cc tmux git jq socat sqlite3 systemctl
# The end-to-end tests run the programs of the other packages, which `cargo test` alone would not build.
cargo build --workspace --bins
# Most tests wait for something most of the time: more of them than there are processors fill each other's waits. Each
# has a daemon of its own, and a user has only so many inotify instances.
threads=$((2 * $(getconf _NPROCESSORS_ONLN)))
[ "$threads" -le 16 ] || threads=16
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$threads}"
exec cargo test --workspace "$@"
