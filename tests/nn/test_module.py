"""Modules: registration, traversal, modes, conversions."""

from __future__ import annotations

import numpy as np
import pytest
from nn.small_modules import Affine, Net, names

import nbdl
from nbdl import nn


# ----------------------------------------------------------------------------------------------- registration
def test_members_in_order_of_registration():
    net = Net()
    assert names(net.named_parameters()) == [
        "scale",
        "first.weight",
        "first.bias",
        "second.weight",
        "second.bias",
    ]
    assert names(net.named_parameters("p", recurse=False)) == ["p.scale"]
    assert names(net.named_buffers()) == ["first.calls", "first.scratch", "second.calls", "second.scratch"]
    assert names(net.named_children()) == ["first", "second"]
    assert names(net.named_modules()) == ["", "first", "second"]
    assert list(net.modules()) == [net, net.first, net.second]
    assert [p.shape for p in net.parameters(recurse=False)] == [(1,)]


def test_shared_members_are_listed_once():
    net = Net()
    net.third = net.first
    net.alias = net.scale
    assert names(net.named_modules()) == ["", "first", "second"]
    assert "alias" not in names(net.named_parameters())
    assert "third.weight" in names(net.named_parameters(remove_duplicate=False))
    assert names(net.named_modules(remove_duplicate=False)) == ["", "first", "second", "third"]


def test_members_are_ordinary_attributes():
    net = Net()
    assert vars(net)["scale"] is net.scale
    assert vars(net)["first"] is net.first
    replacement = nn.Parameter(nbdl.tensor([3.0]))
    net.scale = replacement
    assert net.scale is replacement
    assert net.get_parameter("scale") is replacement
    del net.scale
    assert "scale" not in names(net.named_parameters())
    assert "scale" not in vars(net)


def test_a_name_changes_its_kind():
    net = Net()
    net.thing = 3
    net.thing = nn.Parameter(nbdl.zeros(1))
    assert "thing" in names(net.named_parameters())
    net.thing = None
    assert net.thing is None
    assert "thing" not in names(net.named_parameters())
    net.thing = nn.Parameter(nbdl.zeros(2))
    net.other = Affine()
    net.other = nn.Parameter(nbdl.zeros(1))
    assert "other" not in names(net.named_children())
    net.kept = nn.Buffer(nbdl.zeros(1), persistent=False)
    assert "kept" in names(net.named_buffers())
    assert "kept" not in net.state_dict()
    net.kept = nbdl.ones(1)  # a tensor replaces a buffer
    assert "kept" in names(net.named_buffers())


def test_assignment_before_super_init():
    class Early(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter(nbdl.zeros(1))
            super().__init__()

    assert names(Early().named_parameters()) == ["weight"]


BAD_REGISTRATIONS = [
    (lambda m: m.register_parameter("a.b", None), KeyError, 'contain "."'),
    (lambda m: m.register_parameter("", None), KeyError, "empty string"),
    (lambda m: m.register_parameter("forward", None), KeyError, "already exists"),
    (lambda m: m.register_parameter("calls", None), KeyError, "already exists"),
    (lambda m: m.register_parameter(3, None), TypeError, "should be a string. Got int"),
    (lambda m: m.register_parameter("new", nbdl.zeros(1)), TypeError, "'Tensor' object to parameter 'new'"),
    (lambda m: m.register_buffer("weight", nbdl.zeros(1)), KeyError, "already exists"),
    (lambda m: m.register_buffer("new", 3.0), TypeError, "'float' object to buffer 'new'"),
    (lambda m: m.register_module("new", 3), TypeError, "int is not a Module subclass"),
    (lambda m: m.register_module("weight", Affine()), KeyError, "already exists"),
    (lambda m: setattr(m, "weight", nbdl.zeros(1)), TypeError, "as parameter 'weight'"),
    (lambda m: setattr(m, "calls", 5), TypeError, "as buffer 'calls'"),
    (lambda m: m.calls_, AttributeError, "no attribute 'calls_' .*parameters: weight, bias; buffers: calls"),
    (lambda m: m.get_parameter("calls"), AttributeError, "is not an nn.Parameter"),
    (lambda m: m.get_submodule("weight"), AttributeError, "is not an nn.Module"),
    (lambda m: m.get_buffer("nothing"), AttributeError, "nothing"),
    (lambda m: m.train("yes"), ValueError, "expected to be boolean"),
    (lambda m: m.to(nbdl.int64), TypeError, "only accepts floating point"),
    (lambda m: nn.Module()(1), NotImplementedError, 'missing the required "forward"'),
    (lambda m: nn.Parameter([1.0]), TypeError, "data must be a tensor or None, got list"),
    (lambda m: nn.Parameter(nbdl.tensor(1)), RuntimeError, "floating point"),
]  # fmt: skip


@pytest.mark.parametrize(("action", "kind", "message"), BAD_REGISTRATIONS)
def test_bad_use(action, kind, message):
    with pytest.raises(kind, match=message):
        action(Affine())


def test_non_leaf_parameter():
    computed = nn.Parameter(nbdl.ones(2))
    computed.edge = (nbdl.ones(2, requires_grad=True) * 2).edge
    with pytest.raises(ValueError, match="non-leaf"):
        nn.Module().register_parameter("w", computed)


def test_lookup_by_path():
    net = nn.Sequential(Net(), Affine())
    assert net.get_submodule("0.first") is net[0].first
    assert net.get_submodule("") is net
    assert net.get_parameter("0.first.bias") is net[0].first.bias
    assert net.get_buffer("1.calls") is net[1].calls
    replacement = nn.Identity()
    net.set_submodule("0.second", replacement)
    assert net[0].second is replacement
    with pytest.raises(ValueError, match="without a target"):
        net.set_submodule("", replacement)


def test_parameter_shares_memory():
    data = nbdl.zeros(2)
    parameter = nn.Parameter(data)
    data.fill_(3.0)
    assert parameter.tolist() == [3.0, 3.0]
    assert parameter.requires_grad
    assert parameter.is_leaf
    assert repr(parameter).startswith("Parameter containing:\ntensor(")


# -------------------------------------------------------------------------------------- modes and conversions
def test_train_and_eval_reach_everything():
    net = nn.Sequential(Net(), nn.ModuleList([Affine()]))
    assert all(module.training for module in net.modules())
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    net[0].train()
    assert [module.training for module in net.modules()] == [False, True, True, True, False, False]


def test_apply_visits_children_first():
    visited = []
    net = Net()
    assert net.apply(visited.append) is net
    assert visited == [net.first, net.second, net]


def test_gradient_flags():
    net = Net()
    net(nbdl.ones(1, 3)).sum().backward()
    gradient = net.scale.grad
    net.zero_grad(set_to_none=False)
    assert net.scale.grad.item() == 0.0
    assert gradient is not None
    net.zero_grad()
    assert all(parameter.grad is None for parameter in net.parameters())
    net.requires_grad_(False)
    assert not net(nbdl.ones(1, 3)).requires_grad


@pytest.mark.parametrize(
    ("convert", "dtype"),
    [
        (lambda m: m.double(), np.float64),
        (lambda m: m.half(), np.float16),
        (lambda m: m.half().float(), np.float32),
        (lambda m: m.to(nbdl.float64), np.float64),
        (lambda m: m.to("cpu", nbdl.float64), np.float64),
        (lambda m: m.to(nbdl.zeros(1, dtype=nbdl.float64)), np.float64),
        (lambda m: m.cpu(), np.float32),
    ],
)
def test_conversions_keep_parameters_and_integers(convert, dtype):
    net = Affine()
    weight, net.weight.grad = net.weight, nbdl.ones(2, 3)
    assert convert(net) is net
    assert net.weight is weight
    assert weight.dtype == weight.grad.dtype == net.scratch.dtype == dtype
    assert net.calls.dtype == np.int64


def test_conversion_makes_saved_values_stale():
    net = Affine()
    out = net(nbdl.ones(1, 3, requires_grad=True)).sum()
    net.double()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


def test_missing_gpu_is_reported():
    if "cupy" in nbdl.available_backends():
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError):
        Affine().cuda()


def test_empty_memory_keeps_shapes_and_dtypes():
    model = nn.Sequential(nn.Linear(2, 3).double(), nn.BatchNorm1d(3))
    parts = {name: (value, value.data_ptr()) for name, value in model.named_parameters()}
    assert model.to_empty(device="cpu") is model.share_memory()
    for name, value in model.named_parameters():
        assert value is parts[name][0]
        assert value.data_ptr() != parts[name][1]
    assert [str(value.dtype) for value in model.state_dict().values()] == [
        "float64", "float64", "float32", "float32", "float32", "float32", "int64",
    ]  # fmt: skip
    pointer = model[0].weight.data_ptr()
    model.to_empty(device="cpu", recurse=False)
    assert model[0].weight.data_ptr() == pointer
