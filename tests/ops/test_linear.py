"""Linear layers, with and without activation: gradients in one call against their composition."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl
from nbdl.autograd import grad, gradcheck, gradgradcheck
from nbdl.backend import registry
from nbdl.ops.activated_linear import ActivatedLinear, ActivatedLinearGradients
from nbdl.ops.arithmetic import formula_of
from nbdl.ops.matmul import LINEAR, LinearGradients, MatMul
from nbdl.ops.pointwise import Pointwise

ACTIVATIONS = ("tanh", "relu", "expit")
NEEDS = [(needs, has_bias) for has_bias in (True, False) for needs in range(1, 8 if has_bias else 4)]


def operands(shape, outputs=5, has_bias=True, dtype="float64", needs=0):
    """x, weight and bias, requiring gradients by the bits of ``needs``."""
    draw = np.random.default_rng(7).standard_normal
    shapes = [shape, (outputs, shape[-1]), *([(outputs,)] if has_bias else [])]
    arrays = [draw(size).astype(dtype) for size in shapes]
    return [nbdl.tensor(array, requires_grad=bool(needs >> k & 1)) for k, array in enumerate(arrays)]


def in_steps(activation, *inputs):
    """The layer and its activation as operations of their own."""
    result = inputs[0] @ inputs[1].T
    result = result + inputs[2] if len(inputs) > 2 else result
    return result if activation is None else Pointwise.of(formula_of(activation))(result)


def primitive_of(activation):
    return LINEAR if activation is None else ActivatedLinear.of(formula_of(activation))


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("shape", [(6, 3), (1, 3), (3,), (2, 4, 3), (0, 3), (6, 1)], ids=str)
@pytest.mark.parametrize(("needs", "has_bias"), NEEDS)
def test_gradients_are_those_of_the_composition(backend, activation, shape, needs, has_bias):
    inputs = operands(shape, has_bias=has_bias, needs=needs)
    wanted = [x for x in inputs if x.requires_grad]
    result, expected = primitive_of(activation)(*inputs), in_steps(activation, *inputs)
    np.testing.assert_allclose(result.detach(), expected.detach(), rtol=1e-13, atol=1e-13)
    seed = nbdl.tensor(np.random.default_rng(3).standard_normal(result.shape))
    for actual, other in zip(grad(result, wanted, seed), grad(expected, wanted, seed), strict=True):
        np.testing.assert_allclose(actual, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("shape", [(4, 3), (3,), (2, 2, 3)], ids=str)
def test_derivatives_of_second_order_and_forward_mode(backend, activation, shape):
    inputs = operands(shape, needs=7)
    assert gradcheck(primitive_of(activation), inputs, check_forward_ad=True)
    assert gradgradcheck(primitive_of(activation), inputs)


@pytest.mark.parametrize("needs", [1, 2, 4, 3, 6, 7])
def test_gradients_in_one_call_can_be_differentiated(backend, needs):
    x, weight, _ = operands((4, 3), needs=7)
    g = nbdl.tensor(np.random.default_rng(5).standard_normal((4, 5)), requires_grad=True)
    chosen = [*([weight] if needs & 1 else []), *([x] if needs & 2 else [])]
    if needs & (needs - 1):
        assert gradcheck(LinearGradients.of(needs), [g, *chosen], check_forward_ad=True)
    y = nbdl.tensor(np.tanh(np.random.default_rng(6).standard_normal((4, 5))), requires_grad=True)
    rule = ActivatedLinearGradients.of(formula_of("tanh"), needs)
    assert gradcheck(rule, [g, y, *chosen], check_forward_ad=True)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64"])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(64, 32, 17), (1, 8, 8), (300, 257, 130)], ids=str)
@pytest.mark.parametrize("needs", [3, 5, 6, 7])
def test_backends_agree(dtype, rows, inputs, outputs, needs):
    """Large ones run on several threads."""
    draw = np.random.default_rng(1).standard_normal
    scale = 3 if dtype == "int64" else 1
    g, weight, x = (
        (scale * draw(n)).astype(dtype) for n in ((rows, outputs), (outputs, inputs), (rows, inputs))
    )
    given = [g, *([weight] if needs & 1 else []), *([x] if needs & 2 else [])]
    numpy, numba = registry.load("numpy"), registry.load("numba")
    rules = [LinearGradients.of(needs)]
    if dtype.startswith("float"):
        rules += [ActivatedLinearGradients.of(formula_of(name), needs) for name in ACTIVATIONS]
    tolerance = {"float16": 2e-3, "float32": 3e-6, "float64": 1e-14}.get(dtype, 0) * 32
    for rule in rules:
        arrays = given if isinstance(rule, LinearGradients) else [g, np.tanh(g), *given[1:]]
        for layout in (np.ascontiguousarray, np.asfortranarray):
            laid = [layout(array) for array in arrays]
            expected = numpy.execute(rule, laid)
            for _ in range(2):
                for actual, wanted in zip(numba.execute(rule, laid), expected, strict=True):
                    assert (actual.shape, actual.dtype) == (wanted.shape, wanted.dtype)
                    np.testing.assert_allclose(
                        actual, wanted, rtol=tolerance, atol=tolerance * np.sqrt(max(rows, inputs, outputs))
                    )


def test_the_result_must_not_be_overwritten(backend):
    inputs = operands((4, 3), needs=7)
    result = primitive_of("tanh")(*inputs)
    total = result.sum()
    with nbdl.no_grad():
        result.mul_(2)
    with pytest.raises(RuntimeError, match="LinearTanhBackward saved a tensor of shape"):
        total.backward()


@pytest.mark.parametrize("activation", [None, "relu"])
def test_errors_are_those_of_the_layer(backend, activation):
    x, weight, bias = operands((4, 3))
    layer = primitive_of(activation)
    for bad, message in (
        ((x, weight.T, bias), "linear: the last axis of the input must have the size of the weight's second"),
        ((x, weight, bias[:2]), r"linear: bias must have shape \(5,\), got \(2,\)"),
        ((x, weight[0], bias), "linear: weight must have 2 axes"),
        ((x, weight.to(dtype="float32"), bias), "linear: expected operands of the same dtype"),
    ):
        with pytest.raises(RuntimeError, match=message):
            layer(*bad)


def test_relu_keeps_the_sign_of_zero_and_nan(backend):
    x = nbdl.tensor([-0.0, 0.0, -1.0, float("nan"), float("-inf"), float("inf")])
    result = x.relu().numpy()
    np.testing.assert_array_equal(result, [0, 0, 0, np.nan, 0, np.inf])
    np.testing.assert_array_equal(np.signbit(result[:3]), [True, False, False])


def test_relu_keeps_its_result_for_the_gradient(backend):
    x = nbdl.tensor([-1.0, 0.0, 2.0, float("nan")], requires_grad=True)
    y = x.relu()
    assert y.grad_fn.saved == ()
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [0, 0, 1, 0])


HALF_SHAPES = [
    ((3, 4), (4, 5)), ((4,), (4,)), ((2, 3, 4), (4,)), ((2, 1, 3, 4), (5, 4, 2)), ((0, 3), (3, 2)),
    ((3, 0), (0, 2)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [nbdl.float16, nbdl.bfloat16], ids=str)
@pytest.mark.parametrize(("left", "right"), HALF_SHAPES, ids=str)
def test_products_in_half_precision(dtype, left, right):
    draw = np.random.default_rng(2).standard_normal
    a, b = draw(left).astype(dtype), draw(right).astype(dtype)
    rule = MatMul.of(False, False)
    expected = registry.load("numpy").execute(rule, [a, b])
    for _ in range(2):
        result = registry.load("numba").execute(rule, [a, b])
        assert (result.dtype, result.shape) == (dtype, expected.shape)
        np.testing.assert_allclose(result.astype("f4"), expected.astype("f4"), rtol=1e-2, atol=1e-2)
    transposed, out = np.ascontiguousarray(a.swapaxes(-1, -2)) if a.ndim > 1 else a, np.empty_like(expected)
    assert registry.load("numba").execute(MatMul.of(a.ndim > 1, False), [transposed, b], out) is out
    np.testing.assert_allclose(out.astype("f4"), expected.astype("f4"), rtol=1e-2, atol=1e-2)


def test_half_precision_starts_no_threads_of_blas(monkeypatch):
    monkeypatch.setattr(np, "matmul", None)
    a = np.ones((70, 70), np.float16)
    result = registry.load("numba").execute(MatMul.of(False, True), [a, a])
    np.testing.assert_array_equal(result, np.full((70, 70), 70))
