#!/bin/sh
# Installs the reference library of Standard Webhooks that tests/system_standard_webhooks.rs asks (standardwebhooks, in a virtual
# environment of its own). Running it again changes nothing. Another place than target/webhooks-venv: SPHERON_WATCH_WEBHOOKS_VENV.
set -eu
cd "$(dirname "$0")/.."
venv=${SPHERON_WATCH_WEBHOOKS_VENV:-target/webhooks-venv}
wanted='standardwebhooks==1.1.0 --hash=sha256:9a88d48a1f198be61517fc7ad328cf58ba02b73f0fbd8941d4213e9c0b6c2a61'
if ! "$venv/bin/python" -c 'import standardwebhooks' 2>/dev/null; then
    python3 -m venv "$venv"
    echo "$wanted" | "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r /dev/stdin
fi
"$venv/bin/python" -c 'from importlib.metadata import version; print("standardwebhooks", version("standardwebhooks"), "is ready")'
