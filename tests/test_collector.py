"""Python's garbage collector: modules load without it, first recordings leave old objects."""

import gc
import weakref
from contextlib import contextmanager

import pytest

import nbdl
from nbdl.backend.collector import collector_paused, loading


class Thing:
    pass


@pytest.fixture(autouse=True)
def enabled():
    was_enabled = gc.isenabled()
    gc.enable()
    yield
    (gc.enable if was_enabled else gc.disable)()


@contextmanager
def collections():
    """The generations that were collected."""
    found = []

    def note(phase, info):
        if phase == "start":
            found.append(info["generation"])

    gc.callbacks.append(note)
    try:
        yield found
    finally:
        gc.callbacks.remove(note)


@pytest.mark.parametrize("pause", [collector_paused, loading])
def test_nothing_is_collected_inside(pause):
    with collections() as found, pause():
        kept = [[] for _ in range(10_000)]
        assert len(kept) == 10_000
        assert not found
    assert gc.isenabled()


@pytest.mark.parametrize("pause", [collector_paused, loading])
def test_the_setting_returns_after_an_error_and_where_it_was_off(pause):
    with pytest.raises(KeyError), pause():
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    with pause():
        pass
    assert not gc.isenabled()


def test_what_is_loaded_is_old_and_can_still_be_collected():
    with loading():
        thing = Thing()
    assert any(thing is old for old in gc.get_objects(generation=2))
    thing.itself, gone = thing, weakref.ref(thing)
    del thing
    gc.collect(1)
    assert gone() is not None
    gc.collect()
    assert gone() is None


def test_frozen_objects_stay_frozen():
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with loading():
            pass
        assert gc.get_freeze_count() == frozen > 0
    finally:
        gc.unfreeze()


def test_the_first_step_of_an_optimizer_walks_no_old_objects():
    parameter = nbdl.ones(3).requires_grad_()
    optimizer = nbdl.optim.Adam([parameter])

    @nbdl.compile
    def step(x):
        optimizer.zero_grad()
        loss = (parameter * x).sum()
        loss.backward()
        optimizer.step()
        return loss

    x = nbdl.ones(3)
    gc.disable()  # what is found now was asked for
    with collections() as found:
        for _ in range(3):
            step(x)
    assert 2 not in found
    assert len(step._variants) == 1


def test_tensors_in_old_cycles_are_no_tensors_that_the_function_keeps():
    @nbdl.compile
    def function(x):
        thing = Thing()
        thing.itself, thing.tensor = thing, x * 2
        with loading():  # the cycle is old now
            pass
        return x + 1

    for _ in range(3):
        assert function(nbdl.ones(2)).tolist() == [2, 2]
    assert len(function._variants) == 1
