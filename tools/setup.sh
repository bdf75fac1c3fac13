#!/bin/sh
# Makes .venv from requirements-dev.lock (checked hashes) and puts this checkout
# into it with its commands `perseus` and `perseusd`. Does nothing, fast, when
# nothing has changed; what fails half way leaves the old one, and two at once
# wait for each other. Needs Python 3.11+ and a network, or a pip configured for
# a place where the packages are.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd)
venv=$root/.venv
new=$venv.new
LOCK_SECONDS=900
lock=requirements-dev.lock

say() { printf '%s\n' "$*" >&2; }
die() { say "setup: $1"; shift; for line in "$@"; do say "  $line"; done; exit 1; }

find_python() {
    for name in "${PERSEUS_PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
        [ -n "$name" ] && command -v "$name" >/dev/null 2>&1 || continue
        # Not the one of an environment (perhaps .venv itself, on PATH), but that below it.
        "$name" -c 'import os, sys
if sys.version_info < (3, 11): sys.exit(1)
print(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))' 2>/dev/null && return
    done
    die "no Python 3.11 or newer was found" \
        "Debian 12, Ubuntu 24.04:  apt-get install python3 python3-venv" \
        "Nix:                      nix-shell -p python3 gnumake" \
        "or name one:              PERSEUS_PYTHON=/path/to/python3 make setup"
}

# What the environment is made from; when it is the same, so is the environment.
fingerprint() {
    printf '%s\n' "$root" "$1" "$("$1" -V 2>&1)"
    cksum "$lock" pyproject.toml tools/setup.sh src/perseus/cli/bin/perseus
}

install_venv_module() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
    say "setup: installing Debian's python3-venv"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q python3-venv >/dev/null 2>&1 || {
        apt-get update -q >/dev/null 2>&1 || true
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q python3-venv >&2
    }
}

has_ensurepip() { "$1" -c 'import venv; from ensurepip import bootstrap' 2>/dev/null; }

make_venv() {
    if has_ensurepip "$1" || { install_venv_module && has_ensurepip "$1"; }; then
        "$1" -m venv "$new" --prompt .venv
        pip() { "$new/bin/python" -m pip "$@"; }
    elif "$1" -c 'import pip, venv' 2>/dev/null; then
        "$1" -m venv "$new" --prompt .venv --without-pip
        python=$1
        pip() { "$python" -m pip --python "$new/bin/python" "$@"; }
    else
        die "$1 can make no virtual environment: it has neither ensurepip nor pip" \
            "Debian, Ubuntu:  sudo apt-get install python3-venv    then again: make setup"
    fi
}

install_packages() {
    pip install -qq --disable-pip-version-check --require-hashes -r "$lock" ||
        die "the packages of $lock could not be installed" \
            "no network? name a mirror to pip with PIP_INDEX_URL, then again: make setup"
    pip install -qq --disable-pip-version-check --no-deps --no-build-isolation \
        --no-index --editable . || die "the project itself could not be installed"
    "$new/bin/python" -c 'import cryptography.x509, grpc, msgspec, psutil' ||
        die "the installed packages do not load on this machine" \
            "NixOS: nix-shell -p python3 gnumake stdenv.cc.cc.lib --run 'LD_LIBRARY_PATH=\$(dirname \$(cc -print-file-name=libstdc++.so.6)) make setup'"
}

# One at a time, and never longer than a person would wait.
take_lock() {
    if command -v flock >/dev/null 2>&1; then
        exec 9>"$venv.lock"
        flock -w "$LOCK_SECONDS" 9 || die "another make setup has not ended in $LOCK_SECONDS s"
        return
    fi
    waited=0
    until mkdir "$venv.lock.d" 2>/dev/null; do
        [ "$waited" -lt "$LOCK_SECONDS" ] || die "another make setup has not ended" \
            "none runs? rmdir '$venv.lock.d'    then again: make setup"
        sleep 1
        waited=$((waited + 1))
    done
    trap 'rmdir "$venv.lock.d"' EXIT
    trap 'exit 1' HUP INT TERM
}

# Programs of an environment begin with its path; give them the one it will have.
move_into_place() {
    "$new/bin/python" - "$new" "$venv" <<'END'
import pathlib, sys
old, new = (word.encode() for word in sys.argv[1:])
for path in pathlib.Path(sys.argv[1], "bin").iterdir():
    if path.is_file() and not path.is_symlink():
        content = path.read_bytes()
        if old in content and b"\0" not in content:
            path.write_bytes(content.replace(old, new))
END
    rm -rf "$venv.old"
    if [ -e "$venv" ] || [ -L "$venv" ]; then mv "$venv" "$venv.old"; fi
    mv "$new" "$venv"
    rm -rf "$venv.old"
}

is_made() { [ -f "$venv/made-from" ] && [ "$(cat "$venv/made-from")" = "$wanted" ]; }

python=$(find_python)
wanted=$(fingerprint "$python")
if is_made; then exit 0; fi
take_lock
# Whoever had the lock before may have made it.
if is_made; then exit 0; fi
say "setup: making .venv from $lock (once, about a minute)"
# Beside the old one, which stays whole until the new one is.
rm -rf "$new"
make_venv "$python"
install_packages
printf '%s\n' "$wanted" >"$new/made-from"
move_into_place
say "setup: done; .venv/bin/perseus is ready"
