#!/usr/bin/env bash
# Installs what the tests talk to, unless it is there: a blob store's emulator, a browser, SLURM.
set -euo pipefail
cd "$(dirname "$0")/.."

azurite() {
    if [ -e .cache/azurite/node_modules/azurite ]; then return; fi
    if ! command -v npm >/dev/null; then
        echo "tests/servers.sh: npm is not here, so the tests that need Azurite are skipped; install Node.js" >&2
        return
    fi
    mkdir -p .cache/azurite
    npm install --prefix .cache/azurite --no-audit --no-fund --loglevel=error azurite@3
}

browser() {
    if command -v chromium >/dev/null || command -v google-chrome >/dev/null; then return; fi
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null \
        && { apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium; } >/dev/null 2>&1; then
        return
    fi
    echo "tests/servers.sh: no Chromium here, so the tests that open the report are skipped; install chromium" >&2
}

slurm() {
    if [ -x /usr/sbin/slurmctld ] && [ -x /usr/sbin/slurmd ] && [ -x /usr/sbin/munged ] \
        && [ -x /usr/sbin/sshd ] && [ "$(command -v sbatch ssh rsync shellcheck | wc -l)" -eq 4 ]; then return; fi
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null && { apt-get -qq update \
        && apt-get -qq install -y --no-install-recommends \
            slurmctld slurmd slurm-client munge openssh-server openssh-client rsync shellcheck; } >/dev/null 2>&1; then
        return
    fi
    echo "tests/servers.sh: no SLURM here, so the tests that start one are skipped;" \
        "install slurmctld slurmd slurm-client munge openssh-server rsync shellcheck" >&2
}

azurite
browser
slurm
