#!/bin/bash
# Makes .venv from a requirements file, once: a second call with the same file does nothing.
set -eu
cd "$(dirname "$0")/../.."
requirements=$1
[ -x .venv/bin/python ] && cmp -s "$requirements" .venv/requirements.txt && exit 0
echo "Setting up .venv with the Python packages of $requirements"
python3 -m venv .venv
.venv/bin/python -m pip install -q --disable-pip-version-check -r "$requirements"
cp "$requirements" .venv/requirements.txt
