"""Compiled modules are modules."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import nbdl
from nbdl import nn


@pytest.fixture
def model():
    nbdl.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def test_members(model):
    compiled = nbdl.compile(model)
    assert isinstance(compiled, nn.Module) and isinstance(compiled, nbdl.compiler.CompiledModule)
    assert all(a is b for a, b in zip(compiled.parameters(), model.parameters(), strict=True))
    assert list(compiled.state_dict()) == ["_orig_mod." + name for name in model.state_dict()]
    assert compiled[0] is model[0] and len(compiled) == 3 and list(compiled) == list(model) and compiled
    assert compiled.train() is compiled and model[1].training
    assert compiled.eval() is compiled and not model[1].training and not compiled.training
    compiled.gain = 3
    assert model.gain == 3 == compiled.gain
    del compiled.gain
    with pytest.raises(AttributeError, match="'Sequential' object has no attribute 'gain'"):
        compiled.gain
    assert "(_orig_mod): Sequential(" in repr(compiled)
    compiled.load_state_dict({name: 2 * value for name, value in compiled.state_dict().items()})


def test_calls_follow_mode_dtype_and_hooks(model, backend):
    compiled, x = nbdl.compile(model), nbdl.randn(5, 3)
    for change in (
        lambda: None,
        compiled.eval,
        lambda: compiled.register_forward_hook(lambda module, args, output: 2 * output),
        lambda: model[0].register_forward_pre_hook(lambda module, args: (2 * args[0],)),
        compiled.double,
    ):
        change()
        x = x.to(model[0].weight.dtype)
        doubled = 2 if compiled._hooks is not None else 1
        statistics = copy.deepcopy(model.state_dict())
        expected = doubled * model(x)
        for _ in range(3):
            model.load_state_dict(statistics)
            np.testing.assert_allclose(compiled(x).detach(), expected.detach(), rtol=1e-5, atol=1e-6)


def test_training_of_a_compiled_module(model):
    losses = []
    for module in (copy.deepcopy(model), nbdl.compile(copy.deepcopy(model))):
        optimizer = nbdl.optim.Adam(module.parameters(), lr=0.1)
        x, y = nbdl.ones(4, 3) * nbdl.arange(4)[:, None], nbdl.arange(4)[:, None].float()
        for _ in range(5):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(module(x), y)
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_copies_have_programs_of_their_own(model):
    compiled, x = nbdl.compile(model.eval()), nbdl.ones(2, 3)
    before = compiled(x)
    twin = copy.deepcopy(compiled)
    with nbdl.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert twin(x).tolist() == [[0.0], [0.0]]
    assert compiled(x).tolist() == before.tolist()


def test_compile_in_place(model):
    calls = 0

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            nonlocal calls
            calls += 1
            return self.inner(x) * 2

    module = Counting().eval()
    module.compile()
    results = [module(nbdl.ones(2, 3)) for _ in range(4)]
    assert calls == 1
    np.testing.assert_allclose(results[-1].detach(), 2 * model(nbdl.ones(2, 3)).detach(), rtol=1e-6)
    twin = copy.deepcopy(module)
    with nbdl.no_grad():
        twin.inner[2].bias += 1.0
    np.testing.assert_allclose((twin(nbdl.ones(2, 3)) - results[0]).detach(), [[2.0], [2.0]], rtol=1e-5)
    module.train()
    assert module(nbdl.randn(4, 3)).shape == (4, 1)


def test_keywords_of_pytorch():
    def function(x):
        return x + 1

    assert nbdl.compile(function, disable=True) is function
    assert (
        nbdl.compile(mode="max-autotune", fullgraph=True, dynamic=False)(function)(nbdl.ones(1)).item() == 2
    )
    with pytest.raises(ValueError, match="compile: options: there are none for programs"):
        nbdl.compile(function, options={"trace": True})
