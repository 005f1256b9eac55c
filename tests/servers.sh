#!/usr/bin/env bash
# Installs the blob store emulator that the tests talk to, unless it is there.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -e .cache/azurite/node_modules/azurite ]; then exit 0; fi
if ! command -v npm >/dev/null; then
    echo "tests/servers.sh: npm is not here, so the tests that need Azurite are skipped; install Node.js" >&2
    exit 0
fi
mkdir -p .cache/azurite
npm install --prefix .cache/azurite --no-audit --no-fund --loglevel=error azurite@3
