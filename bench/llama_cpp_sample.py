#!/usr/bin/env python3
"""One sample of llama.cpp, in a process of its own: llama_cpp_sample.py WORK, the fields of measure.Work and a model as JSON.

The same work as `hadal bench` does, through llama.cpp's C functions, sampling left out. Prints one JSON list of measurements.
"""

from __future__ import annotations

import importlib.metadata
import json
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import llama_cpp as ll
import numpy as np


class Peer:
    def __init__(self, w: SimpleNamespace) -> None:
        self.w = w
        self.silence = ll.llama_log_callback(lambda level, text, data: None)
        ll.llama_log_set(self.silence, None)
        ll.llama_backend_init()
        self.start = time.perf_counter()
        self.model = ll.llama_model_load_from_file(w.model.encode(), ll.llama_model_default_params())
        if not self.model:
            raise SystemExit("llama.cpp cannot load the model")
        settings = ll.llama_context_default_params()
        settings.n_ctx = w.batch * (max(w.prefill, w.warm, len(w.ids), w.depth + w.decode + 8, 32) + 8)
        settings.n_batch, settings.n_ubatch, settings.n_seq_max = 2048, 512, w.batch
        settings.n_threads = settings.n_threads_batch = w.threads
        self.context = ll.llama_init_from_model(self.model, settings)
        if not self.context:
            raise SystemExit("llama.cpp cannot make a context")
        self.vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(self.model))
        self.rng, self.batch = random.Random(1), ll.llama_batch_init(2048, 0, 1)

    def decode(self, rows: list[tuple[int, int, bool]], ids: list[int] | None = None) -> None:
        """One call for rows of (sequence, position, logits wanted); random tokens where no ids are given."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (sequence, position, wanted) in enumerate(rows):
            token = ids[i] if ids else self.rng.randrange(self.vocab)
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if ll.llama_decode(self.context, batch):
            raise SystemExit("llama_decode failed")
        ll.llama_synchronize(self.context)

    def prompt(self, sequence: int, length: int) -> None:
        for at in range(0, length, 2048):
            self.decode([(sequence, p, p == length - 1) for p in range(at, min(length, at + 2048))])

    def generate(self, first: int, count: int) -> None:
        for p in range(first, first + count):
            self.decode([(s, p, True) for s in range(self.w.batch)])

    def logits(self, ids: list[int], out: str) -> None:
        """Those of every position, as a .npy file."""
        rows = np.lib.format.open_memmap(out, "w+", np.float32, (len(ids), self.vocab))
        for at in range(0, len(ids), 512):
            part = ids[at : at + 512]
            self.decode([(0, at + i, True) for i in range(len(part))], part)
            for i in range(len(part)):
                rows[at + i] = np.ctypeslib.as_array(ll.llama_get_logits_ith(self.context, i), (self.vocab,))
        rows.flush()

    def clear(self) -> None:
        ll.llama_memory_clear(ll.llama_get_memory(self.context), True)

    def measure(self) -> list[dict[str, Any]]:
        w, found = self.w, list[dict[str, Any]]()
        if w.ids:
            self.logits(w.ids, w.out)
            return []
        if w.load:
            self.decode([(0, 0, True)])
            return [{"test": "load", "seconds": time.perf_counter() - self.start}]
        self.prompt(0, w.warm or 32)
        self.clear()
        if w.prefill:
            took = []
            for _ in range(w.repeats):
                took.append(seconds(lambda: self.prompt(0, w.prefill)))
                self.clear()
            found.append({"test": f"pp{w.prefill}", "tok_s": w.prefill / statistics.median(took)})
        if w.decode:
            for s in range(w.batch):
                self.prompt(s, max(w.depth, 1))
            at = max(w.depth, 1)
            self.generate(at, 2)
            took = [seconds(lambda: self.generate(at + 2, w.decode))]
            found.append({"test": f"tg{w.decode}", "depth": w.depth, "batch": w.batch, "tok_s": w.batch * w.decode / took[0]})
        return found


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> int:
    found = Peer(SimpleNamespace(**json.loads(sys.argv[1]))).measure()
    of_all = {
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "version": importlib.metadata.version("llama-cpp-python"),
        "built_for": ll.llama_print_system_info().decode().strip(),
    }
    print(json.dumps([row | of_all for row in found]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
