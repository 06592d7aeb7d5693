#!/usr/bin/env python3
"""Runs a command where OpenCL has a device, and is skipped (77) elsewhere (standard library only).

if_opencl.py COMMAND...
"""

from __future__ import annotations

import ctypes
import subprocess
import sys

SKIPPED = 77
ALL_TYPES = 0xFFFFFFFF


def count_devices() -> int:
    """As chips/opencl looks for them. -1: there is no loader."""
    try:
        cl = ctypes.CDLL("libOpenCL.so.1")
    except OSError:
        return -1
    count = ctypes.c_uint(0)
    if cl.clGetPlatformIDs(0, None, ctypes.byref(count)) != 0:
        return 0
    platforms = (ctypes.c_void_p * count.value)()
    cl.clGetPlatformIDs(count, platforms, None)
    devices = 0
    for platform in platforms:
        found = ctypes.c_uint(0)
        if cl.clGetDeviceIDs(ctypes.c_void_p(platform), ctypes.c_ulong(ALL_TYPES), 0, None, ctypes.byref(found)) == 0:
            devices += found.value
    return devices


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__.strip().splitlines()[-1].strip())
        return 2
    devices = count_devices()
    if devices < 1:
        print(
            "skipped: no libOpenCL.so.1" if devices < 0 else "skipped: OpenCL has no device",
            "(Debian: ocl-icd-libopencl1, pocl-opencl-icd)",
        )
        return SKIPPED
    return subprocess.run(sys.argv[1:], check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
