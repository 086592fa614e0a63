"""What compiled functions use from outside: settings, counters, seeds, variables that they assign."""

from __future__ import annotations

import types
from dataclasses import dataclass

import numpy as np
import pytest

import nbdl


class Options:
    """Settings as attributes of a class and of instances, as properties, as methods."""

    gain = 2.0

    def __init__(self):
        self.offset = 2.0

    @property
    def doubled(self):
        return 2 * self.offset

    def tripled(self):
        return 3 * self.offset


@dataclass
class Slots:
    __slots__ = ("gain",)
    gain: float


class Scaled(nbdl.nn.Module):
    """Reads settings that are no settings of a module."""

    gain = 2.0

    def __init__(self):
        super().__init__()
        self.nested = {"outer": {"inner": 2.0}, "list": [1.0, [2.0]]}
        self.options = Options()

    def forward(self, x):
        factor = self.gain * self.nested["outer"]["inner"] * self.nested["list"][1][0]
        return x * factor * self.options.offset


def settings():
    """Name -> a function of a tensor, and what changes a setting that it reads."""
    options, slots, nested, chosen = Options(), Slots(2.0), {"a": {"b": 2.0}}, {1.0}
    space, scaled = types.SimpleNamespace(inner=types.SimpleNamespace(gain=2.0)), Scaled()
    kind = type("Kind", (Options,), {})
    of_kind = kind()

    def helper(x):
        return x * slots.gain

    return {
        "slot": (lambda x: x * slots.gain, lambda: setattr(slots, "gain", 3.0)),
        "through a function": (lambda x: helper(x), lambda: setattr(slots, "gain", 3.0)),
        "class attribute": (lambda x: x * of_kind.gain, lambda: setattr(kind, "gain", 3.0)),
        "property": (lambda x: x * options.doubled, lambda: setattr(options, "offset", 3.0)),
        "method": (lambda x: x * options.tripled(), lambda: setattr(options, "offset", 3.0)),
        "nested containers": (lambda x: x * nested["a"]["b"], lambda: nested["a"].update(b=3.0)),
        "nested attributes": (lambda x: x * space.inner.gain, lambda: setattr(space.inner, "gain", 3.0)),
        "set": (lambda x: x * sum(chosen), lambda: chosen.add(2.0)),
        "module": (scaled, lambda: setattr(scaled, "gain", 3.0)),
        "class of a module": (scaled, lambda: setattr(Scaled, "gain", 5.0)),
        "containers in a module": (scaled, lambda: scaled.nested["list"][1].__setitem__(0, 3.0)),
        "object in a module": (scaled, lambda: setattr(scaled.options, "offset", 3.0)),
        "module below": (nbdl.nn.Sequential(scaled), lambda: scaled.nested["outer"].update(inner=3.0)),
    }


@pytest.mark.parametrize("name", settings())
def test_a_changed_setting_makes_another_program(name, monkeypatch):
    monkeypatch.setattr(Scaled, "gain", 2.0)  # to be restored
    function, change = settings()[name]
    compiled, x = nbdl.compile(function), nbdl.ones(2)
    before = [compiled(x).tolist() for _ in range(2)]
    change()
    after = [compiled(x).tolist() for _ in range(2)]
    assert before[0] == before[1] != after[0] == after[1] == function(x).tolist()


def chain():
    nbdl.manual_seed(0)
    return nbdl.nn.Sequential(nbdl.nn.Linear(2, 2), nbdl.nn.Sigmoid())


class Listed(nbdl.nn.Module):
    """Layers and parameters in lists and dicts."""

    def __init__(self):
        super().__init__()
        self.layers = nbdl.nn.ModuleList([nbdl.nn.Linear(2, 2)])
        self.factors = nbdl.nn.ParameterList([nbdl.ones(2)])
        self.named = nbdl.nn.ParameterDict({"a": nbdl.ones(2)})

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        for factor in (*self.factors, *self.named.values()):
            x = x * factor
        return x


def doubled(module, args, output=None):
    return 2 * args[0] if output is None else 2 * output


TWOS = nbdl.full((2,), 2.0)
CHANGES = {
    "append": (chain, lambda m: m.append(nbdl.nn.Tanh())),
    "insert": (chain, lambda m: m.insert(0, nbdl.nn.Tanh())),
    "pop": (chain, lambda m: m.pop(1)),
    "replace": (chain, lambda m: m.__setitem__(1, nbdl.nn.Tanh())),
    "add_module": (chain, lambda m: m.add_module("last", nbdl.nn.Tanh())),
    "forward": (chain, lambda m: setattr(m[0], "forward", lambda x: 3 * x)),
    "forward hook": (chain, lambda m: m[0].register_forward_hook(doubled)),
    "forward pre-hook": (chain, lambda m: m[0].register_forward_pre_hook(doubled)),
    "data": (chain, lambda m: setattr(m[0].weight, "data", nbdl.zeros(2, 2))),
    "half and back": (chain, lambda m: m.half().float()),
    "assigned state": (
        chain,
        lambda m: m.load_state_dict({k: 2 * v for k, v in m.state_dict().items()}, assign=True),
    ),
    "loaded state": (chain, lambda m: m.load_state_dict({k: 2 * v for k, v in m.state_dict().items()})),
    "vector": (chain, lambda m: nbdl.nn.utils.vector_to_parameters(nbdl.full((6,), 0.5), m.parameters())),
    "parametrization": (chain, lambda m: nbdl.nn.utils.parametrizations.spectral_norm(m.eval()[0])),
    "register_parameter": (chain, lambda m: m[0].register_parameter("bias", None)),
    "register_buffer": (
        lambda: nbdl.nn.BatchNorm1d(2).eval(),
        lambda m: m.register_buffer("running_mean", 2 * nbdl.ones(2)),
    ),
    "list of layers": (Listed, lambda m: m.layers.append(nbdl.nn.Linear(2, 2))),
    "list of parameters": (Listed, lambda m: m.factors.append(TWOS.clone())),
    "entry of a list": (Listed, lambda m: m.factors.__setitem__(0, nbdl.nn.Parameter(TWOS.clone()))),
    "dict of parameters": (Listed, lambda m: m.named.update({"b": TWOS.clone()})),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_module_makes_another_program(name):
    make, change = CHANGES[name]
    module, x = make(), nbdl.tensor([[0.5, -1.0], [2.0, 1.0]])
    held, compiled = [module], nbdl.compile(module)
    through_list = nbdl.compile(lambda x: held[0](x))
    before = [compiled(x).tolist() for _ in range(2)]
    through_list(x)
    change(module)
    after = [compiled(x), compiled(x), through_list(x), through_list(x)]
    for result in after:
        np.testing.assert_allclose(result.tolist(), module(x).tolist(), rtol=1e-5)
    assert before[0] == before[1]
    assert after[0].tolist() != before[0] or name == "half and back"


def test_a_removed_hook_is_noticed():
    module, x = chain(), nbdl.ones(1, 2)
    plain = module(x).tolist()
    handle = module[0].register_forward_hook(doubled)
    compiled = nbdl.compile(module)
    assert compiled(x).tolist() == compiled(x).tolist() != plain
    handle.remove()
    assert compiled(x).tolist() == compiled(x).tolist() == plain


def test_hooks_of_tensors_are_noticed():
    weight = nbdl.ones(2, requires_grad=True)

    @nbdl.compile
    def gradient(x):
        weight.grad = None
        (weight * x).sum().backward()
        return weight.grad.clone()

    x = nbdl.full((2,), 3.0)
    assert [gradient(x).tolist() for _ in range(2)] == [[3, 3]] * 2
    handle = weight.register_hook(lambda gradient: 2 * gradient)
    assert [gradient(x).tolist() for _ in range(2)] == [[6, 6]] * 2
    handle.remove()
    assert [gradient(x).tolist() for _ in range(2)] == [[3, 3]] * 2


def test_modules_added_later_are_looked_at():
    outer, inner = nbdl.nn.Sequential(nbdl.nn.ReLU()), Scaled()
    compiled, x = nbdl.compile(outer), nbdl.ones(2)
    compiled(x)
    outer.append(inner)
    for offset in (2.0, 3.0):
        inner.options.offset = offset
        assert [compiled(x).tolist() for _ in range(2)] == [outer(x).tolist()] * 2


def counters():
    """Name -> a function that counts its calls, and what gives the count."""
    calls, log, table, owner = 0, [], {"calls": 0}, types.SimpleNamespace(calls=0, log=[])

    def variable(x):
        nonlocal calls
        calls += 1
        return x * 2

    def appended(x):
        log.append(1)
        owner.log.append(1)
        return x * 2

    def entry(x):
        table["calls"] += 1
        return x * 2

    def attribute(x):
        owner.calls += 1
        return x * 2

    return {
        "variable": (variable, lambda: calls),
        "list": (appended, lambda: len(log)),
        "entry": (entry, lambda: table["calls"]),
        "attribute": (attribute, lambda: owner.calls),
    }


@pytest.mark.parametrize("name", counters())
def test_counters_of_calls_count_recordings(name):
    function, count = counters()[name]
    compiled = nbdl.compile(function)
    for shape in (2, 3, 2, 3, 2):
        assert compiled(nbdl.ones(shape)).tolist() == [2] * shape
    assert count() == 2  # one for each shape


def assigning():
    """Name -> a function whose result depends on something that it assigns itself."""
    number, cell, weight, outputs = 0, [0], nbdl.ones(2, requires_grad=True), []
    owner = types.SimpleNamespace(number=0)

    def rate(x):
        nonlocal number
        number += 1
        return x / number

    def entry(x):
        cell[0] += 1
        return x * cell[0]

    def attribute(x):
        owner.number += 1
        return x * owner.number

    def parameter(x):
        nonlocal weight
        (gradient,) = nbdl.autograd.grad((weight * x).sum(), weight)
        weight = (weight - 0.1 * gradient).detach().requires_grad_()
        return weight

    def output(x):
        outputs[:] = [x * 2]
        return outputs[0]

    return {
        "number": rate,
        "cell[0]": entry,
        "owner.number": attribute,
        "weight": parameter,
        "outputs": output,
    }


@pytest.mark.parametrize("name", assigning())
def test_variables_that_the_function_assigns_are_refused(name):
    compiled = nbdl.compile(assigning()[name])
    compiled(nbdl.ones(2))
    with pytest.raises(
        nbdl.compiler.RecordingError, match=rf"gives .*{name.partition('[')[0]} another value"
    ):
        compiled(nbdl.ones(2))


def test_what_the_first_call_makes_once_is_kept():
    made = {}

    def function(x):
        if "factor" not in made:
            made["factor"] = nbdl.full((2,), 3.0)
        return x * made["factor"]

    compiled = nbdl.compile(function)
    assert [compiled(nbdl.full((2,), k)).tolist() for k in (1.0, 2.0, 3.0)] == [[3, 3], [6, 6], [9, 9]]


@pytest.mark.parametrize(
    "read",
    [
        nbdl.bincount,
        nbdl.one_hot,
        lambda x: x.apply_(lambda value: value + 1),
        lambda x: x.map_(x, lambda a, b: a + b),
        lambda x: nbdl.seed(),
        lambda x: nbdl.initial_seed(),
    ],
)
def test_reading_is_refused(read):
    with pytest.raises(nbdl.compiler.RecordingError, match="was used at"):
        nbdl.compile(read)(nbdl.tensor([1, 2]))
