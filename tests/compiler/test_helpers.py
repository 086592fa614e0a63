"""Settings in objects that only helper functions read, by whatever way they get at them."""

from __future__ import annotations

import argparse
import functools
import operator
import sys
import types
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pytest

import nbdl


@dataclass(eq=False)
class Config:
    """Settings as a data class with all kinds of members."""

    a: float = 2.0
    below: Any = None
    factor = 1.0
    entries: list[float] = field(default_factory=lambda: [2.0])

    @property
    def twice(self):
        return 2 * self.a

    @staticmethod
    def scaled(x):
        return x * Shared.a

    @classmethod
    def of_class(cls, x):
        return x * cls.factor


class Shared:
    """A class that is a place for settings."""

    a = 2.0


class Slots:
    __slots__ = ("a",)

    def __init__(self):
        self.a = 2.0


class Hidden:
    """Looks its attributes up."""

    def __init__(self):
        self.__dict__["values"] = {"a": 2.0}

    def __getattr__(self, name):
        return self.values[name]


class Layer:
    """An object that is called, and made inside of the function."""

    def __init__(self, a):
        self.a = a

    def __call__(self, x):
        return x * self.a

    def shared(self, x):
        return x * Shared.a


class Net(nbdl.nn.Module):
    """A module with objects."""

    def __init__(self, config):
        super().__init__()
        self.config, self.configs = config, [config]

    def forward(self, x):
        return times(x, self.config) * times(x, self.configs[0])


def times(x, config):
    return x * config.a


def below(x, config):
    return times(x, config.below)


def through_a_variable(x, config):
    same = config
    return x * same.a


def importing(x, config):
    from nbdl_test_settings import a

    return x * a


MODULE = types.ModuleType("nbdl_test_settings")


def of(make, use):
    """An object with an attribute ``a``, and what a function makes of it."""

    def case():
        config = make()
        return (lambda x: use(x, config)), functools.partial(setattr, config, "a")

    return case


def replaced():
    config = Config(below=Config())
    return (lambda x: below(x, config)), lambda value: setattr(config, "below", Config(value))


def replaced_and_changed():
    config = Config(below=Config())

    def change(value):
        config.below = Config()
        config.below.a = value

    return (lambda x: below(x, config)), change


def grown():
    configs = [Config(), Config()]
    return (lambda x: sum(times(x, config) for config in configs)), lambda v: configs.append(Config(v))


def in_container(container):
    def case():
        config = Config()
        values = container(config)

        def function(x):
            return sum(times(x, each) for each in (values.values() if isinstance(values, dict) else values))

        return function, functools.partial(setattr, config, "a")

    return case


def in_nested_containers():
    values = ([2.0],)
    return (lambda x: x * values[0][0]), functools.partial(operator.setitem, values[0], 0)


def entry(container):
    return lambda: (lambda x: x * float(container[0]), functools.partial(operator.setitem, container, 0))


def in_module():
    config = Config()
    return Net(config), functools.partial(setattr, config, "a")


CASES = {
    "data class": of(Config, times),
    "namespace": of(lambda: types.SimpleNamespace(a=2.0), times),
    "argparse": of(lambda: argparse.Namespace(a=2.0), times),
    "slots": of(Slots, times),
    "class": of(lambda: Shared, times),
    "module": of(lambda: MODULE, times),
    "import": of(lambda: MODULE, importing),
    "property": of(Config, lambda x, c: (lambda config: x * config.twice)(c)),
    "variable": of(Config, through_a_variable),
    "partial": of(Config, lambda x, c: functools.partial(times, config=c)(x)),
    "called": of(lambda: Layer(2.0), lambda x, c: c(x)),
    "made inside": of(lambda: Shared, lambda x, c: Layer(1.0).shared(x)),
    "static method": of(lambda: Shared, lambda x, c: Config().scaled(x)),
    "getattr": of(Config, lambda x, c: x * getattr(c, "a")),  # noqa: B009
    "getattr by any name": of(Config, lambda x, c: x * getattr(c, chr(97))),
    "getattr with a default": of(types.SimpleNamespace, lambda x, c: x * getattr(c, "a", 7.0)),
    "hasattr": of(types.SimpleNamespace, lambda x, c: x * (c.a if hasattr(c, "a") else 7.0)),
    "attrgetter": of(Config, lambda x, c: x * operator.attrgetter("a")(c)),
    "vars": of(Config, lambda x, c: x * vars(c)["a"]),
    "asdict": of(Config, lambda x, c: x * asdict(c)["a"]),
    "__getattr__": lambda: (
        lambda h: (lambda x: times(x, h), functools.partial(operator.setitem, h.values, "a"))
    )(Hidden()),
    "replaced": replaced,
    "replaced and changed": replaced_and_changed,
    "grown list": grown,
    "in a list": in_container(lambda c: [c, Config()]),
    "in a dict": in_container(lambda c: {"a": c}),
    "in nested tuples": in_container(lambda c: (c,)),
    "in a module": in_module,
    "list in a tuple": in_nested_containers,
    "array": entry(np.ones(2)),
    "deque": entry(deque([2.0])),
    "long list": entry([2.0] * 100),
}


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    monkeypatch.setattr(Shared, "a", 2.0)  # to be restored
    monkeypatch.setitem(sys.modules, MODULE.__name__, MODULE)
    MODULE.a = 2.0


@pytest.mark.parametrize("case", CASES)
def test_changes_are_noticed(case):
    function, change = CASES[case]()
    compiled, x = nbdl.compile(function), nbdl.ones(2)
    for value in (None, None, 3.0, 3.0, 5.0, 5.0, 3.0):
        if value is not None:
            change(value)
        assert compiled(x).tolist() == function(x).tolist()


def test_what_no_code_reads_makes_no_program():
    config, recorded = Config(), []

    def function(x):
        recorded.append(1)
        return times(x, config)

    compiled = nbdl.compile(function)
    for epoch in range(4):
        config.epoch = config.factor = epoch
        compiled(nbdl.ones(2))
    assert len(recorded) == 1


def test_arrays_that_are_arrays_in_the_program_are_read_there():
    array, recorded = np.ones(2), []
    compiled = nbdl.compile(lambda x: recorded.append(1) or x * nbdl.tensor(array))
    for value in (1.0, 2.0, 3.0):
        array[:] = value
        assert compiled(nbdl.ones(2, dtype=nbdl.float64)).tolist() == [value] * 2
    assert len(recorded) == 1


HOOKS = {
    "forward": lambda layer, hook: layer.register_forward_hook(lambda module, args, out: hook(out)),
    "before": lambda layer, hook: layer.register_forward_pre_hook(lambda module, args: (hook(args[0]),)),
    "parameter": lambda layer, hook: layer.weight.register_hook(hook),
    "accumulated": lambda layer, hook: layer.weight.register_post_accumulate_grad_hook(
        lambda weight: weight.grad.copy_(hook(weight.grad))
    ),
    "forward of an instance": lambda layer, hook: setattr(layer, "forward", hook),
}


@pytest.mark.parametrize("kind", HOOKS)
def test_settings_that_hooks_read(kind, backend):
    results = []
    for transform in (lambda function: function, nbdl.compile):
        nbdl.manual_seed(0)
        layer, scale = nbdl.nn.Linear(3, 3), [2.0]

        def step(x, layer=layer):
            layer.zero_grad()
            out = layer(x)
            (out.square().sum() + 0 * layer.weight.sum() + 0 * layer.bias.sum()).backward()
            return out.detach(), layer.weight.grad.clone()

        run, values = transform(step), []
        for k in range(6):
            if k == 2:
                HOOKS[kind](layer, lambda x, scale=scale: x * scale[0])
            if k == 4:
                scale[0] = 3.0
            values += run(nbdl.full((2, 3), 0.1 * k + 0.1, requires_grad=True))
        results.append(values)
    nbdl.testing.assert_close(results[1], results[0])
