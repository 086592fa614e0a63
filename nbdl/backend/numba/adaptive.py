"""How many threads a program is worth: all of them, or half, whichever took less time lately.

Where another process keeps a core busy, a thread waits for its turn there, and all others wait for it at the
end of every parallel region. A program on half of the threads, each with twice the tasks, takes at most twice
as long as on a quiet machine, and often less than one that waits. What it computes does not depend on it: the
tasks stay the same.

Nobody tells a process how busy the cores are, so the two ways are compared by the clock. Runs are timed in
windows. When a window took clearly longer than the ones before, or none was compared for some time, the next
window goes the other way, and the faster way goes on. Comparisons that change nothing become rarer, up to the
limits below, at which they would cost less than 1 % of the time if runs of a kind always took as long.

The setting is `nbdl.backends.numba.adaptive_threads`; it is off by default, since disturbances at every start
of work, as between the blocks of a benchmark, lead to comparisons that cost more than they gain.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

__all__ = ["AdaptiveRun"]

_WINDOW_SECONDS = 0.02  # some turns of the system's scheduler
_WINDOW_RUNS = 2
_SHORTEST = 1e-4  # seconds of a run below which its regions do not matter beside the clock
_SLOWER = 1.3  # that is no noise
_BETTER = 0.95  # that is worth a change
# Windows between two comparisons: at first, and at most on all threads and on half of them.
_FIRST_PAUSE = 4
_LONGEST_PAUSE = {False: 250, True: 25}
_LONGEST_PATIENCE = 32  # the same for windows that took longer: first one, then more if it comes to nothing


class AdaptiveRun:
    """A function that is called many times, on all threads or on half of them.

    Args:
        run: the function.
        set_half: called with True before half of the threads are to be used, with False before all are.
        clock: gives the time in seconds.
    """

    __slots__ = (
        "_before", "_clock", "_half", "_is_short", "_is_slow", "_is_trial", "_patience", "_pause", "_run",
        "_runs", "_seconds", "_set_half", "_usual", "_waited",
    )  # fmt: skip

    def __init__(
        self,
        run: Callable[..., Any],
        set_half: Callable[[bool], None],
        clock: Callable[[], float] = perf_counter,
    ):
        self._run, self._set_half, self._clock = run, set_half, clock
        self._half = self._is_short = self._is_slow = self._is_trial = False
        self._runs, self._seconds = 0, 0.0
        self._usual = self._before = float("inf")  # seconds of a run: lately at best, in the last window
        self._pause, self._patience, self._waited = _FIRST_PAUSE, 1, 0  # in windows

    def __call__(self, *arrays: Any) -> None:
        """Run, and note the time."""
        if self._is_short:
            self._run(*arrays)
            return
        start = self._clock()
        self._run(*arrays)
        runs, seconds = self._runs + 1, self._seconds + self._clock() - start
        if seconds < _WINDOW_SECONDS or runs < _WINDOW_RUNS:
            self._runs, self._seconds = runs, seconds
            return
        self._runs, self._seconds = 0, 0.0
        self._end_window(seconds / runs)

    def _end_window(self, seconds: float) -> None:
        """Decide how to go on after a window whose runs took so long each."""
        if seconds < _SHORTEST:
            self._is_short = True
            self._is_trial = False
            self._use(half=False)
        elif self._is_trial:
            self._end_trial(seconds)
        else:
            self._waited += 1
            self._is_slow = seconds > _SLOWER * self._usual
            self._before, self._usual = seconds, min(seconds, self._usual)
            if self._waited >= (self._patience if self._is_slow else self._pause):
                self._is_trial = True
                self._use(not self._half)

    def _end_trial(self, seconds: float) -> None:
        """Go on with the faster way."""
        self._is_trial, self._waited = False, 0
        if seconds < _BETTER * self._before:
            self._usual, self._pause, self._patience = seconds, _FIRST_PAUSE, 1
            return
        self._usual = self._before
        self._use(not self._half)
        if self._is_slow:
            self._patience = min(2 * self._patience, _LONGEST_PATIENCE)
        else:
            self._pause, self._patience = min(2 * self._pause, _LONGEST_PAUSE[self._half]), 1

    def _use(self, half: bool) -> None:
        self._half = half
        self._set_half(half)
