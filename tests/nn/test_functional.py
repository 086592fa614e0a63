"""nn.functional: values and derivatives against PyTorch, extremes, randomness, errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from functional_cases import ACTIVATIONS, CASES, Case

import nbdl
import nbdl.nn.functional as F

NAN = math.nan


@pytest.fixture(autouse=True)
def reference_backend() -> Iterator[None]:
    """What is composed is tested on the backend that is the specification; kernels have own tests."""
    with nbdl.use_backend("numpy"):
        yield


TRAINING = {"batch_norm"}  # functions whose running statistics stand second and third, and which train here


def arguments(case: Case, library: Any, tensor: Callable[[np.ndarray, bool], Any]) -> tuple[list, list, dict]:
    """Positional arguments, those of them that need gradients, and keywords, as tensors of a library."""
    arrays = case.operands(np.random.default_rng(0))
    positional = [tensor(array, array.dtype.kind == "f") for array in arrays]
    differentiable = [x for x, array in zip(positional, arrays, strict=True) if array.dtype.kind == "f"]
    keywords = {key: tensor(v, False) if isinstance(v, np.ndarray) else v for key, v in case.options.items()}
    if case.name in TRAINING:
        keywords |= dict(zip(("weight", "bias"), positional[1:], strict=False)) | {"training": True}
        positional = [positional[0], None, None]
    if case.name in ("layer_norm", "rms_norm", "group_norm"):
        keywords |= dict(zip(("weight", "bias"), positional[1:], strict=False))
        positional = positional[:1]
    if case.name == "instance_norm":
        keywords |= dict(zip(("weight", "bias"), positional[1:], strict=False))
        positional = positional[:1]
    return positional, differentiable, keywords


def _array(result: Any) -> np.ndarray:
    return result.numpy(force=True)


def derivatives(
    function: Callable, positional: list, inputs: list, keywords: dict, grad: Callable, order: int
) -> list:
    """The value, its gradients for a fixed cotangent, and the gradients of their squares."""
    out = function(*positional, **keywords)
    results = [out.detach()]
    first = grad(out, inputs, (out.detach() * 0.3 + 0.5,), create_graph=order > 1, allow_unused=True)
    results += [None if g is None else g.detach() for g in first]
    if order > 1:
        total = sum((g * g).sum() for g in first if g is not None and g.requires_grad)
        if not isinstance(total, int):
            results += grad(total, inputs, allow_unused=True)
        else:
            results += [None] * len(inputs)
    return [None if result is None else _array(result) for result in results]


@pytest.mark.torch
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_value_and_derivatives_equal_pytorchs(case: Case) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ours = derivatives(
        getattr(F, case.name),
        *arguments(case, nbdl, lambda a, g: nbdl.tensor(a, requires_grad=g)),
        nbdl.autograd.grad,
        case.order,
    )
    theirs = derivatives(
        getattr(torch.nn.functional, case.name),
        *arguments(case, torch, lambda a, g: torch.tensor(a, requires_grad=g)),
        torch.autograd.grad,
        case.order,
    )
    assert len(ours) == len(theirs)
    for k, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if a is None or b is None:  # one library may know that a derivative is zero
            assert not np.any(a if b is None else b), f"result {k}"
            continue
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9, err_msg=f"result {k}")


# --------------------------------------------------------------------------------------------------- extremes
EXTREMES = [
    ("softplus", 1000.0, {}, 1000.0, 1.0),
    ("softplus", -1000.0, {}, 0.0, 0.0),
    ("logsigmoid", -1000.0, {}, -1000.0, 1.0),
    ("logsigmoid", 1000.0, {}, 0.0, 0.0),
    ("elu", 1000.0, {}, 1000.0, 1.0),
    ("elu", -1000.0, {}, -1.0, 0.0),
    ("celu", 1000.0, {"alpha": 0.01}, 1000.0, 1.0),
    ("silu", 1000.0, {}, 1000.0, 1.0),
    ("silu", -1000.0, {}, 0.0, 0.0),
    ("mish", 1000.0, {}, 1000.0, 1.0),
    ("mish", -1000.0, {}, 0.0, 0.0),
    ("gelu", 1000.0, {}, 1000.0, 1.0),
    ("gelu", -1000.0, {}, 0.0, 0.0),
    ("softsign", 1e30, {}, 1.0, 0.0),
    ("sigmoid", -1000.0, {}, 0.0, 0.0),
]


@pytest.mark.parametrize(("name", "x", "options", "value", "slope"), EXTREMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_operands(name: str, x: float, options: dict, value: float, slope: float, dtype: str) -> None:
    tensor = nbdl.tensor([x], dtype=dtype, requires_grad=True)
    y = getattr(F, name)(tensor, **options)
    y.sum().backward()
    assert tensor.grad is not None
    np.testing.assert_allclose([y.item(), tensor.grad.item()], [value, slope], atol=1e-30)


@pytest.mark.torch
@pytest.mark.parametrize(
    "name",
    sorted({case.name for case in ACTIVATIONS} - {"prelu", "glu", "softmax", "softmin", "log_softmax"}),
)
def test_kinks_and_nan_equal_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    points = [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 6.0, NAN]
    options = {"threshold": 1.0, "value": 7.0} if name == "threshold" else {}
    x, twin = nbdl.tensor(points, requires_grad=True), torch.tensor(points, requires_grad=True)
    y, z = getattr(F, name)(x, **options), getattr(torch.nn.functional, name)(twin, **options)
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-5, atol=1e-6)
    (g,), (h,) = nbdl.autograd.grad(y.sum(), x), torch.autograd.grad(z.sum(), twin)
    np.testing.assert_allclose(g.numpy()[:-1], h.numpy()[:-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("logit", "target", "loss", "slope"),
    [(1e4, 1.0, 0.0, 0.0), (1e4, 0.0, 1e4, 1.0), (-1e4, 1.0, 1e4, -1.0), (-1e4, 0.0, 0.0, 0.0)],
)
def test_certain_logits(logit: float, target: float, loss: float, slope: float) -> None:
    x = nbdl.tensor([logit], requires_grad=True)
    value = F.binary_cross_entropy_with_logits(x, nbdl.tensor([target]))
    value.backward()
    assert x.grad is not None
    assert (value.item(), x.grad.item()) == (loss, slope)


@pytest.mark.parametrize(("target", "loss"), [(0, 1e30), (1, 0.0), (2, 2e30)])
def test_cross_entropy_of_far_apart_logits(target: int, loss: float) -> None:
    value = F.cross_entropy(nbdl.tensor([[0.0, 1e30, -1e30]]), nbdl.tensor([target]))
    assert value.item() == np.float32(loss)


def test_nothing_to_average() -> None:
    assert math.isnan(F.cross_entropy(nbdl.zeros(2, 3), nbdl.tensor([-100, -100])).item())
    assert F.cross_entropy(nbdl.zeros(2, 3), nbdl.tensor([-100, -100]), reduction="sum").item() == 0
    assert math.isnan(F.cross_entropy(nbdl.zeros(0, 3), nbdl.zeros(0, dtype="int64")).item())
    assert math.isnan(F.mse_loss(nbdl.zeros(0), nbdl.zeros(0)).item())


def test_a_query_that_may_look_at_nothing() -> None:
    q = nbdl.ones(1, 2, 3)
    y = F.scaled_dot_product_attention(q, q, q, attn_mask=nbdl.tensor([[True, False], [False, False]]))
    np.testing.assert_allclose(y.numpy()[0, 0], 1.0, rtol=1e-6)
    np.testing.assert_array_equal(y.numpy()[0, 1], 0.0)


# ------------------------------------------------------------------------------------------------- randomness
def test_dropout() -> None:
    nbdl.manual_seed(0)
    x = nbdl.ones(200, 500, requires_grad=True)
    y = F.dropout(x, 0.3)
    assert sorted(set(y.detach().numpy().reshape(-1))) == [0.0, np.float32(1 / 0.7)]
    assert y.mean().item() == pytest.approx(1.0, abs=0.01)
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())
    other = F.dropout(x, 0.3)
    assert (other != y).any()
    nbdl.manual_seed(0)
    np.testing.assert_array_equal(F.dropout(x, 0.3).detach().numpy(), y.detach().numpy())


@pytest.mark.parametrize("function", [F.dropout, F.alpha_dropout, F.dropout1d, F.feature_alpha_dropout])
def test_dropout_without_effect_and_without_rest(function: Callable) -> None:
    x = nbdl.ones(2, 3, 4)
    assert function(x, 0.5, training=False) is x
    assert function(x, 0.0, training=True) is x
    assert not function(x, 1.0, training=True).numpy().any()
    with pytest.raises(ValueError, match=r"between 0 and 1, but got 1\.5"):
        function(x, 1.5)


def test_dropout_in_place() -> None:
    x = nbdl.ones(100)
    assert F.dropout(x, 0.5, inplace=True) is x
    assert set(x.numpy()) == {0.0, 2.0}


@pytest.mark.parametrize(
    ("function", "shape"),
    [(F.dropout1d, (50, 6, 7)), (F.dropout2d, (50, 6, 2, 3)), (F.dropout3d, (50, 6, 2, 1, 2))],
)
def test_channels_are_dropped_whole(function: Callable, shape: tuple[int, ...]) -> None:
    nbdl.manual_seed(1)
    rows = function(nbdl.ones(*shape), 0.4).numpy().reshape(300, -1)
    assert (rows == rows[:, :1]).all()
    assert 0.3 < (rows[:, 0] == 0).mean() < 0.5
    with pytest.raises(RuntimeError, match="Expected"):
        function(nbdl.ones(3))


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    nbdl.manual_seed(2)
    y = F.alpha_dropout(nbdl.randn(400, 500, dtype="float64"), 0.3, training=True).numpy()
    assert abs(y.mean()) < 0.01
    assert abs(y.var() - 1) < 0.02


def test_rrelu_draws_slopes() -> None:
    nbdl.manual_seed(3)
    y = F.rrelu(nbdl.full((1000,), -1.0), 0.2, 0.4, training=True).numpy()
    assert -0.4 <= y.min() < -0.38
    assert -0.22 < y.max() <= -0.2
    assert F.rrelu(nbdl.tensor([-2.0, 3.0]), 0.2, 0.4).tolist() == [np.float32(-0.6), 3.0]


def test_gumbel_softmax() -> None:
    nbdl.manual_seed(4)
    logits = nbdl.tensor(np.log([0.1, 0.2, 0.7])).expand(20000, 3).clone().requires_grad_()
    hard = F.gumbel_softmax(logits, hard=True)
    assert set(hard.detach().numpy().round(12).reshape(-1)) == {0.0, 1.0}
    np.testing.assert_allclose(hard.detach().numpy().mean(0), [0.1, 0.2, 0.7], atol=0.02)
    (hard * nbdl.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert logits.grad is not None and logits.grad.numpy().any()
    np.testing.assert_allclose(F.gumbel_softmax(logits, tau=2.0).sum(1).detach().numpy(), 1.0)


# -------------------------------------------------------------------------------------------------- embedding
@pytest.mark.torch
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding_idx": 2},
        {"padding_idx": -1},
        {"scale_grad_by_freq": True},
        {"max_norm": 1.0},
        {"max_norm": 1.0, "norm_type": 1.0},
    ],
)
def test_embedding(options: dict) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    table, index, g = rng.normal(size=(7, 3)), np.array([[0, 2, 2], [6, 2, 1]]), rng.normal(size=(2, 3, 3))
    w, twin = nbdl.tensor(table, requires_grad=True), torch.tensor(table, requires_grad=True)
    y, z = (
        F.embedding(nbdl.tensor(index), w, **options),
        torch.nn.functional.embedding(torch.tensor(index), twin, **options),
    )
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(w.detach().numpy(), twin.detach().numpy(), rtol=1e-12)
    y.backward(nbdl.tensor(g))
    z.backward(torch.tensor(g))
    assert w.grad is not None
    np.testing.assert_allclose(w.grad.numpy(), twin.grad.numpy(), rtol=1e-12)


def test_one_hot() -> None:
    assert F.one_hot(nbdl.tensor([[0, 2]])).tolist() == [[[1, 0, 0], [0, 0, 1]]]
    assert F.one_hot(nbdl.tensor([1]), 4).tolist() == [[0, 1, 0, 0]]


# --------------------------------------------------------------------------------------------------- in place
@pytest.mark.parametrize(
    "name",
    [
        "relu",
        "relu6",
        "leaky_relu",
        "elu",
        "selu",
        "celu",
        "silu",
        "mish",
        "hardtanh",
        "hardsigmoid",
        "hardswish",
        "rrelu",
    ],
)
def test_in_place(name: str) -> None:
    leaf = nbdl.tensor([-1.5, 0.5, 2.0], dtype="float64", requires_grad=True)
    x = leaf * 1.0
    y = getattr(F, name)(x, inplace=True)
    assert y is x
    expected = getattr(F, name)(leaf)
    np.testing.assert_array_equal(y.detach().numpy(), expected.detach().numpy())
    np.testing.assert_allclose(
        nbdl.autograd.grad(y.sum(), leaf)[0].numpy(), nbdl.autograd.grad(expected.sum(), leaf)[0].numpy()
    )


# ----------------------------------------------------------------------------------------------------- errors
X, Y = nbdl.zeros(2, 3), nbdl.zeros(2, 4)
ERRORS = [
    (lambda: F.mse_loss(X, X, reduction="avg"), ValueError, "'avg' is not a valid value for reduction"),
    (lambda: F.mse_loss(X, X, weight=nbdl.ones(3)), ValueError, "must have the same size"),
    (lambda: F.smooth_l1_loss(X, X, beta=-1), RuntimeError, "negative values for beta, got -1"),
    (lambda: F.huber_loss(X, X, delta=0), RuntimeError, "non-positive values for delta, got 0"),
    (lambda: F.binary_cross_entropy(X, Y), ValueError, "they must be the same"),
    (lambda: F.binary_cross_entropy(X + 2, X), RuntimeError, "between 0 and 1"),
    (lambda: F.binary_cross_entropy_with_logits(X, Y), ValueError, "they must be the same"),
    (lambda: F.gaussian_nll_loss(X, X, -1.0), ValueError, "negative"),
    (lambda: F.gaussian_nll_loss(X, X, nbdl.ones(5)), ValueError, "incorrect size"),
    (lambda: F.margin_ranking_loss(X, X, nbdl.ones(2)), RuntimeError, "same dimension"),
    (lambda: F.cosine_embedding_loss(X, X, X), RuntimeError, "1D target tensor expects 2D"),
    (lambda: F.triplet_margin_loss(X, X, X, margin=0), ValueError, "margin to be greater than 0, got 0"),
    (lambda: F.multi_margin_loss(X, nbdl.tensor([0, 1]), p=3), ValueError, "only p == 1 and p == 2"),
    (lambda: F.multilabel_margin_loss(X, nbdl.tensor([0, 1])), RuntimeError, "inconsistent target size"),
    (lambda: F.nll_loss(X, nbdl.tensor([0, 3])), (IndexError, RuntimeError), "3"),
    (lambda: F.nll_loss(X, nbdl.tensor([0])), ValueError, "batch_size"),
    (lambda: F.glu(X), RuntimeError, "must be even, but dimension -1 is size 3"),
    (lambda: F.prelu(X, nbdl.ones(2)), RuntimeError, "Mismatch of parameter numbers"),
    (lambda: F.gelu(X, approximate="erf"), RuntimeError, "either 'none' or 'tanh'"),
    (lambda: F.hardtanh(X, 1.0, -1.0), ValueError, "min_val cannot be greater"),
    (lambda: F.softshrink(X, -1.0), RuntimeError, "greater or equal to 0"),
    (lambda: F.celu(X, 0.0), ZeroDivisionError, "alpha cannot be 0"),
    (lambda: F.rrelu(X, 0.5, 0.1), RuntimeError, "lower bound"),
    (lambda: F.linear(X, nbdl.zeros(4, 5)), RuntimeError, "linear"),
    (lambda: F.bilinear(X, Y, nbdl.zeros(1, 3, 3)), RuntimeError, "bilinear: expected inputs"),
    (lambda: F.pixel_shuffle(nbdl.zeros(3, 2, 2), 2), RuntimeError, "divisible by the square"),
    (lambda: F.pixel_unshuffle(nbdl.zeros(3, 2, 3), 2), RuntimeError, "divisible by downscale_factor"),
    (lambda: F.channel_shuffle(nbdl.zeros(1, 3, 2), 2), RuntimeError, "divisible by groups"),
    (lambda: F.pad(X, (1,)), RuntimeError, "two widths"),
    (lambda: F.pad(X, (1, 1), mode="mirror"), NotImplementedError, "Unrecognised padding mode"),
    (lambda: F.pad(X, (1, 1), mode="reflect", value=1.0), ValueError, "doesn't take in value"),
    (lambda: F.pad(X, (3, 3), mode="reflect"), RuntimeError, "widths"),
    (lambda: F.embedding(nbdl.tensor([5]), X), IndexError, "5"),
    (
        lambda: F.embedding(nbdl.tensor([0]), X, padding_idx=2),
        RuntimeError,
        "padding_idx must be within num_embeddings",
    ),
    (lambda: F.embedding(nbdl.tensor([0]), X, sparse=True), ValueError, "sparse=True is not supported"),
    (lambda: F.embedding(nbdl.tensor([0]), nbdl.zeros(3)), RuntimeError, "must be 2-D"),
    (lambda: F.pdist(nbdl.zeros(3)), RuntimeError, "only supports 2D"),
    (lambda: F.scaled_dot_product_attention(X, X, X, X, is_causal=True), RuntimeError, "should not be set"),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_errors(call: Callable, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_target_of_another_shape_is_warned_about() -> None:
    with pytest.warns(UserWarning, match="different to the input size"):
        F.mse_loss(nbdl.zeros(3, 1), nbdl.zeros(3))
