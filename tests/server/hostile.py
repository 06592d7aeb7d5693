#!/usr/bin/env python3
"""Hostile requests against `hadal serve`: none may be answered by more than a refusal, none may harm a neighbour.

hostile.py BINARY [--n 1000] [--seed 1] [--model PATH] [--only TEXT]     standard library only

Beside the attacks one client asks the same question all the time; the bits of its answers must not change. At the end the server must
live, and its memory must have grown by less than 64 MiB since a first round of the dearest attacks.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import hostile_bodies
import hostile_wire
from harness import GOLDEN, Server, serving, wait_until
from hostile_bodies import MUST_REFUSE, MUST_TAKE, Case
from wire import LONGEST, Talk, choices_of, metric, mib, peak_resident, post, talk

BATCH = 50


class Neighbour:
    """Asks one greedy question again and again, and compares each answer with the first."""

    def __init__(self, server: Server) -> None:
        self.server = server
        body = {"model": server.model, "prompt": "The quiet neighbour asks", "max_tokens": 24, "temperature": 0}
        self.body = json.dumps({**body, "logprobs": 5, "ignore_eos": True}).encode()
        self.faults: list[str] = []
        self.asked = self.turned_away = 0
        self.slowest = 0.0
        self.golden = self.ask()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.loop)
        self.thread.start()

    def ask(self) -> object:
        result = talk(self.server.port, post("/v1/completions", self.body), seconds=60)
        self.slowest = max(self.slowest, result.seconds)
        if result.statuses in ([429], [503]):
            return None  # a crowd is there; that is no harm
        if result.statuses != [200]:
            raise RuntimeError(f"the neighbour was answered {result.statuses}, {result.fault}")
        return choices_of(result.responses[0].body)

    def loop(self) -> None:
        while not self.over.is_set():
            try:
                answer = self.ask()
                self.asked += 1
                self.turned_away += answer is None
                if answer is not None and answer != self.golden:
                    self.faults.append(f"answer {self.asked} differs: {str(answer)[:200]}")
            except (OSError, RuntimeError, ValueError) as error:
                self.faults.append(f"answer {self.asked}: {error}")
            self.over.wait(0.02)

    def stop(self) -> None:
        self.over.set()
        self.thread.join()


def judge(case: Case, result: Talk) -> list[str]:
    """What is wrong with what came of a body."""
    if result.seconds > LONGEST:
        return [f"took {result.seconds:.1f} s"]
    if not result.responses:
        if case.verdict == MUST_REFUSE and (result.closed or result.reset):
            return []
        return [result.fault or "closed without an answer"]
    status = result.statuses[0]
    if len(result.statuses) > 1 or not (status == 200 or 400 <= status < 500):
        return [f"answered {result.statuses}: {result.responses[0].body[:160]!r}"]
    if case.verdict == MUST_REFUSE and status == 200:
        return [f"taken, and is illegal: {result.responses[0].body[:160]!r}"]
    if case.verdict == MUST_TAKE and status != 200:
        return [f"refused with {status}, and is legal: {result.responses[0].body[:160]!r}"]
    kind = result.responses[0].headers.get("content-type", "")
    if kind.startswith("application/json"):
        try:
            answer = json.loads(result.responses[0].body)
        except ValueError as error:
            return [f"the answer is no JSON: {error}"]
        if status != 200 and "error" not in answer:
            return [f"an error of no known shape: {answer}"]
    return []


Job = tuple[str, Callable[[], list[str]]]


def body_job(server: Server, case: Case) -> Job:
    def run() -> list[str]:
        request = post(case.path, case.bytes_for(server.model), *case.headers)
        result = talk(server.port, request)
        for _ in range(30):  # a crowd of leavers beside it
            if result.statuses != [429] or case.verdict != MUST_TAKE:
                break
            time.sleep(0.2)
            result = talk(server.port, request)
        return judge(case, result)

    return case.name, run


def wire_job(server: Server, name: str, attack: hostile_wire.Attack) -> Job:
    return name, lambda: attack(server.port)


def jobs_of(server: Server, n: int, seed: int, only: str) -> tuple[list[Job], list[Job]]:
    """Those of the warm-up, which are also the dearest, and all `n`."""
    source = random.Random(seed)
    wire = [wire_job(server, name, attack) for name, attack in hostile_wire.attacks()]
    huge = [body_job(server, case) for case in hostile_bodies.huge_cases()]
    cases = hostile_bodies.all_cases()
    source.shuffle(cases)
    room = max(0, n - len(wire) - len(huge))
    drawn = cases[: room * 4 // 5]
    while len(drawn) < room:
        drawn.append(hostile_bodies.mutated(source))
    jobs = wire + huge + [body_job(server, case) for case in drawn]
    if only:
        jobs = [job for job in [*wire, *huge, *(body_job(server, case) for case in cases)] if only in job[0]]
    source.shuffle(jobs)
    if only:
        return [], jobs
    warm = [*huge, *(job for job in wire if "64 MiB" in job[0] or "reader" in job[0] or "leavers" in job[0])]
    # answers and grammars of every kind, so that what is made at first use is there
    kinds = [case for case in cases if case.verdict == MUST_TAKE or case.name.startswith(("schema", "regex"))]
    warm += [body_job(server, case) for case in kinds[:60]]
    return warm, jobs


def run_batch(server: Server, jobs: list[Job], pool: ThreadPoolExecutor, faults: list[str], taken: dict[str, float]) -> None:
    def timed(job: Job) -> tuple[str, list[str], float]:
        began = time.monotonic()
        try:
            wrong = job[1]()
        except (OSError, ValueError) as error:
            wrong = [f"{type(error).__name__}: {error}"]
        return job[0], wrong, time.monotonic() - began

    for name, wrong, seconds in pool.map(timed, jobs):
        taken[name] = seconds
        for what in wrong:
            faults.append(f"{name}: {what}")
            print("FAULT", faults[-1], flush=True)
    if server.process.poll() is not None:
        raise RuntimeError(f"the server died with {server.process.returncode}: {''.join(server.log[-5:])}")
    health = talk(server.port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    if health.statuses != [200]:
        faults.append(f"/health after a batch: {health.statuses} {health.fault}")


def quiet(server: Server) -> bool:
    """True once nothing is under way but the asker itself."""
    text = server.request("GET", "/metrics")[2]
    return all(metric(text, f"hadal_requests_{what}") == 0 for what in ("waiting", "running", "preparing"))


def attack(server: Server, n: int, seed: int, only: str, most: int) -> list[str]:
    faults: list[str] = []
    taken: dict[str, float] = {}
    warm, jobs = jobs_of(server, n, seed, only)
    neighbour = Neighbour(server)
    try:
        with ThreadPoolExecutor(4) as pool:
            run_batch(server, warm, pool, [], {})
            before = server.resident()
            for at in range(0, len(jobs), BATCH):
                run_batch(server, jobs[at : at + BATCH], pool, faults, taken)
    finally:
        neighbour.stop()
    if not wait_until(lambda: quiet(server), 10):
        faults.append("requests still run, though every client has gone")
    growth = server.resident() - before
    if most and growth >= most:
        faults.append(f"memory grew by {mib(growth)} since the first round")
    faults += neighbour.faults[:5]
    if neighbour.asked - neighbour.turned_away < 5:
        faults.append(f"the neighbour had {neighbour.asked - neighbour.turned_away} answers: no test of its bits")
    slow = sorted(taken.items(), key=lambda item: -item[1])[:3]
    print(
        f"{len(jobs)} hostile requests, {len(faults)} faults; the slowest: "
        + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in slow)
    )
    print(f"neighbour: {neighbour.asked} answers, {neighbour.turned_away} turned away, slowest {neighbour.slowest:.2f} s")
    print(f"memory: {mib(before)} after the first round, {growth / 2**20:+.1f} MiB since; peak {mib(peak_resident(server.process.pid))}")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", default=str(GOLDEN / "qwen3"))
    parser.add_argument("--only", default="", help="only the attacks whose name holds this")
    parser.add_argument("--growth", type=int, default=64, help="MiB by which memory may grow; 0 under sanitizers, which keep what is freed")
    options = parser.parse_args()
    with serving(options.binary, options.model, "--chat-format", "deepseek-v3", "--log", "off") as server:
        faults = attack(server, options.n, options.seed, options.only, options.growth << 20)
    for fault in faults:
        print("FAULT", fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
