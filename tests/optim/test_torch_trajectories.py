"""First-order methods beside PyTorch's: all combinations of options, two groups, resumed on the way."""

from __future__ import annotations

import inspect
import itertools

import numpy as np
import pytest

import nbdl
from nbdl import optim

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch", reason="compares with PyTorch")

STEPS, RESUMED_AT = 50, 20
DECAY, CLIMB = ("weight_decay", (0.0, 0.1)), ("maximize", (False, True))
BETAS = ("betas", ((0.9, 0.999), (0.6, 0.8)))
EPS = ("eps", (1e-8, 1e-2))
DECOUPLED = ("decoupled_weight_decay", (False, True))
# Of each option a usual and another value.
OPTIONS = {
    "SGD": [("momentum", (0.9, 0.0)), ("dampening", (0.0, 0.3)), ("nesterov", (False, True)), DECAY, CLIMB],
    "ASGD": [("lambd", (1e-4, 0.1)), ("alpha", (0.75, 0.6)), ("t0", (1e6, 10)), DECAY, CLIMB],
    "Adagrad": [
        ("lr_decay", (0.0, 0.1)), ("initial_accumulator_value", (0.0, 0.5)), ("eps", (1e-10, 1e-2)), DECAY,
        CLIMB,
    ],
    "Adadelta": [("rho", (0.9, 0.5)), ("eps", (1e-6, 1e-3)), DECAY, CLIMB],
    "RMSprop": [
        ("alpha", (0.99, 0.5)), ("momentum", (0.0, 0.9)), ("centered", (False, True)), EPS, DECAY, CLIMB
    ],
    "Rprop": [("etas", ((0.5, 1.2), (0.2, 2.0))), ("step_sizes", ((1e-6, 50), (1e-3, 0.1))), CLIMB],
    "Adam": [BETAS, EPS, ("amsgrad", (False, True)), DECOUPLED, DECAY, CLIMB],
    "AdamW": [BETAS, EPS, ("amsgrad", (False, True)), DECAY, CLIMB],
    "Adamax": [BETAS, EPS, DECAY, CLIMB],
    "NAdam": [BETAS, ("momentum_decay", (4e-3, 0.1)), EPS, DECOUPLED, DECAY, CLIMB],
    "RAdam": [BETAS, EPS, DECOUPLED, DECAY, CLIMB],
    "Adafactor": [
        ("beta2_decay", (-0.8, -0.5)), ("eps", ((None, 1e-3), (1e-3, 1e-1))), ("d", (1.0, 2.0)), DECAY, CLIMB
    ],
}  # fmt: skip


MUON = [
    ("momentum", (0.95, 0.5)), ("nesterov", (True, False)), ("weight_decay", (0.1, 0.0)),
    ("adjust_lr_fn", ("original", "match_rms_adamw")), ("ns_steps", (5, 3)),
]  # fmt: skip


def combinations(options):
    """Pairs of settings of the two groups, one the opposite of the other where both are allowed."""
    names, values = zip(*options, strict=True)
    for choice in itertools.product((0, 1), repeat=len(names)):
        first, second = (
            {option: pair[k ^ flip] for option, pair, k in zip(names, values, choice, strict=True)}
            for flip in (0, 1)
        )
        if allowed(first):
            yield first, second if allowed(second) else first


def allowed(options):
    return not options.get("nesterov") or (options["momentum"] > 0 and options.get("dampening", 0) == 0)


@pytest.fixture(autouse=True)
def counters_in_double():
    """PyTorch keeps counters such as NAdam's product in its default dtype, this library in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def assert_same_trajectories(name, options, shapes, tolerance):
    random = np.random.default_rng(0)
    start = [random.standard_normal(shape) for shape in shapes]
    gradients = [[np.sin(0.3 * k) + random.standard_normal(shape) for shape in shapes] for k in range(STEPS)]

    def run(package, optimizers, settings):
        """The values after every step; on the way the optimizer is made anew of its state."""
        tensors = [package.tensor(array, requires_grad=True) for array in start]
        steps = [[package.tensor(gradient) for gradient in step] for step in gradients]

        def made(lr):
            groups = [{"params": [tensor], **one} for tensor, one in zip(tensors, settings, strict=True)]
            return getattr(optimizers, name)(groups, lr=lr)

        optimizer, values = made(0.05), []
        for k in range(STEPS):
            for tensor, gradient in zip(tensors, steps[k], strict=True):
                tensor.grad = gradient
            if k == RESUMED_AT:
                saved = optimizer.state_dict()
                optimizer = made(1.0)
                optimizer.load_state_dict(saved)
            optimizer.step()
            values.append(np.concatenate([tensor.detach().numpy().reshape(-1) for tensor in tensors]))
        return np.array(values)

    for settings in combinations(options):
        ours, theirs = run(nbdl, optim, settings), run(torch, torch.optim, settings)
        scale = np.abs(theirs).max(1, keepdims=True)
        np.testing.assert_allclose(
            ours / scale, theirs / scale, rtol=0, atol=tolerance, err_msg=str(settings)
        )


@pytest.mark.parametrize("name", OPTIONS)
def test_every_combination_of_options(name):
    assert_same_trajectories(name, OPTIONS[name], ((3, 4), (5,)), 2e-13)


def test_muon_is_torchs_without_its_rounding_to_bfloat16(backend, monkeypatch):
    def orthogonalized(grad, coefficients, steps, eps):
        a, b, c = coefficients
        x = grad.T if grad.shape[0] > grad.shape[1] else grad
        x = x / x.norm().clamp(min=eps)
        for _ in range(steps):
            gram = x @ x.T
            x = a * x + (b * gram + c * gram @ gram) @ x
        return x.T if grad.shape[0] > grad.shape[1] else x

    monkeypatch.setattr(torch.optim._muon, "_zeropower_via_newtonschulz", orthogonalized)
    assert_same_trajectories("Muon", MUON, ((3, 4), (5, 2)), 1e-12)


@pytest.mark.parametrize("name", [*OPTIONS, "Muon", "SparseAdam", "LBFGS"])
def test_arguments_are_torchs(name):
    ours, theirs = (inspect.signature(getattr(package, name)).parameters for package in (optim, torch.optim))
    for key, parameter in theirs.items():
        assert key in ours
        assert ours[key].default == parameter.default
    # Those that PyTorch does not have come by name only.
    assert all(ours[key].kind is inspect.Parameter.KEYWORD_ONLY for key in ours.keys() - theirs.keys())
    positional = [key for key, value in theirs.items() if value.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert list(ours)[: len(positional)] == positional


@pytest.mark.parametrize("foreach", [None, False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_ways_of_computing_are_accepted(name, foreach):
    x = nbdl.ones(2, requires_grad=True)
    ways = {"foreach": foreach}
    if "fused" in inspect.signature(getattr(optim, name)).parameters and not foreach:
        ways["fused"] = True
    x.grad = nbdl.ones(2)
    optimizer = getattr(optim, name)([x], **ways)
    optimizer.step()
    assert (x < 1).all()
    assert optimizer.param_groups[0]["foreach"] is foreach


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "Adafactor"])
@pytest.mark.parametrize(
    ("shape", "dtype", "tolerance"), [((3, 2), np.complex128, 1e-11), ((), np.complex64, 1e-4)]
)
def test_complex_parameters_are_pairs_of_real_ones(name, shape, dtype, tolerance):
    random = np.random.default_rng(1)
    options = list(combinations(OPTIONS[name]))
    for first, second in (options[0], options[len(options) // 2 - 1]):
        parts = random.standard_normal((2, 12, *shape))
        start, *gradients = (parts[0] + 1j * parts[1]).astype(dtype)
        mine = [nbdl.tensor(start, requires_grad=True) for _ in range(2)]
        theirs = [torch.tensor(start, requires_grad=True) for _ in range(2)]
        optimizers = []
        for library, params in ((optim, mine), (torch.optim, theirs)):
            groups = [{"params": [params[0]], **first}, {"params": [params[1]], **second}]
            optimizers.append(getattr(library, name)(groups))
        for gradient in gradients:
            for p, q in zip(mine, theirs, strict=True):
                p.grad, q.grad = nbdl.tensor(gradient), torch.tensor(gradient)
            for optimizer in optimizers:
                optimizer.step()
        for p, q in zip(mine, theirs, strict=True):
            assert p.dtype == dtype
            np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=tolerance)


def test_other_optimizers_refuse_complex_parameters():
    w = nbdl.tensor([1 + 1j], requires_grad=True)
    for kind in (optim.Adafactor, optim.LAMB, optim.Lion, optim.LBFGSB, optim.AdaBelief):
        with pytest.raises(TypeError, match=f"{kind.__name__}: .* floating tensors, but .* dtype complex64"):
            kind([w])
