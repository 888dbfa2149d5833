#!/bin/sh
# Installs what is missing, builds gtd, and shows it at work in a throwaway town. No network after the build.
set -eu
cd "$(dirname "$0")/.."
. tests/tools.sh
need cc tmux git
cargo build --quiet --bins -p gtd -p gtctl
exec target/debug/gtctl demo "$@"
