"""Where pip is, for the scripts here that download by it."""

from __future__ import annotations

import os
import subprocess
import sys


def pip() -> list[str] | None:
    """An interpreter with pip: the running one, or Debian's."""
    for python in (sys.executable, "/usr/bin/python3"):
        if python and os.path.exists(python) and subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0:
            return [python, "-m", "pip"]
    return None
