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


class Keeping(nn.Module):
    """Keeps what it computed, and what it was given, in attributes."""

    def __init__(self):
        super().__init__()
        self.linear, self.weights = nn.Linear(3, 3), None

    def forward(self, x):
        self.given, self.weights = x, self.linear(x).softmax(-1)
        self.penalty = self.weights.square().sum()
        return self.weights * x


def test_attributes_are_assigned_by_every_call(backend):
    modules = [Keeping(), Keeping()]
    modules[1].load_state_dict(modules[0].state_dict())
    calls = [modules[0], nbdl.compile(modules[1])]
    for k in range(5):
        x, seen = nbdl.full((2, 3), 0.5 * k), []
        for module, call in zip(modules, calls):
            module.zero_grad()
            (call(x).sum() + 3 * module.penalty).backward()
            seen.append([module.weights.detach(), module.given, module.linear.weight.grad])
        for eager, compiled in zip(*seen, strict=True):
            np.testing.assert_allclose(compiled, eager, rtol=1e-4, atol=1e-6)
    assert "1 programs" in repr(calls[1]._compiled)


def test_attributes_that_only_training_assigns():
    class Sometimes(Keeping):
        def forward(self, x):
            return super().forward(x) if self.training else 2 * x

    module = Sometimes()
    compiled = nbdl.compile(module)
    for k in range(8):
        module.train(k % 2 == 0)
        kept, result = module.weights, compiled(nbdl.full((1, 3), float(k)))
        if module.training:
            assert result.tolist() == (module.weights * k).tolist()
        else:
            assert module.weights is kept and result.tolist() == [[2 * k] * 3]
    assert "2 programs" in repr(compiled._compiled)


def test_attributes_that_are_computed_once():
    class Once(nn.Module):
        table = None

        def forward(self, x):
            if self.table is None:
                self.table = nbdl.arange(3) * 2.0
            return self.table * x

    compiled = nbdl.compile(Once())
    assert [compiled(nbdl.full((3,), float(k))).tolist() for k in range(5)] == [
        [0, 2 * k, 4 * k] for k in range(5)
    ]


def test_attributes_that_carry_a_state_are_refused():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.state = nbdl.zeros(3)

        def forward(self, x):
            self.state = 0.5 * self.state + x
            return self.state * 1

    compiled, module = nbdl.compile(Recurrent()), Recurrent()
    with pytest.raises(nbdl.compiler.RecordingError, match=r"beyond the call|another value"):
        for _ in range(5):
            assert compiled(nbdl.ones(3)).tolist() == module(nbdl.ones(3)).tolist()


@pytest.mark.parametrize(
    "change",
    [
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        nn.utils.parametrizations.weight_norm,
        lambda module: nn.utils.prune.l1_unstructured(module, "weight", 0.5),
    ],
)
def test_steps_with_weights_that_hooks_compute(change):
    seen = []
    for wrap in (lambda function: function, nbdl.compile):
        nbdl.manual_seed(0)
        module = nn.Linear(3, 3, dtype=nbdl.float64)
        change(module)
        optimizer = nbdl.optim.Adam(module.parameters(), lr=0.1)

        def step(x, module=module, optimizer=optimizer):
            optimizer.zero_grad()
            loss = module(x).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        run = wrap(step)
        seen.append([run(nbdl.full((2, 3), float(k), dtype=nbdl.float64)).item() for k in range(1, 7)])
        seen[-1] += module.weight.flatten().tolist()
    np.testing.assert_allclose(*seen, rtol=1e-8)
