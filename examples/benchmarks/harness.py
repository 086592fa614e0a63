"""Measures contenders side by side: each in a process of its own, in turn, while the others sleep."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import machine
from contenders import Contender, environment

FOLDER = Path(__file__).resolve().parent
CLEAR_ROUNDS, CLEAR_RATIO = 3, 1.3  # after which a comparison may end
SETTLE_SECONDS = 0.05  # OpenBLAS and OpenMP threads spin for a while before they sleep


class WorkerError(Exception):
    """A contender failed."""


class Unsupported(WorkerError):
    """A contender has no such program."""


class Worker:
    """The process of a contender, see `worker.py`; a context manager that ends it.

    Where it ends by itself, since a program crashed, another one takes its place.

    Args:
        contender: whose programs it runs.
        benchmark: "workloads" or "kernels", which programs.
        threads: how many the contender may use.
        verbose: show what the process writes to its standard error.
        more: further environment variables.
    """

    def __init__(
        self, contender: Contender, benchmark: str, threads: int, *, verbose: bool = False, **more: str
    ):
        module = f"{benchmark}_{contender.programs}"
        self._start = functools.partial(
            subprocess.Popen,
            [sys.executable, str(FOLDER / "worker.py"), module, contender.variant, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if verbose else subprocess.DEVNULL,
            text=True,
            env=environment(contender, threads, **more),
        )
        self._process = self._start()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Call a method of `worker.Session` in the process.

        Raises:
            Unsupported: there is no such program.
            WorkerError: the method raised, or the process ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            self._close()
            self._process = self._start()
            raise WorkerError(f"the process ended with code {code}")
        answer = json.loads(line)
        if "unsupported" in answer:
            raise Unsupported(answer["unsupported"])
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._close()

    def _close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:  # it has ended already
            self._process.stdin = None
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def measure(
    workers: Mapping[str, Worker],
    program: str,
    rounds: int,
    block_seconds: float,
    is_enough: Callable[[Mapping[str, Any]], bool] = lambda results: False,
) -> dict[str, Any]:
    """Time a program of several contenders in blocks of calls, interleaved: A B C A B C ...

    Args:
        workers: contender -> its process.
        program: name of the program.
        rounds: blocks of each contender.
        block_seconds: about how long a block takes.
        is_enough: asked after each round, given what is returned so far; true ends the measurement.

    Returns:
        Contender -> the answers of its worker, with the lists `blocks_s` of seconds a step and `others_cores`
        (see `measure_block`); or `error`. Those that have no such program are left out.
    """
    results: dict[str, Any] = {}
    running: dict[str, Worker] = {}
    for name, worker in workers.items():
        try:
            results[name] = worker.ask("prepare", program=program)
            results[name] |= worker.ask("calibrate", seconds=block_seconds)
            results[name] |= {"blocks_s": [], "others_cores": []}
            running[name] = worker
        except Unsupported:
            continue
        except WorkerError as error:
            results[name] = {"error": str(error)}
    for _ in range(rounds):
        for name, worker in list(running.items()):
            time.sleep(min(SETTLE_SECONDS, block_seconds))
            try:
                block = measure_block(worker, results[name]["calls"])
            except WorkerError as error:
                results[name] = {"error": str(error)}
                del running[name]
                continue
            results[name]["blocks_s"].append(block["step_s"])
            results[name]["others_cores"].append(block["others_cores"])
            results[name]["last_value"] = block["value"]
        if is_enough(results):
            break
    return results


def is_clear(results: Mapping[str, Any], own: str, peer: str) -> bool:
    """Whether one of two contenders was faster by far in every round, and there were some."""
    blocks = [results.get(name, {}).get("blocks_s") for name in (own, peer)]
    if None in blocks:
        return False
    ratios = [theirs / ours for ours, theirs in zip(*blocks)]
    return len(ratios) >= CLEAR_ROUNDS and (min(ratios) > CLEAR_RATIO or max(ratios) < 1 / CLEAR_RATIO)


def measure_block(worker: Worker, calls: int) -> dict[str, Any]:
    """One block; `others_cores` is how many cores other processes kept busy meanwhile, None if unknown.

    Raises:
        WorkerError: the contender failed.
    """
    busy, start = machine.busy_seconds(), time.perf_counter()
    block = worker.ask("measure", calls=calls)
    busy_after, seconds = machine.busy_seconds(), time.perf_counter() - start
    if busy is None or busy_after is None:
        return block | {"others_cores": None}
    return block | {"others_cores": (busy_after - busy - block["cpu_s"]) / seconds}
