"""Seeds and states of generators in programs."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl


def seeded():
    """Name -> what makes a function that seeds, or continues a stream."""

    def fixed():
        def function(x):
            nbdl.manual_seed(0)
            return x + nbdl.rand(3)

        return function

    def own():
        generator = nbdl.Generator()

        def function(x):
            generator.manual_seed(5)
            return x + nbdl.rand(3, generator=generator)

        return function

    def state():
        kept = nbdl.get_rng_state()

        def function(x):
            nbdl.set_rng_state(kept)
            return x + nbdl.rand(3)

        return function

    def forked():
        def function(x):
            with nbdl.random.fork_rng():
                inner = nbdl.rand(3)
            return x + inner + 10 * nbdl.rand(3)

        return function

    return {"manual_seed": fixed, "generator": own, "set_rng_state": state, "fork_rng": forked}


@pytest.mark.parametrize("name", seeded())
def test_seeds_and_states_are_set_by_every_replay(name, backend):
    results = []
    for wrap in (nbdl.compile, lambda function: function):
        nbdl.manual_seed(1)
        function = wrap(seeded()[name]())
        results.append([function(nbdl.ones(3)).tolist() for _ in range(4)] + [nbdl.rand(2).tolist()])
    for compiled, eager in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, eager, rtol=1e-6)


@pytest.mark.parametrize("seed", [None, 0])
def test_a_generator_that_is_made_by_a_recording_goes_on(seed, monkeypatch):
    monkeypatch.setattr(nbdl.random, "_defaults", {})  # the first draw makes it
    monkeypatch.setattr(nbdl.random, "_seed", seed)
    function = nbdl.compile(lambda x: x * nbdl.rand(2))
    assert len({tuple(function(nbdl.ones(2)).tolist()) for _ in range(4)}) == 4
