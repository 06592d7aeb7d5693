#!/bin/bash
# Puts the Python packages of requirements files into .venv: make_venv.sh FILE... A file that was installed as it is costs nothing.
set -eu
cd "$(dirname "$0")/../.."
for file in "$@"; do
  installed=.venv/installed/${file//\//-}
  [ -x .venv/bin/python ] && cmp -s "$file" "$installed" && continue
  echo "Installing the Python packages of $file into .venv"
  [ -x .venv/bin/python ] || python3 -m venv .venv
  .venv/bin/python -m pip install -q --disable-pip-version-check -r "$file"
  mkdir -p .venv/installed
  cp "$file" "$installed"
done
