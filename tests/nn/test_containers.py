"""Modules that hold others: sequences, lists, dicts, and how they print."""

from __future__ import annotations

import copy
from collections import OrderedDict

import pytest
from nn.small_modules import Affine, names

import nbdl
from nbdl import nn


def test_sequential():
    net = nn.Sequential(Affine(3, 4), nn.Identity(), Affine(4, 2))
    assert net(nbdl.ones(1, 3)).tolist() == [[12.0, 12.0]]
    assert len(net) == 3
    assert net[-1] is net[2]
    assert names(net[1:].named_children()) == ["1", "2"]
    net.append(nn.Identity())
    net.insert(0, nn.Identity())
    del net[1]
    assert [type(module).__name__ for module in net] == ["Identity", "Identity", "Affine", "Identity"]
    assert names(net.named_children()) == ["0", "1", "2", "3"]
    net[0] = Affine()
    assert isinstance(net[0], Affine)
    named = nn.Sequential(OrderedDict(a=Affine(), b=nn.Identity()))
    assert named.a is named[0]
    del named[0]
    assert names(named.named_children()) == ["b"]
    assert len(nn.Sequential(Affine()) + nn.Sequential(Affine())) == 2
    one = nn.Sequential(Affine(), nn.Identity())
    assert [*(one * 2)] == [*(2 * one)] == [*one, *one]
    one *= 2
    assert list(one._module_names) == ["0", "1", "2", "3"]
    for factor, error in ((0, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match="Sequential"):
            one * factor
    for index, kind, message in (
        (5, IndexError, "out of range for 4"),
        ("x", TypeError, "integers or slices"),
    ):
        with pytest.raises(kind, match=message):
            net[index]


def test_module_list_and_dict():
    items = nn.ModuleList([Affine(), nn.Identity()])
    items += [nn.Identity()]
    items.extend(module for module in (Affine(),))
    assert len(items) == 4
    assert names(items.named_children()) == ["0", "1", "2", "3"]
    last = items[-1]
    assert items.pop() is last
    assert last not in items
    assert isinstance(items[:2], nn.ModuleList)
    with pytest.raises(TypeError, match="int is not a Module"):
        items.append(3)
    with pytest.raises(TypeError, match="expected an iterable"):
        items.extend(3)
    table = nn.ModuleDict({"a": Affine()})
    table["b"] = nn.Identity()
    table.update([("c", nn.Identity())])
    assert list(table) == list(table.keys()) == ["a", "b", "c"]
    assert "a" in table
    assert dict(table.items())["a"] is table["a"]
    assert table.pop("b") not in table.values()
    del table["c"]
    assert len(table) == 1
    with pytest.raises(KeyError, match="already exists"):
        table["keys"] = Affine()
    with pytest.raises(KeyError, match="missing"):
        table["missing"]
    with pytest.raises(TypeError, match="pair of a name and a value"):
        table.update([3])


def test_parameter_list_and_dict():
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.items = nn.ParameterList([nbdl.ones(2), nn.Parameter(nbdl.zeros(1))])
            self.table = nn.ParameterDict({"w": nbdl.ones(3)})

    holder = Holder()
    holder.items.append(nbdl.ones(4))
    holder.table["b"] = nbdl.zeros(2)
    assert list(holder.state_dict()) == ["items.0", "items.1", "items.2", "table.w", "table.b"]
    assert all(isinstance(parameter, nn.Parameter) for parameter in holder.items)
    holder.items[0] = nbdl.zeros(7)
    assert holder.items[0].shape == (7,)
    assert len(holder.items[1:]) == 2
    assert holder.table.get("none", 5) == 5
    assert holder.table.setdefault("n", nbdl.ones(1)).shape == (1,)
    assert holder.table.pop("w").shape == (3,)
    assert list(holder.table) == ["b", "n"]
    assert holder.table.copy()["b"] is holder.table["b"]
    with pytest.raises(KeyError, match="already exists"):
        holder.table["items"] = nbdl.ones(1)
    with pytest.raises(TypeError, match="not a string"):
        holder.table[3] = nbdl.ones(1)
    with pytest.raises(RuntimeError, match="should not be called"):
        holder.items(1)
    twin = copy.deepcopy(holder)
    assert names(twin.named_parameters()) == names(holder.named_parameters())


def test_repr():
    net = nn.Sequential(nn.Linear(2, 3), nn.ModuleDict({"act": nn.ReLU(inplace=True)}))
    assert repr(net) == (
        "Sequential(\n"
        "  (0): Linear(in_features=2, out_features=3, bias=True)\n"
        "  (1): ModuleDict(\n"
        "    (act): ReLU(inplace=True)\n"
        "  )\n"
        ")"
    )
    assert repr(nn.Sequential()) == "Sequential()"
    assert "(0): Parameter containing: [float32 of size 2]" in repr(nn.ParameterList([nbdl.ones(2)]))


def test_a_list_says_equal_neighbours_once():
    inner = [nn.Sequential(nn.Linear(1, 1)) for _ in range(2)]
    assert repr(nn.ModuleList([*inner, nn.ReLU(), nn.Sequential(nn.Linear(1, 1))])) == (
        "ModuleList(\n"
        "  (0-1): 2 x Sequential(\n"
        "    (0): Linear(in_features=1, out_features=1, bias=True)\n"
        "  )\n"
        "  (2): ReLU()\n"
        "  (3): Sequential(\n"
        "    (0): Linear(in_features=1, out_features=1, bias=True)\n"
        "  )\n"
        ")"
    )
