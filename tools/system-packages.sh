#!/bin/sh
# The programs that tests call and that are no part of Python. Installs them with
# apt-get when run as root on Debian; otherwise says what is missing. Tests that
# need a missing one are skipped, and named at the end of `make test`.
set -eu

# program:package
wanted="curl:curl openssl:openssl ip:iproute2 ss:iproute2 nft:nftables tmux:tmux unshare:util-linux"

missing=
packages=
for pair in $wanted; do
    program=${pair%%:*}
    PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null 2>&1 && continue
    missing="$missing $program"
    case " $packages " in
        *" ${pair##*:} "*) ;;
        *) packages="$packages ${pair##*:}" ;;
    esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "system packages: installing$packages" >&2
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    apt-get install -y -q --no-install-recommends $packages >/dev/null 2>&1 || {
        apt-get update -q >/dev/null 2>&1 || true
        apt-get install -y -q --no-install-recommends $packages >/dev/null 2>&1 ||
            echo "system packages: apt-get could not install$packages" >&2
    }
else
    echo "system packages: missing$missing; their tests will be skipped." >&2
    echo "  Debian, Ubuntu:  sudo apt-get install$packages" >&2
fi
