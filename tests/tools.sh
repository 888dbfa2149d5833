#!/bin/sh
# Installs what is missing of the programs named as arguments (cc, git, jq, socat, sqlite3, tmux, ps), with the
# machine's own package manager. Says nothing when nothing is missing.
set -eu

missing=""
for tool in "$@"; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
[ -n "$missing" ] || exit 0

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        echo "error: cannot install$missing: neither root nor sudo; install them, then run this again" >&2
        exit 1
    fi
}

# The package of a tool: package MANAGER TOOL
package() {
    case "$1:$2" in
        apt:cc) echo gcc libc6-dev ;;
        apk:cc) echo gcc musl-dev ;;
        *:cc) echo gcc ;;
        pacman:sqlite3 | apk:sqlite3 | brew:sqlite3 | dnf:sqlite3) echo sqlite ;;
        dnf:ps | pacman:ps) echo procps-ng ;;
        *:ps) echo procps ;;
        *) echo "$2" ;;
    esac
}

packages() {
    for tool in $missing; do
        package "$1" "$tool"
    done
}

echo "installing$missing" >&2
# shellcheck disable=SC2046
if command -v apt-get >/dev/null 2>&1; then
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(packages apt) >/dev/null
elif command -v dnf >/dev/null 2>&1; then
    as_root dnf install -y -q $(packages dnf)
elif command -v pacman >/dev/null 2>&1; then
    as_root pacman -Sy --noconfirm --needed $(packages pacman) >/dev/null
elif command -v apk >/dev/null 2>&1; then
    as_root apk add -q $(packages apk)
elif command -v brew >/dev/null 2>&1; then
    brew install -q $(packages brew)
else
    echo "error: no package manager that is known here; install$missing, then run this again" >&2
    exit 1
fi

for tool in $missing; do
    command -v "$tool" >/dev/null 2>&1 || {
        echo "error: $tool is still missing after its package was installed" >&2
        exit 1
    }
done
