#!/usr/bin/env python
"""The process of one contender: runs programs when asked to, and sleeps in between.

    python worker.py MODULE VARIANT THREADS

MODULE holds PROGRAMS, a table name -> function(variant) -> (step, value). Requests and answers are lines of
JSON on standard input and output; `harness.Worker` is the other end.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

WARM_UP_STEPS = 3


class Unsupported(Exception):
    """The contender has no such program."""


class Session:
    """The programs of one contender, one at a time."""

    def __init__(self, module: str, variant: str):
        self._module, self._variant = module, variant
        self._step: Callable[[], Any]
        self._value: Callable[[Any], float]

    def prepare(self, program: str) -> dict[str, Any]:
        """Import what is needed, build the program, run its first step; the seconds of each."""
        start = time.perf_counter()
        programs = importlib.import_module(self._module).PROGRAMS
        imported = time.perf_counter()
        if program not in programs:
            raise Unsupported(f"{self._module} has no program {program}")
        self._step, self._value = programs[program](self._variant)
        built = time.perf_counter()
        value = self._value(self._step())
        done = time.perf_counter()
        return {
            "import_s": imported - start,
            "build_s": built - imported,
            "first_step_s": done - built,
            "value": value,
        }

    def calibrate(self, seconds: float) -> dict[str, Any]:
        """How many steps take about so long, at least one."""
        self._run(WARM_UP_STEPS)
        steps = 1
        while (elapsed := self._run(steps)[0]) < seconds / 10:
            steps *= 2
        return {"steps": max(1, round(steps * seconds / elapsed))}

    def measure(self, steps: int) -> dict[str, Any]:
        """Seconds of one step, out of a block of steps; some before it wake threads and caches.

        `cpu_s` is the processor time of all of it, over all threads.
        """
        cpu_start = time.process_time()
        self._run(max(1, steps // 10))
        elapsed, value = self._run(steps)
        return {"step_s": elapsed / steps, "value": value, "cpu_s": time.process_time() - cpu_start}

    def values(self, steps: int) -> dict[str, Any]:
        """What each of the next steps returns."""
        return {"values": [self._value(self._step()) for _ in range(steps)]}

    def memory(self) -> dict[str, Any]:
        """The peak of the resident memory in MB; None where the system does not tell."""
        try:
            import resource
        except ImportError:
            return {"peak_mb": None}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"peak_mb": peak / 2**20 if sys.platform == "darwin" else peak / 2**10}

    def drop(self) -> dict[str, Any]:
        """Forget the program and its arrays."""
        del self._step, self._value
        gc.collect()
        return {}

    def _run(self, steps: int) -> tuple[float, float]:
        """Seconds for so many steps, and the value of the last one, which is waited for."""
        step = self._step
        start = time.perf_counter()
        for _ in range(steps - 1):
            step()
        value = self._value(step())
        return time.perf_counter() - start, value


def pin(threads: int) -> None:
    """Keep this process on as many cores as it has threads, where the system can do that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def main() -> None:
    """Answer requests until the input ends."""
    module, variant, threads = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the frameworks print is no answer
    pin(int(threads))
    session = Session(module, variant)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(session, request.pop("do"))(**request)
        except Unsupported as error:
            answer = {"unsupported": str(error)}
        except Exception as error:  # reported by the other end
            traceback.print_exc()
            text = str(error).strip().partition("\n")[0]
            answer = {"error": f"{type(error).__name__}: {text}"}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
