"""Modules: registration, traversal, state, modes, hooks, containers."""

from __future__ import annotations

import copy
import gc
import pickle
from collections import OrderedDict

import numpy as np
import pytest

import nbdl
from nbdl import nn


class Affine(nn.Module):
    def __init__(self, n_in=3, n_out=2):
        super().__init__()
        self.weight = nn.Parameter(nbdl.ones(n_out, n_in))
        self.bias = nn.Parameter(nbdl.zeros(n_out))
        self.register_buffer("calls", nbdl.tensor(0))
        self.register_buffer("scratch", nbdl.zeros(1), persistent=False)

    def forward(self, x):
        return x @ self.weight.T + self.bias


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Affine(3, 4)
        self.second = Affine(4, 2)
        self.scale = nn.Parameter(nbdl.tensor([2.0]))

    def forward(self, x):
        return self.second(self.first(x)) * self.scale


def names(pairs):
    return [name for name, _ in pairs]


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


# ------------------------------------------------------------------------------------------------ state dicts
def test_state_dict_round_trip():
    net, twin = Net(), Net()
    with nbdl.no_grad():
        for k, parameter in enumerate(net.parameters()):
            parameter.fill_(k + 0.5)
    net.first.calls = nbdl.tensor(7)
    state = net.state_dict()
    assert list(state) == [
        "scale", "first.weight", "first.bias", "first.calls", "second.weight", "second.bias", "second.calls"
    ]  # fmt: skip
    assert not state["scale"].requires_grad
    assert state["scale"].data_ptr() == net.scale.data_ptr()
    before = twin.scale
    result = twin.load_state_dict(state)
    assert result == ([], [])
    assert repr(result) == "<All keys matched successfully>"
    assert twin.scale is before
    assert twin.first.calls.item() == 7
    for ours, theirs in zip(twin.parameters(), net.parameters(), strict=True):
        assert (ours == theirs).all()


def test_load_from_arrays_and_assign():
    net = Affine()
    net.load_state_dict({"weight": np.full((2, 3), 2.0), "bias": np.ones(2), "calls": np.array(1)})
    assert net.weight.dtype == np.float32
    assert net.weight.tolist() == [[2.0] * 3] * 2
    given = {"weight": nbdl.zeros(2, 3, dtype=nbdl.float64), "bias": nbdl.zeros(2), "calls": nbdl.tensor(1)}
    net.weight.requires_grad_(False)
    net.load_state_dict(given, assign=True)
    assert net.weight.dtype == np.float64
    assert isinstance(net.weight, nn.Parameter)
    assert not net.weight.requires_grad
    assert net.weight.data_ptr() == given["weight"].data_ptr()


def test_load_reports_everything_that_is_wrong():
    state = Net().state_dict()
    del state["first.bias"]
    state["second.weight"] = nbdl.zeros(5, 5)
    state["third.weight"] = nbdl.zeros(1)
    state["first.extra"] = nbdl.zeros(1)
    state["scale"] = "text"
    with pytest.raises(RuntimeError) as caught:
        Net().load_state_dict(state)
    assert str(caught.value).split("\n\t") == [
        "Error(s) in loading state_dict for Net:",
        'Missing key(s) in state_dict: "first.bias". ',
        'Unexpected key(s) in state_dict: "third.weight", "first.extra". ',
        'While copying the parameter named "scale", expected a Tensor or an array from checkpoint but '
        "received str",
        "size mismatch for second.weight: copying a param with shape nbdl.Size([5, 5]) from checkpoint, "
        "the shape in current model is nbdl.Size([2, 4]).",
    ]
    state = Net().state_dict()
    del state["first.bias"]
    state["extra"] = nbdl.zeros(1)
    assert Net().load_state_dict(state, strict=False) == (["first.bias"], ["extra"])
    with pytest.raises(TypeError, match="dict-like, got list"):
        Net().load_state_dict([])


def test_extra_state_and_state_hooks():
    class Counting(Affine):
        count = 0

        def get_extra_state(self):
            return {"count": self.count}

        def set_extra_state(self, state):
            self.count = state["count"]

    source, target = Counting(), Counting()
    source.count = 5
    seen = []
    source.register_state_dict_pre_hook(lambda module, prefix, keep_vars: seen.append("save pre"))
    source.register_state_dict_post_hook(lambda module, state, prefix, metadata: seen.append(len(state)))
    target.register_load_state_dict_pre_hook(lambda module, state, *rest: state.update(bias=nbdl.ones(2)))
    target.register_load_state_dict_post_hook(lambda module, keys: seen.append(keys.missing_keys))
    target.load_state_dict(source.state_dict())
    assert target.count == 5
    assert target.bias.tolist() == [1.0, 1.0]
    assert seen == ["save pre", 4, []]
    with pytest.raises(RuntimeError, match="_extra_state"):
        Affine().load_state_dict(source.state_dict())


def test_loading_makes_saved_values_stale():
    net = Affine()
    x = nbdl.ones(1, 3, requires_grad=True)
    out = net(x).sum()
    net.load_state_dict(net.state_dict())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


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


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_independent(clone):
    net = Net()
    net.first.register_forward_hook(print)
    net.eval()
    twin = clone(net)
    assert names(twin.named_parameters()) == names(net.named_parameters())
    assert not twin.first.training
    assert (twin.scale == net.scale).all()
    with nbdl.no_grad():
        twin.scale.fill_(9.0)
    assert net.scale.item() == 2.0
    assert "scratch" not in twin.first.state_dict()


# ------------------------------------------------------------------------------------------------------ hooks
def test_forward_hooks_replace_arguments_and_outputs():
    net = Affine()
    seen = []
    net.register_forward_pre_hook(lambda module, args: seen.append("second"))
    net.register_forward_pre_hook(lambda module, args: (args[0] * 2,), prepend=True)
    handle = net.register_forward_hook(lambda module, args, out: seen.append(args[0].tolist()) or out + 1)
    assert net(nbdl.ones(1, 3)).tolist() == [[7.0, 7.0]]
    assert seen == ["second", [[2.0, 2.0, 2.0]]]
    handle.remove()
    assert net(nbdl.ones(1, 3)).tolist() == [[6.0, 6.0]]


def test_hooks_with_keywords_and_always():
    class Scaled(nn.Module):
        def forward(self, x, factor=1.0):
            if factor < 0:
                raise ValueError("negative")
            return x * factor

    net = Scaled()
    seen = []
    net.register_forward_pre_hook(
        lambda m, args, kwargs: (args, {"factor": kwargs["factor"] + 1}), with_kwargs=True
    )
    net.register_forward_hook(lambda m, args, kwargs, out: seen.append(kwargs), with_kwargs=True)
    net.register_forward_hook(lambda m, args, out: seen.append(out), always_call=True)
    assert net(nbdl.ones(1), factor=2.0).tolist() == [3.0]
    assert seen[0] == {"factor": 3.0}
    seen.clear()
    with pytest.raises(ValueError, match="negative"):
        net(nbdl.ones(1), factor=-5.0)
    assert seen == [None]
    net.register_forward_pre_hook(lambda m, args, kwargs: 5, with_kwargs=True)
    with pytest.raises(RuntimeError, match="new_args, new_kwargs"):
        net(nbdl.ones(1), factor=1.0)


def test_full_backward_hooks_see_and_replace_gradients():
    net = Affine()
    seen = []
    net.register_full_backward_pre_hook(lambda module, grad_output: (grad_output[0] * 10,))
    net.register_full_backward_hook(lambda module, gi, go: seen.append((gi[0].tolist(), go[0].tolist())))
    net.register_full_backward_hook(lambda module, gi, go: (gi[0] + 1,))
    x = nbdl.zeros(1, 3, requires_grad=True)
    net(x).sum().backward()
    assert seen == [([[20.0] * 3], [[10.0] * 2])]
    assert x.grad.tolist() == [[21.0] * 3]
    assert net.bias.grad.tolist() == [10.0, 10.0]


def test_backward_hook_without_differentiable_arguments():
    net = Affine()
    seen = []
    net.register_full_backward_hook(lambda module, gi, go: seen.append((gi, go[0].shape)))
    net(nbdl.zeros(1, 3)).sum().backward()
    assert seen == [((None,), (1, 2))]
    net.register_full_backward_hook(lambda module, gi, go: (nbdl.zeros(1, 3),))
    with pytest.raises(RuntimeError, match="no argument of the module requires grad"):
        net(nbdl.zeros(1, 3)).sum().backward()


def test_backward_hook_on_several_inputs_and_outputs():
    class Pair(nn.Module):
        def forward(self, a, text, b):
            return a * b, text, a + b

    net = Pair()
    seen = []
    net.register_full_backward_hook(lambda module, gi, go: seen.append([g and g.item() for g in (*gi, *go)]))
    a, b = nbdl.tensor(2.0, requires_grad=True), nbdl.tensor(5.0, requires_grad=True)
    product, text, total = net(a, "text", b)
    assert text == "text"
    (product + 3 * total).backward()
    assert seen == [[8.0, None, 5.0, 1.0, None, 3.0]]
    wrong = net.register_full_backward_hook(lambda module, gi, go: (gi[0],))
    with pytest.raises(RuntimeError, match="returned 1 gradients, but 3"):
        net(a, "text", b)[0].backward()
    wrong.remove()


def test_second_order_through_backward_hooks_leaves_no_cycle():
    class Cube(nn.Module):
        def forward(self, x):
            return x * x * x

    net = Cube()
    net.register_full_backward_hook(lambda module, gi, go: (gi[0] * 2,))

    def derivatives():
        x = nbdl.tensor(3.0, requires_grad=True)
        (first,) = nbdl.autograd.grad(net(x), x, create_graph=True)
        (second,) = nbdl.autograd.grad(first, x)
        return first.item(), second.item()

    # The hook is called in the second pass as well.
    assert derivatives() == (2 * 27, 2 * 2 * 18)
    gc.collect()
    gc.disable()
    try:
        derivatives()
        assert gc.collect() == 0
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------------- containers
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
