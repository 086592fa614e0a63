"""Optimizers: steps compared with PyTorch's, state, groups, hooks, errors."""

from __future__ import annotations

import copy
import gc

import numpy as np
import pytest

import nbdl
from nbdl import nn, optim

STEPS = 50
RESUMED_AT = 20

SGD_OPTIONS = [
    {},
    {"weight_decay": 0.1},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True},
    {"maximize": True},
]
ADAM_OPTIONS = [
    {},
    {"betas": (0.7, 0.9), "eps": 1e-3},
    {"weight_decay": 0.1},
    {"amsgrad": True},
    {"amsgrad": True, "weight_decay": 0.1, "maximize": True},
    {"betas": (0.0, 0.5)},
]
CASES = [("SGD", options) for options in SGD_OPTIONS]
CASES += [(name, options) for name in ("Adam", "AdamW") for options in ADAM_OPTIONS]
SHAPES = [(3, 4), (5,), (), (2, 0)]
# Rounding of both sides, accumulated over the steps.
TOLERANCE = {"float64": 1e-13, "float32": 2e-5}


def start_and_gradients(dtype):
    random = np.random.default_rng(0)
    start = [random.standard_normal(shape).astype(dtype) for shape in SHAPES]
    gradients = [
        [(np.sin(0.3 * step) + random.standard_normal(shape)).astype(dtype) for shape in SHAPES]
        for step in range(STEPS)
    ]
    return start, gradients


def set_gradients(tensors, gradients, make, step):
    """The second parameter has no gradient in every third step."""
    for k, (tensor, gradient) in enumerate(zip(tensors, gradients, strict=True)):
        tensor.grad = None if k == 1 and step % 3 == 0 else make(np.asarray(gradient))


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda value: str(value))
def test_same_steps_as_torch(name, options, dtype, backend):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    start, gradients = start_and_gradients(dtype)
    ours = [nbdl.tensor(array, requires_grad=True) for array in start]
    theirs = [torch.tensor(array, requires_grad=True) for array in start]
    our_optimizer = getattr(optim, name)(ours, lr=0.05, **options)
    their_optimizer = getattr(torch.optim, name)(theirs, lr=0.05, **options)
    for step in range(STEPS):
        set_gradients(ours, gradients[step], nbdl.tensor, step)
        set_gradients(theirs, gradients[step], torch.tensor, step)
        if step == RESUMED_AT:  # what PyTorch saved, a new optimizer of ours goes on with
            our_optimizer = getattr(optim, name)(ours, lr=7.0)
            our_optimizer.load_state_dict(their_optimizer.state_dict())
        if step == 30:
            for optimizer in (our_optimizer, their_optimizer):
                optimizer.param_groups[0]["lr"] = 0.02
        our_optimizer.step()
        their_optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(
            a.detach().numpy(), b.detach().numpy(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
        )


@pytest.mark.torch
@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda value: str(value))
def test_state_dict_has_torchs_layout(name, options):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")

    def state_of(package, optimizers, zeros, ones):
        a, b = zeros(2, 3, requires_grad=True), zeros(4, requires_grad=True)
        optimizer = getattr(optimizers, name)(
            [{"params": [a]}, {"params": [b], "lr": 0.5}], lr=0.1, **options
        )
        a.grad = ones(2, 3)
        optimizer.step()
        return optimizer.state_dict(), repr(optimizer)

    ours, our_text = state_of(nbdl, optim, nbdl.zeros, nbdl.ones)
    theirs, their_text = state_of(torch, torch.optim, torch.zeros, torch.ones)
    assert ours["param_groups"] == theirs["param_groups"]
    assert our_text == their_text
    their_state = {
        number: {key: tuple(value.shape) for key, value in entries.items()}
        for number, entries in theirs["state"].items()
        if any(value is not None for value in entries.values())
    }
    our_state = {
        k: {key: tuple(v.shape) for key, v in entries.items()} for k, entries in ours["state"].items()
    }
    assert our_state == their_state


def test_optimizer_and_model_are_copied_together():
    model = nn.Linear(3, 2)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    for m, o in ((model, optimizer), (twin, twin_optimizer)):
        m(nbdl.ones(1, 3)).sum().backward()
        o.step()
    assert twin_optimizer.param_groups[0]["params"][0] is twin.weight
    assert (model.weight == twin.weight).all()


def test_minimises(backend):
    for make in (
        lambda p: optim.SGD(p, lr=0.05, momentum=0.9),
        lambda p: optim.Adam(p, lr=0.1),
        lambda p: optim.AdamW(p, lr=0.1, weight_decay=0.0),
    ):
        x = nbdl.tensor([3.0, -2.0], requires_grad=True)
        target = nbdl.tensor([1.0, 2.0])
        optimizer = make([x])
        for _ in range(400):
            optimizer.zero_grad()
            ((x - target) ** 2).sum().backward()
            optimizer.step()
        np.testing.assert_allclose(x.detach().numpy(), target.numpy(), atol=1e-3)


def test_half_precision_and_tensor_learning_rate():
    x = nbdl.ones(3, dtype=nbdl.float16, requires_grad=True)
    x.grad = nbdl.ones(3, dtype=nbdl.float16)
    optim.SGD([x], lr=nbdl.tensor(0.25)).step()
    assert x.dtype == np.float16
    assert x.tolist() == [0.75] * 3


def test_groups():
    a, b, c = (nbdl.ones(1, requires_grad=True) for _ in range(3))
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.1)
    optimizer.add_param_group({"params": [c], "lr": 0.25, "maximize": True})
    for tensor in (a, b, c):
        tensor.grad = nbdl.ones(1)
    optimizer.step()
    assert [tensor.item() for tensor in (a, b, c)] == pytest.approx([0.9, 0.5, 1.25], rel=1e-6)


def test_named_parameters():
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.named_parameters(), lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    assert optimizer.param_groups[0]["params"][0] is model.weight


def test_zero_grad_and_closure():
    x = nbdl.ones(2, requires_grad=True)
    optimizer = optim.SGD([x], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (x * x).sum()
        loss.backward()
        return loss

    with nbdl.no_grad():
        assert optimizer.step(closure).item() == 2.0
    assert x.grad.tolist() == [2.0, 2.0]
    optimizer.zero_grad(set_to_none=False)
    assert x.grad.tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert x.grad is None


def test_step_hooks():
    x = nbdl.ones(1, requires_grad=True)
    x.grad = nbdl.ones(1)
    optimizer = optim.SGD([x], lr=0.5)
    seen = []
    pre = optimizer.register_step_pre_hook(lambda opt, args, kwargs: seen.append(("pre", x.item())))
    optimizer.register_step_post_hook(lambda opt, args, kwargs: seen.append(("post", x.item())))
    optimizer.step()
    pre.remove()
    optimizer.step()
    assert seen == [("pre", 1.0), ("post", 0.5), ("post", 0.0)]
    optimizer.register_step_pre_hook(lambda opt, args, kwargs: 3)
    with pytest.raises(RuntimeError, match="new_args, new_kwargs"):
        optimizer.step()


def state_hooks(torch):
    """Hooks around saving and loading see, change and replace the state, in order."""
    seen = []
    x = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([x], lr=0.5)
    optimizer.register_state_dict_pre_hook(lambda opt: seen.append("save"))
    optimizer.register_state_dict_post_hook(lambda opt, state: state.update(extra=[1]))
    first = optimizer.register_state_dict_post_hook(
        lambda opt, state: {**state, "first": "extra" not in state}, prepend=True
    )
    optimizer.register_load_state_dict_pre_hook(lambda opt, state: {**state, "param_groups": state.pop("g")})
    optimizer.register_load_state_dict_post_hook(lambda opt: seen.append(opt.param_groups[0]["lr"]))
    state = optimizer.state_dict()
    first.remove()
    state["g"] = state.pop("param_groups")
    state["g"][0]["lr"] = 0.25
    optimizer.load_state_dict(state)
    return [seen, list(state), state["first"], "g" in state, list(optimizer.state_dict())]


@pytest.mark.torch
def test_state_hooks():
    import torch

    assert state_hooks(nbdl) == state_hooks(torch)


def test_a_step_makes_saved_values_stale():
    model = nn.Linear(2, 2)
    x = nbdl.ones(1, 2, requires_grad=True)
    out = model(x).sum()
    model.weight.grad = nbdl.ones(2, 2)
    optim.SGD([model.weight], lr=0.1).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


def test_updates_in_place_without_garbage():
    x = nbdl.ones(4, requires_grad=True)
    optimizer = optim.Adam([x])
    x.grad = nbdl.ones(4)
    optimizer.step()
    arrays = [x.array, *[value.array for value in optimizer.state[x].values()]]
    gc.collect()
    gc.disable()
    try:
        optimizer.step()
        assert gc.collect() == 0
    finally:
        gc.enable()
    now = [x.array, *[value.array for value in optimizer.state[x].values()]]
    assert all(before is after for before, after in zip(arrays, now, strict=True))


def leaf():
    return nbdl.ones(2, requires_grad=True)


def two_groups():
    shared = leaf()
    return optim.SGD([{"params": [shared]}, {"params": [shared]}])


def loaded(state):
    optim.SGD([leaf()]).load_state_dict(state)


def wrong_gradient():
    x = leaf()
    x.grad = nbdl.ones(2)
    x.data = nbdl.ones(3)
    optim.SGD([x]).step()


BAD_ARGUMENTS = [
    (lambda: optim.SGD([]), ValueError, "empty parameter list"),
    (lambda: optim.SGD(leaf()), TypeError, "iterable of Tensors or dicts, but got Tensor"),
    (lambda: optim.SGD(3), TypeError, "but got int"),
    (lambda: optim.SGD([3]), TypeError, "can only optimize Tensors, but one of the params is int"),
    (lambda: optim.SGD([nbdl.tensor([1])]), TypeError, "floating and complex tensors, but .* int64"),
    (lambda: optim.SGD([leaf() * 2]), ValueError, r"non-leaf Tensor \(one of shape \(2,\)"),
    (lambda: optim.SGD([{"params": {leaf()}}]), TypeError, "ordered collections"),
    (lambda: optim.SGD([("a", leaf()), leaf()]), ValueError, "Some param names are missing"),
    (two_groups, ValueError, "more than one parameter group"),
    (lambda: optim.SGD([leaf()]).add_param_group([leaf()]), TypeError, "param_group must be a dict"),
    (lambda: optim.SGD([leaf()], lr=-1), ValueError, "Invalid learning rate: -1"),
    (lambda: optim.SGD([leaf()], lr=float("nan")), ValueError, "Invalid learning rate: nan"),
    (lambda: optim.SGD([leaf()], momentum=-1), ValueError, "Invalid momentum value: -1"),
    (lambda: optim.SGD([leaf()], weight_decay=-1), ValueError, "Invalid weight_decay value: -1"),
    (lambda: optim.SGD([leaf()], nesterov=True), ValueError, "Nesterov momentum requires"),
    (lambda: optim.SGD([leaf()], momentum=0.9, dampening=0.1, nesterov=True), ValueError, "zero dampening"),
    (lambda: optim.SGD([leaf()], differentiable=True), ValueError, "differentiable=True is not supported"),
    (lambda: optim.SGD([{"params": [leaf()], "lr": -1}]), ValueError, "Invalid learning rate: -1"),
    (lambda: optim.Adam([leaf()], lr=-1), ValueError, "Adam: Invalid learning rate"),
    (lambda: optim.AdamW([leaf()], eps=-1), ValueError, "AdamW: Invalid epsilon value: -1"),
    (lambda: optim.Adam([leaf()], betas=(1.0, 0.9)), ValueError, "Invalid beta parameter at index 0: 1.0"),
    (lambda: optim.Adam([leaf()], betas=(0.9, -0.1)), ValueError, "Invalid beta parameter at index 1: -0.1"),
    (lambda: optim.Adam([leaf()], weight_decay=-1), ValueError, "Invalid weight_decay value"),
    (lambda: loaded(optim.SGD([leaf(), leaf()]).state_dict()), ValueError, "match the size"),
    (lambda: loaded({"state": {}, "param_groups": []}), ValueError, "different number"),
    (wrong_gradient, RuntimeError, r"shape \(3,\) has shape \(2,\)"),
]  # fmt: skip


@pytest.mark.parametrize(("action", "kind", "message"), BAD_ARGUMENTS)
def test_bad_arguments(action, kind, message):
    with pytest.raises(kind, match=message):
        action()


def test_duplicates_in_a_group_warn():
    x = leaf()
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optim.SGD([x, x])


def test_required_hyperparameter():
    class Needing(optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": optim.optimizer.REQUIRED})

    with pytest.raises(ValueError, match="required optimization parameter lr"):
        Needing([leaf()])
    assert Needing([{"params": [leaf()], "lr": 0.1}]).param_groups[0]["lr"] == 0.1
