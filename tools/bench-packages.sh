#!/bin/sh
# The tools that `make bench` measures Perseus beside. Installs them with apt-get
# when run as root on Debian; what is missing is left out of the table, by name.
set -eu

# program:package.
for pair in parallel:parallel sshd:openssh-server ssh:openssh-client srun:slurm-wlm munged:munge; do
    program=${pair%%:*}
    package=${pair##*:}
    PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null 2>&1 && continue
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        echo "bench packages: no $program; Debian: sudo apt-get install $package" >&2
        continue
    fi
    echo "bench packages: installing $package" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -q --no-install-recommends "$package" >/dev/null 2>&1 || {
        apt-get update -q >/dev/null 2>&1 || true
        apt-get install -y -q --no-install-recommends "$package" >/dev/null 2>&1 ||
            echo "bench packages: apt-get could not install $package" >&2
    }
done
