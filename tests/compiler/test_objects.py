"""Objects that are arguments of a compiled function: models, optimizers, ``self``, settings, functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nbdl
from nbdl import nn


def _model() -> Any:
    nbdl.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 3)).double()


class Trainer:
    """A method that is decorated; what is changed stands in the instance."""

    rate = 1.0

    def __init__(self) -> None:
        self.model = _model()
        self.optimizer = nbdl.optim.SGD(self.model.parameters(), lr=0.01)
        self.scale, self.shift = 2.0, nbdl.ones(3, dtype=nbdl.float64)
        self.settings = {"factor": [3.0]}

    def step(self, x: Any) -> Any:
        self.optimizer.zero_grad()
        out = self.model(x) * self.scale * self.settings["factor"][0] * self.rate + self.shift
        loss = out.square().mean()
        loss.backward()
        self.optimizer.step()
        return loss


def _inner(trainer: Any, x: Any, k: int = 1) -> Any:
    return trainer.model(x) * trainer.scale * k


CHANGES: dict[str, Callable[[Any], None]] = {
    "mode": lambda t: t.model.eval(),
    "rate": lambda t: t.optimizer.param_groups[0].update(lr=0.03),
    "term of the update": lambda t: t.optimizer.param_groups[0].update(momentum=0.5),
    "optimizer": lambda t: setattr(t, "optimizer", nbdl.optim.Adam(t.model.parameters())),
    "number": lambda t: setattr(t, "scale", 5.0),
    "number in a container": lambda t: t.settings["factor"].__setitem__(0, 0.5),
    "number of the class": lambda t: setattr(t, "rate", 0.2),
    "tensor": lambda t: setattr(t, "shift", nbdl.zeros(3, dtype=nbdl.float64)),
    "layer": lambda t: t.model.__setitem__(0, nn.Linear(3, 4).double()),
    "frozen": lambda t: t.model[0].weight.requires_grad_(False),
    "hook": lambda t: t.model[0].register_forward_hook(lambda module, args, out: out * 2) and None,
}


class Decorated(Trainer):
    """The compiled method."""

    step = nbdl.compile(Trainer.step)


FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "method": lambda t, x: t.step(x),
    "argument": nbdl.compile(Trainer.step),
    "by name": lambda t, x: FORMS["argument"](self=t, x=x),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("form", FORMS)
def test_changes_are_noticed(form, change, backend):
    expected, given = [], []
    for values, trainer, step in (
        (expected, Trainer(), Trainer.step),
        (given, Decorated() if form == "method" else Trainer(), FORMS[form]),
    ):
        nbdl.manual_seed(1)
        for k in range(6):
            if k == 3:
                CHANGES[change](trainer)
            x = nbdl.tensor(np.random.default_rng(k).normal(size=(2, 3)))
            values.append(float(step(trainer, x)))
    np.testing.assert_allclose(given, expected, rtol=1e-10)


@pytest.mark.parametrize("change", ["mode", "layer", "tensor", "optimizer"])
def test_parts_that_only_helpers_read(change):
    def helped(trainer, x):
        return Trainer.step(trainer, x)

    results = []
    for function in (helped, nbdl.compile(helped)):
        trainer = Trainer()
        nbdl.manual_seed(1)
        for k in range(6):
            if k == 3:
                CHANGES[change](trainer)
            function(trainer, nbdl.full((2, 3), 0.1 * k, dtype=nbdl.float64))
        results.append(nbdl.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    assert results[1].allclose(results[0])


def test_two_instances_have_programs_of_their_own():
    compiled = nbdl.compile(_inner)
    one, other = Trainer(), Trainer()
    other.scale = 7.0
    one.model.eval()
    other.model.eval()
    x = nbdl.ones(2, 3, dtype=nbdl.float64)
    for _ in range(2):
        for trainer in (one, other):
            for k in (1, 2):
                assert compiled(trainer, x, k=k).allclose(_inner(trainer, x, k))
    one.scale = 11.0
    assert compiled(one, x).allclose(_inner(one, x))


def test_what_functions_among_the_arguments_read():
    factor = [2.0]

    def twice(x):
        return x * factor[0]

    compiled = nbdl.compile(lambda function, x: function(x))
    x = nbdl.ones(3)
    for value in (2.0, 2.0, 5.0):
        factor[0] = value
        assert compiled(twice, x).tolist() == [value] * 3


def test_schedules_that_are_read():
    weight = nbdl.ones(2, requires_grad=True)
    optimizer = nbdl.optim.SGD([weight], lr=1.0)
    schedule = nbdl.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    compiled = nbdl.compile(lambda x: x * schedule.get_last_lr()[0])
    for k in range(5):
        assert compiled(nbdl.ones(1)).item() == 0.5 ** (k // 2)
        optimizer.step()
        schedule.step()


def test_inherited_numbers_of_classes():
    class Base:
        factor = 2.0

    class Derived(Base):
        pass

    compiled = nbdl.compile(lambda x: x * Derived.factor)
    x = nbdl.ones(2)
    assert compiled(x).tolist() == [2.0, 2.0]
    Base.factor = 3.0
    assert compiled(x).tolist() == [3.0, 3.0]


def test_plain_values_among_the_arguments():
    compiled = nbdl.compile(lambda x, dtype, places: x.to(dtype)[places])
    x = nbdl.arange(4)
    for dtype in (nbdl.float32, nbdl.float64):
        for places in (slice(0, 2), slice(None, None, 2), ...):
            for _ in range(2):
                assert compiled(x, dtype, places).equal(x.to(dtype)[places])
