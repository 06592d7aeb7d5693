#!/usr/bin/env python3
"""Runs four ranks under mpirun (standard library only): sums are right to the bit, and whatever goes wrong on one ends them all.

    run_mpi.py [COMM_RANK PLUGIN]

A rank that aborts, one that goes without a word and one that is killed must each end the run within seconds, with a line that
names it. Exits 77 where mpirun is not installed, or the plug-in is not built.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

RANKS = 4
SECONDS = 20
# what goes wrong on the last rank: what the output must say
ENDS = {
    "abort": "rank 3 of 4 ends the run: no memory for its part of the model",
    "gone": "rank 3 of 4 ends the run: it is gone before the others were done",
    "killed": "process rank 3 with PID",  # mpirun's own line
}


def mpirun(mpi: str, command: list[str]) -> tuple[int, str, float]:
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    begun = time.monotonic()
    # of the transports only shared memory, so that no network is looked for
    call = [mpi, *root, "--oversubscribe", "--mca", "btl", "self,vader", "-n", str(RANKS), *command]
    done = subprocess.run(call, capture_output=True, text=True, errors="replace", timeout=120)
    return done.returncode, done.stdout + done.stderr, time.monotonic() - begun


def main() -> int:
    if len(sys.argv) != 3:
        print("skipped: libhadal_comm_mpi.so is not built (package libopenmpi-dev)")
        return 77
    rank, plugin = sys.argv[1:]
    mpi = shutil.which("mpirun")
    if mpi is None:
        print("skipped: mpirun is not installed (package openmpi-bin)")
        return 77
    faults = []
    code, said, _ = mpirun(mpi, [rank, plugin, "sum"])
    right = sum("the sums are right" in line for line in said.splitlines())
    if code != 0 or right != RANKS:
        faults.append(f"sum: exit {code}, {right} ranks are right: {said[-500:]}")
    for how, line in ENDS.items():
        code, said, seconds = mpirun(mpi, [rank, plugin, how])
        print(f"{how}: exit {code} after {seconds:.1f} s")
        if code == 0 or line not in said or seconds > SECONDS:
            faults.append(f'{how}: exit {code} after {seconds:.1f} s, expected "{line}" within {SECONDS} s in: {said[-800:]}')
    alone = subprocess.run([rank, plugin, "sum"], capture_output=True, text=True, timeout=60)
    if alone.returncode != 1 or "was not started by mpirun" not in alone.stderr:
        faults.append(f"without mpirun: exit {alone.returncode}: {alone.stderr[-300:]}")
    print("\n".join(faults) if faults else "ok")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
