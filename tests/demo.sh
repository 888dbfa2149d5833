#!/bin/sh
# Installs what is missing, builds, and runs the demo: a throwaway town that starts, loses an agent, recovers,
# explains itself, and is gone.
set -eu
cd "$(dirname "$0")/.."

sh tests/tools.sh cc git tmux
cargo build --quiet --locked -p gtd -p gtctl --bins
exec "${CARGO_TARGET_DIR:-target}/debug/gtctl" demo "$@"
