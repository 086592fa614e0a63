"""Arguments and results in data classes, named tuples and dicts of all kinds."""

from __future__ import annotations

import collections
import copy
import types
from dataclasses import dataclass
from typing import Any

import pytest

import nbdl

FACTOR = {"value": 1.0}


@dataclass
class Batch:
    x: Any
    k: float = 1.0

    def scaled(self):
        return self.x * self.k * FACTOR["value"]


@dataclass(frozen=True)
class Frozen:
    x: Any
    k: float


@dataclass
class Slots:
    __slots__ = ("k", "x")
    x: Any
    k: float


class Attrs:
    """What the package attrs makes of a class, as far as it matters here."""

    __attrs_attrs__ = ()

    def __init__(self, x, k):
        self.x, self.k = x, k

    def __eq__(self, other):
        return self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]


class Attributes(dict):
    """A dict whose keys are attributes, too."""

    __getattr__ = dict.__getitem__


Named = collections.namedtuple("Named", "x k")
RECORDS = {
    "data class": Batch,
    "frozen": Frozen,
    "slots": Slots,
    "attrs": Attrs,
    "namespace": lambda x, k: types.SimpleNamespace(x=x, k=k),
    "named tuple": Named,
    "attributes": lambda x, k: Attributes(x=x, k=k),
}
MAPPINGS = {
    "OrderedDict": collections.OrderedDict,
    "defaultdict": lambda entries: collections.defaultdict(list, entries),
    "UserDict": collections.UserDict,
    "ChainMap": collections.ChainMap,
    "Attributes": Attributes,
}
VALUES = (1.0, 1.0, 2.0, 2.0, 1.0)


def same(given, expected):
    assert type(given) is type(expected)
    for name in ("x", "k"):
        read = (lambda nest, name=name: nest[name]) if isinstance(expected, collections.abc.Mapping) else None
        a, b = (read(nest) if read else getattr(nest, name) for nest in (given, expected))
        assert a.equal(b) if name == "x" else a == b


@pytest.mark.parametrize("kind", RECORDS)
def test_records(kind, backend):
    make, recorded = RECORDS[kind], []

    def function(batch):
        recorded.append(1)
        return make(batch.x * batch.k, batch.k), batch

    compiled = nbdl.compile(function)
    for i, k in enumerate(VALUES):
        batch = make(nbdl.full((3,), float(i)), k)
        made, given = compiled(batch)
        same(made, make(batch.x * k, k))
        same(given, batch)
    assert len(recorded) == 2


@pytest.mark.parametrize("kind", MAPPINGS)
def test_mappings(kind, backend):
    make = MAPPINGS[kind]
    compiled = nbdl.compile(lambda d: make({"x": d["x"] * d["k"], "k": d["k"]}))
    for i, k in enumerate(VALUES):
        d = make({"x": nbdl.full((3,), float(i)), "k": k})
        made = compiled(d)
        same(made, make({"x": d["x"] * k, "k": k}))
        assert not isinstance(d, collections.defaultdict) or made.default_factory is d.default_factory


def test_deques():
    compiled = nbdl.compile(lambda q: collections.deque([sum(q), *q], q.maxlen))
    for k in (1.0, 2.0, 3.0):
        made = compiled(collections.deque([nbdl.full((2,), k), nbdl.ones(2)], 2))
        assert [x.tolist() for x in made] == [[k, k], [1, 1]] and made.maxlen == 2


def test_records_whose_methods_read_settings(monkeypatch):
    compiled = nbdl.compile(lambda batch: batch.scaled())
    for k in (1.0, 1.0, 2.0, 2.0):
        monkeypatch.setitem(FACTOR, "value", k)
        assert compiled(Batch(nbdl.ones(2))).tolist() == [k, k]


def test_gradients_flow_through_records():
    compiled = nbdl.compile(lambda batch: Batch(batch.x.square() * batch.k, 0.0))
    for k in (1.0, 2.0, 2.0):
        x = nbdl.ones(2, requires_grad=True)
        compiled(Batch(x * 3, k)).x.sum().backward()
        assert x.grad.tolist() == [18 * k] * 2


def test_changed_records_are_refused():
    def function(batch):
        batch.x = batch.x * 2
        return batch.x

    with pytest.raises(nbdl.compiler.RecordingError, match="changes a list, dict or data class"):
        nbdl.compile(function)(Batch(nbdl.ones(2)))


@pytest.mark.parametrize("value", [iter([1]), map(abs, [1]), zip([1])])
def test_what_can_be_read_once_is_refused(value):
    with pytest.raises(TypeError, match=r"can be read only once.*pass a list"):
        nbdl.compile(lambda x, values: x * sum(values))(nbdl.ones(1), value)


def test_generators_as_arguments():
    model = nbdl.nn.Linear(2, 2)
    compiled, recorded = nbdl.compile(lambda tensors: recorded.append(1) or sum(x.sum() for x in tensors)), []
    for k in range(4):
        nbdl.nn.init.constant_(model.weight, k)
        nbdl.nn.init.constant_(model.bias, k)
        assert compiled(model.parameters()).item() == 6 * k
    assert len(recorded) == 1


@pytest.mark.parametrize("value", [{1, 2}, bytearray(b"a"), types.MappingProxyType({})])
def test_what_cannot_be_compared_is_refused(value):
    with pytest.raises(TypeError, match=rf"type {type(value).__name__} is neither a tensor nor hashable"):
        nbdl.compile(lambda x, _: x)(nbdl.ones(1), value)


def test_generators_are_no_results():
    def function(x):
        yield x * 2

    with pytest.raises(nbdl.compiler.RecordingError, match="returns a generator"):
        nbdl.compile(function)(nbdl.ones(1))


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_learning_rates_that_are_tensors(name, backend):
    results = []
    for transform in (nbdl.compile, copy.copy):
        weight, rate = nbdl.zeros(2, requires_grad=True), nbdl.tensor(0.1)
        optimizer = getattr(nbdl.optim, name)([weight], lr=rate)

        def step(x, k, optimizer=optimizer, weight=weight, rate=rate):
            if k is not None:
                rate.copy_(k)
            optimizer.zero_grad()
            ((weight - x) ** 2).sum().backward()
            optimizer.step()
            return weight.sum()

        run, values = transform(step), []
        for k in range(8):
            if k == 5:
                optimizer.param_groups[0]["lr"] = nbdl.tensor(0.05)
            elif k % 2:
                rate.fill_(0.01 * k)
            values.append(run(nbdl.ones(2), nbdl.tensor(0.02 * k) if k < 3 else None).item())
        results.append(values)
    assert results[0] == pytest.approx(results[1], rel=1e-5)
