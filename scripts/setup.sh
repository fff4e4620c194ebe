#!/bin/sh
# setup.sh PYTHON VENV: create VENV with PYTHON (3.10 or newer) and install this project into it.
set -eu
python=$1 venv=$2
cd "$(dirname "$0")/.."

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "$python is older than Python 3.10; run make again with PYTHON=python3.11, say." >&2
    exit 1
}
"$python" -c 'import ensurepip, venv' 2>/dev/null || sh scripts/debian.sh python3-venv || exit 1
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "Installing kws and what it needs into $venv (about 7 GB, a few minutes the first time)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
