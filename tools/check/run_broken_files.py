#!/usr/bin/env python3
"""Runs the hadal program over the corpus of tools/generate/make_broken_files.py and checks how it refuses each file.

    tools/check/run_broken_files.py build/bin/hadal CORPUS [--seconds 1] [--max-rss 256] [--jobs 2] [--stage open] [--every 3]

A refusal is: exit code 1, exactly one line of at most 1000 bytes on stderr, nothing on stdout, within the time and memory.
For a build with sanitizers give --seconds 20 --max-rss 0 (no limit). Exit code 0 if every case behaves.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

MAX_LINE = 1000


def run(command, seconds):
    """(status, stdout, stderr, seconds, peak MB, hung)"""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        hung = threading.Event()

        def kill():
            hung.set()
            child.kill()

        timer = threading.Timer(10 * seconds, kill)
        timer.start()
        _, status, usage = os.wait4(child.pid, 0)
        timer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        spent = time.monotonic() - start
        out.seek(0)
        err.seek(0)
        return child.returncode, out.read(1 << 16), err.read(1 << 16), spent, usage.ru_maxrss / 1024, hung.is_set()


def judge(result, must_pass, may_pass, args):
    """None, or (kind, text)."""
    code, out, err, spent, peak, hung = result
    line = err.decode(errors="replace").strip()[:200]
    if hung or spent > args.seconds:
        return "hung", f"{spent:.2f} s"
    if code < 0 or code not in (0, 1):
        return "crashed", f"exit {code}: {line}"
    if args.max_rss and peak > args.max_rss:
        return "flooded", f"{peak:.0f} MB"
    if code == 0:
        return None if must_pass or may_pass else ("passed", "exit 0")
    if must_pass:
        return "refused", line
    if out or err.count(b"\n") != 1 or not err.endswith(b"\n") or len(err) > MAX_LINE:
        return "untidy", f"{len(out)} bytes on stdout, {err.count(10)} lines and {len(err)} bytes on stderr: {line}"
    if any((byte < 32 and byte != 10) or byte == 127 for byte in err):
        return "untidy", f"control bytes on stderr: {line!r}"
    return None


def check(entry, args):
    path = str(args.corpus / entry["path"])
    offenders = []
    for command in (["inspect", path], ["generate", path, "--ids", "1", "--print-ids", "--max-new", "1"]):
        result = run([args.binary, *command], args.seconds)
        valid = entry["stage"] == "valid"
        fault = judge(result, valid, entry["stage"] == "bind" and command[0] == "inspect", args)
        if fault:
            offenders.append((fault[0], f"{fault[0]}: {command[0]} {entry['path']} ({entry['what']}): {fault[1]}"))
    return offenders


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("corpus", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--max-rss", type=float, default=256.0, help="MB; 0: no limit")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--stage", choices=["open", "bind", "valid"], help="only cases of this stage")
    parser.add_argument("--every", type=int, default=1, help="only every so many cases one")
    args = parser.parse_args()
    entries = [json.loads(line) for line in (args.corpus / "manifest.jsonl").read_text().splitlines()]
    entries = [entry for entry in entries if not args.stage or entry["stage"] == args.stage][:: args.every]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        offenders = [fault for faults in pool.map(lambda entry: check(entry, args), entries) for fault in faults]
    for _, text in offenders:
        print(text)
    count = {
        kind: sum(1 for fault in offenders if fault[0] == kind) for kind in ("crashed", "hung", "flooded", "passed", "untidy", "refused")
    }
    broken = sum(entry["stage"] != "valid" for entry in entries)
    print(
        f"{broken} files, {count['crashed']} crashed, {count['hung']} hung, {count['flooded']} flooded, {count['passed']} passed, "
        f"{count['untidy']} untidy; {len(entries) - broken} sound ones, {count['refused']} refused"
    )
    return 1 if offenders or not entries else 0


if __name__ == "__main__":
    sys.exit(main())
