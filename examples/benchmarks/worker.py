#!/usr/bin/env python
"""The process of one contender: runs programs when asked to, and sleeps in between.

    python worker.py MODULE VARIANT THREADS

MODULE holds PROGRAMS, a table of `program.py`. Requests and answers are lines of JSON on standard input and
output; `harness.Worker` is the other end.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import traceback
from typing import Any

from program import Program, Unsupported

WARM_UP_CALLS = 3


class Session:
    """The programs of one contender, one at a time."""

    def __init__(self, module: str, variant: str):
        self._module, self._variant = module, variant
        self._program: Program

    def prepare(self, program: str) -> dict[str, Any]:
        """Import what is needed, build the program, call it once; the seconds of each."""
        start = time.perf_counter()
        programs = importlib.import_module(self._module).PROGRAMS
        imported = time.perf_counter()
        imported_mb = self.memory()["peak_mb"]
        if program not in programs:
            raise Unsupported(f"{self._module} has no program {program}")
        self._program = programs[program](self._variant)
        built = time.perf_counter()
        _, value = self._run(1)
        done = time.perf_counter()
        return {
            "import_s": imported - start,
            "build_s": built - imported,
            "first_step_s": done - built,
            "imported_mb": imported_mb,
            "steps_a_call": self._program.steps,
            "value": value,
        }

    def calibrate(self, seconds: float) -> dict[str, Any]:
        """How many calls take about so long, at least one."""
        start, calls = time.perf_counter(), 0
        while calls < WARM_UP_CALLS and time.perf_counter() - start < seconds:
            calls += 1
            self._run(1)
        calls = 1
        while (elapsed := self._run(calls)[0]) < seconds / 10:
            calls *= 2
        return {"calls": max(1, round(calls * seconds / elapsed))}

    def measure(self, calls: int) -> dict[str, Any]:
        """Seconds of one step, out of a block of calls; some before it wake threads and caches.

        A single call that fills a block does without. `cpu_s` is the processor time of all of it, over all
        threads.
        """
        cpu_start = time.process_time()
        if calls > 1:
            self._run(max(1, calls // 10))
        elapsed, value = self._run(calls)
        step_s = elapsed / (calls * self._program.steps)
        return {"step_s": step_s, "value": value, "cpu_s": time.process_time() - cpu_start}

    def values(self, calls: int) -> dict[str, Any]:
        """What each of the next calls returns."""
        return {"values": [self._run(1)[1] for _ in range(calls)]}

    def memory(self) -> dict[str, Any]:
        """The peak of the resident memory in MB; None where the system does not tell."""
        try:
            import resource
        except ImportError:
            return {"peak_mb": None}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"peak_mb": peak / 2**20 if sys.platform == "darwin" else peak / 2**10}

    def facts(self) -> dict[str, Any]:
        """What the program knows of a step."""
        return {} if self._program.facts is None else self._program.facts()

    def drop(self) -> dict[str, Any]:
        """Forget the program and its arrays."""
        del self._program
        gc.collect()
        return {}

    def _run(self, calls: int) -> tuple[float, float]:
        """Seconds for so many calls, and the value of the last one, which is waited for."""
        call, value_of, clock = self._program.call, self._program.value, self._program.clock
        start = time.perf_counter()
        if clock is not None:
            clock.start()
        for _ in range(calls - 1):
            call()
        result = call()
        if clock is not None:
            clock.stop()
        value = value_of(result)
        return time.perf_counter() - start if clock is None else clock.seconds(), value


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
