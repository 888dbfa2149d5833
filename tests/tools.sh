# Finds the programs that gtd and its tests run, and installs what is missing with the machine's own package
# manager. To be read by other scripts: `need tmux git`.

# The package manager, or nothing.
manager() {
    for name in apt-get dnf pacman apk zypper brew; do
        if command -v "$name" >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
}

# Runs a command as root, where we are not root already and the package manager wants it.
as_root() {
    if [ "$(id -u)" = 0 ] || [ "$1" = brew ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        echo "error: '$*' needs root, and there is no sudo" >&2
        return 1
    fi
}

install() {
    case "$(manager)" in
        apt-get) as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null ;;
        dnf) as_root dnf install -y -q "$@" ;;
        pacman) as_root pacman -Sy --noconfirm --needed "$@" ;;
        apk) as_root apk add --quiet "$@" ;;
        zypper) as_root zypper --quiet --non-interactive install "$@" ;;
        brew) as_root brew install --quiet "$@" ;;
        *) echo "error: no package manager that I know; please install: $*" >&2; return 1 ;;
    esac
}

# Makes sure that programs are there. Their packages have the same names everywhere we know of, but for these.
package() {
    case "$1:$(manager)" in
        cc:apt-get) echo build-essential ;;
        cc:apk) echo gcc musl-dev ;;
        cc:*) echo gcc ;;
        sqlite3:dnf | sqlite3:pacman | sqlite3:apk | sqlite3:brew) echo sqlite ;;
        # Where there is no systemd the tests that need it say that they were skipped.
        systemctl:apk | systemctl:brew) ;;
        systemctl:*) echo systemd ;;
        *) echo "$1" ;;
    esac
}

need() {
    missing=""
    for program in "$@"; do
        command -v "$program" >/dev/null 2>&1 || missing="$missing $(package "$program")"
    done
    missing=$(echo $missing)
    [ -z "$missing" ] && return 0
    echo "installing: $missing" >&2
    # shellcheck disable=SC2086 # a list of words
    install $missing
}
