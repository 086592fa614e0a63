"""Modules: saving, loading and copying their state."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from nn.small_modules import Affine, Net, names

import nbdl
from nbdl import nn


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
