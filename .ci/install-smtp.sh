#!/bin/sh
# Installs the real SMTP server that tests/system_smtp.rs talks to (aiosmtpd, in a virtual environment of its own).
# Running it again changes nothing. Another place than target/smtp-venv: SPHERON_WATCH_SMTP_VENV.
set -eu
cd "$(dirname "$0")/.."
venv=${SPHERON_WATCH_SMTP_VENV:-target/smtp-venv}
if ! "$venv/bin/python" -c 'import aiosmtpd' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'aiosmtpd==1.4.6'
fi
"$venv/bin/python" -c 'import aiosmtpd; print("aiosmtpd", aiosmtpd.__version__, "is ready")'
