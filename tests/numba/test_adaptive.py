"""Programs on all threads or on half of them, whichever is faster."""

import numpy as np
import pytest

import nbdl
from nbdl.backend.numba import adaptive, threads
from nbdl.backend.numba.adaptive import AdaptiveRun

QUIET = {False: 1e-3, True: 1.8e-3}  # seconds of a run, on all threads and on half of them
BUSY = {False: 2.2e-3, True: 1.8e-3}
BUSY_WITHOUT_REMEDY = {False: 1.6e-3, True: 1.8e-3}


class Machine:
    """A clock that goes on while a program runs, and the seconds of a run."""

    def __init__(self, seconds):
        self.seconds, self.now, self.half = seconds, 0.0, False
        self.run = AdaptiveRun(self.step, self.set_half, lambda: self.now)

    def step(self):
        self.now += self.seconds[self.half]

    def set_half(self, half):
        self.half = half

    def go_on(self, seconds):
        """Run for so long; the mean seconds of a run."""
        start, count = self.now, 0
        while self.now < start + seconds:
            self.run()
            count += 1
        return (self.now - start) / count


def test_a_quiet_machine_pays_less_than_a_percent():
    machine = Machine(QUIET)
    assert machine.go_on(10) < 1.01 * QUIET[False]
    assert machine.go_on(60) < 1.005 * QUIET[False]


def test_half_of_the_threads_beside_a_neighbour():
    machine = Machine(QUIET)
    machine.go_on(20)
    machine.seconds = BUSY
    machine.go_on(0.1)
    assert machine.half
    assert machine.go_on(20) < 1.01 * BUSY[True]


def test_all_threads_when_the_neighbour_has_left():
    machine = Machine(BUSY)
    machine.go_on(20)
    assert machine.half
    machine.seconds = QUIET
    machine.go_on(1.5)
    assert not machine.half
    assert machine.go_on(60) < 1.01 * QUIET[False]


def test_all_threads_where_half_of_them_are_no_remedy():
    machine = Machine(QUIET)
    machine.go_on(20)
    machine.seconds = BUSY_WITHOUT_REMEDY
    machine.go_on(0.1)
    assert machine.go_on(20) < 1.01 * BUSY_WITHOUT_REMEDY[False]


def test_short_runs_are_left_alone():
    machine = Machine({False: 5e-5, True: 1e-5})
    machine.go_on(1)
    assert not machine.half


def test_the_switch():
    """Off by default; it says whether programs that are made from then on compare."""
    assert not nbdl.backends.numba.adaptive_threads
    before, x = threads.get_num_threads(), nbdl.ones(512, 512)
    kinds = []
    threads.set_num_threads(2)
    try:
        for value in (True, False):
            nbdl.backends.numba.adaptive_threads = value
            with nbdl.use_backend("numba"):
                function = nbdl.compile(lambda x: x @ x)
                function(x)
            (variants,) = function._variants.values()
            kinds.append([type(step) is AdaptiveRun for step in variants[0].replay.steps])
    finally:
        nbdl.backends.numba.adaptive_threads = False
        threads.set_num_threads(before)
    assert kinds == [[True], [False]]


def test_the_switch_takes_true_and_false():
    with pytest.raises(
        TypeError, match=r"nbdl\.backends\.numba\.adaptive_threads: expected True or False, got int"
    ):
        nbdl.backends.numba.adaptive_threads = 1


@pytest.mark.parametrize("count", [2, 3])
def test_results_do_not_depend_on_the_threads(count, monkeypatch):
    """The tasks stay the same, so that every bit does."""
    used = []
    monkeypatch.setattr(adaptive, "_WINDOW_SECONDS", 0.0)
    monkeypatch.setattr(adaptive, "_SHORTEST", 0.0)
    monkeypatch.setattr(adaptive, "_BETTER", 0.0)  # every trial is lost, and the next one goes the other way
    use = AdaptiveRun._use
    monkeypatch.setattr(AdaptiveRun, "_use", lambda self, half: (used.append(half), use(self, half)))
    before = threads.get_num_threads()
    threads.set_num_threads(count)
    nbdl.backends.numba.adaptive_threads = True
    try:
        generator = np.random.default_rng(0)
        x, w = (nbdl.tensor(generator.normal(size=(512, 512)).astype("f4")) for _ in range(2))
        step = nbdl.compile(lambda x, w: ((x @ w).relu().sum(0), (x @ w.T).square().mean()))
        results = [step(x, w) for _ in range(40)]
    finally:
        nbdl.backends.numba.adaptive_threads = False
        threads.set_num_threads(before)
    assert True in used
    for result in results[2:]:
        assert all(a.equal(b) for a, b in zip(result, results[1], strict=True))
