#!/bin/sh
# Makes .venv from requirements-dev.lock (checked hashes) and puts this checkout
# into it with its commands `perseus` and `perseusd`. Does nothing, fast, when
# nothing has changed. Needs Python 3.11+ and a network, or a pip configured for
# a place where the packages are.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd)
venv=$root/.venv
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
        "$1" -m venv "$venv"
        pip() { "$venv/bin/python" -m pip "$@"; }
    elif "$1" -c 'import pip, venv' 2>/dev/null; then
        "$1" -m venv --without-pip "$venv"
        python=$1
        pip() { "$python" -m pip --python "$venv/bin/python" "$@"; }
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
    "$venv/bin/python" -c 'import cryptography.x509, grpc, msgspec, psutil' ||
        die "the installed packages do not load on this machine" \
            "NixOS: nix-shell -p python3 gnumake stdenv.cc.cc.lib --run 'LD_LIBRARY_PATH=\$(dirname \$(cc -print-file-name=libstdc++.so.6)) make setup'"
}

python=$(find_python)
wanted=$(fingerprint "$python")
if [ -f "$venv/made-from" ] && [ "$(cat "$venv/made-from")" = "$wanted" ]; then
    exit 0
fi
say "setup: making .venv from $lock (once, about a minute)"
rm -rf "$venv"
make_venv "$python"
install_packages
printf '%s\n' "$wanted" >"$venv/made-from"
say "setup: done; .venv/bin/perseus is ready"
