"""Laws that hold for whatever the operands are: random shapes, strides and programs."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import nbdl
from nbdl import func
from nbdl.autograd import grad

# The fixture chooses the backend once for all examples of a test.
law = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
ELEMENTS = st.floats(-3, 3, width=32).map(lambda x: np.round(x, 3))


@st.composite
def arrays(draw: st.DrawFn, shape: tuple[int, ...]) -> np.ndarray:
    """An array of this shape: contiguous, transposed, strided, reversed, or repeated by stride 0."""
    values = draw(hnp.arrays(np.float64, shape, elements=ELEMENTS))
    layout = draw(st.sampled_from(["plain", "transposed", "strided", "offset"]))
    if layout == "transposed":
        return np.array(values.T, order="C").T
    if layout == "strided":
        wide = np.repeat(values, 2, axis=-1) if values.ndim else values
        return wide[..., ::2] if values.ndim else wide
    if layout == "offset":
        padded = np.zeros((*shape[:-1], shape[-1] + 3)) if shape else values
        if shape:
            padded[..., 2:-1] = values
            return padded[..., 2:-1]
    return values


@st.composite
def broadcastable(draw: st.DrawFn, count: int = 2) -> list[np.ndarray]:
    """Arrays whose shapes broadcast, empty axes included."""
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=3, min_side=0, max_side=4))
    return [draw(arrays(shape)) for shape in shapes.input_shapes]


def leaf(array: np.ndarray) -> nbdl.Tensor:
    return nbdl.from_numpy(array).requires_grad_()


@law
@given(operands=broadcastable())
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "maximum", "less"])
def test_pointwise_operations_are_numpys(name, operands, backend):
    found = getattr(nbdl, name)(*map(nbdl.from_numpy, operands)).numpy()
    np.testing.assert_array_equal(found, getattr(np, name)(*operands))


@law
@given(operands=broadcastable())
def test_gradients_of_broadcast_operands_are_sums(operands, backend):
    x, y = map(leaf, operands)
    out = x * y
    seed = np.cos(np.arange(out.numel(), dtype=float)).reshape(out.shape)
    gx, gy = grad(out, (x, y), nbdl.from_numpy(seed))
    for g, operand, other in ((gx, *operands), (gy, *reversed(operands))):
        full = seed * np.broadcast_to(other, out.shape)
        added = full.ndim - operand.ndim
        axes = (
            *range(added),
            *(added + k for k, n in enumerate(operand.shape) if n == 1 and full.shape[added + k] != 1),
        )
        np.testing.assert_allclose(g.numpy(), full.sum(axes).reshape(operand.shape), rtol=1e-10, atol=1e-12)


@law
@given(
    data=st.data(),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    keepdim=st.booleans(),
)
@pytest.mark.parametrize("name", ["sum", "mean", "prod", "any"])
def test_reductions_are_numpys(name, data, shape, keepdim, backend):
    array = data.draw(arrays(shape))
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1)) if shape else st.just(set()))
    axes = tuple(axes) or None
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing
        expected = np.asarray(getattr(np, name)(array, axis=axes, keepdims=keepdim))
    found = getattr(nbdl, name)(nbdl.from_numpy(array), axes, keepdim).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


VIEWS: list[Callable] = [
    lambda x: x.T,
    lambda x: x.reshape(-1),
    lambda x: x[1:] if x.ndim else x,
    lambda x: x[..., ::2] if x.ndim else x,
    lambda x: x[..., None],
    lambda x: x.transpose(0, x.ndim - 1) if x.ndim else x,
    lambda x: x.unsqueeze(0),
    lambda x: x.squeeze(),
    lambda x: x.flip(0) if x.ndim else x,
]


@law
@given(data=st.data(), steps=st.lists(st.sampled_from(range(len(VIEWS))), max_size=5))
def test_chains_of_views_are_permutations_of_the_gradient(data, steps, backend):
    """An element of the base gets as gradient the number of times that it is in the view."""
    array = data.draw(arrays(data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))))
    x = leaf(array)
    numbered = nbdl.arange(array.size).reshape(array.shape)
    y = x
    for step in steps:
        y, numbered = VIEWS[step](y), VIEWS[step](numbered)
    chosen = numbered.numpy().reshape(-1)
    np.testing.assert_array_equal(y.detach().numpy().reshape(-1), array.reshape(-1)[chosen])
    (g,) = grad(y.sum(), x, materialize_grads=True)
    np.testing.assert_array_equal(g.numpy().reshape(-1), np.bincount(chosen, minlength=array.size))


PROGRAM: list[Callable] = [
    lambda x, y: x * y,
    lambda x, y: x + y.tanh(),
    lambda x, y: (x - y).exp() * 0.1,
    lambda x, y: x / (1 + y * y),
    lambda x, y: x.sum(0, keepdim=True) * y,
    lambda x, y: (x @ y.T) @ y,
    lambda x, y: nbdl.where(x > y, x, y * 0.5),
    lambda x, y: x.flip(0) + y.T.reshape(x.shape),
    lambda x, y: x.mean() + y,
    lambda x, y: x.clone().mul_(y).add_(x),
]


@settings(law, max_examples=25)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(range(len(PROGRAM))), st.integers(0, 9)), min_size=1, max_size=6
    ),
    seed=st.integers(0, 2**16),
)
def test_random_programs_agree_in_all_modes(steps, seed, backend):
    """v . (J u) of reverse mode, forward mode, linearize and finite differences; Hessians are symmetric."""
    generator = np.random.default_rng(seed)
    x, u, w = (nbdl.tensor(generator.uniform(-1, 1, (3, 2))) for _ in range(3))

    def f(x):
        values = [x, x.cos()]
        for step, which in steps:
            values.append(PROGRAM[step](values[-1], values[which % len(values)]).tanh())
        return values[-1].sum()

    value, slope = func.jvp(f, (x,), (u,))
    gradient = func.grad(f)(x)
    assert value.item() == pytest.approx(f(x).item(), rel=1e-12)
    assert slope.item() == pytest.approx((gradient * u).sum().item(), rel=1e-9, abs=1e-10)
    assert func.linearize(f, x)[1](u).item() == pytest.approx(slope.item(), rel=1e-9, abs=1e-10)
    numerical = (f(x + 1e-6 * u).item() - f(x - 1e-6 * u).item()) / 2e-6
    assert slope.item() == pytest.approx(numerical, rel=1e-4, abs=1e-6)
    forward_over_reverse = (func.hvp(f, x, u) * w).sum().item()
    reverse_over_reverse = (func.grad(lambda x: (func.grad(f)(x) * w).sum())(x) * u).sum().item()
    assert forward_over_reverse == pytest.approx(reverse_over_reverse, rel=1e-8, abs=1e-8)
