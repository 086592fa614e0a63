"""vmap: every operation equals the loop over the examples, transforms compose, errors are PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from op_samples import Op, Sample, leaves, rebuilt
from op_table import TABLE

import nbdl
from nbdl.func import functional_call, grad, hessian, jacfwd, jacrev, vjp, vmap

EXAMPLES = 2
PATTERNS = (0, 1, 2)  # which operands have several examples: see `arguments`

# What reads values into Python, or makes results whose shapes depend on values: an error under vmap.
DATA_DEPENDENT = {
    "x[mask]", "argwhere", "bincount", "masked_select", "nonzero", "unique", "unique_consecutive"
}  # fmt: skip

every_op = pytest.mark.parametrize("entry", TABLE, ids=[f"{entry.name}-{k}" for k, entry in enumerate(TABLE)])


def arguments(entry: Op, which: int) -> tuple[list[Any], list[int | None]]:
    """The leaves of the arguments, with several examples of all arrays (0), or of every second one (1, 2)."""
    generators = [np.random.default_rng(k) for k in range(EXAMPLES)]
    values: list[Any] = []
    dims: list[int | None] = []
    for arg in leaves(entry.args):
        if not isinstance(arg, Sample):
            values.append(arg)
            dims.append(None)
            continue
        rows = [arg.array(generator, np.float64) for generator in generators]
        is_mapped = which == 0 or sum(isinstance(value, nbdl.Tensor) for value in values) % 2 == which - 1
        values.append(nbdl.tensor(np.stack(rows) if is_mapped else rows[0]))
        dims.append(0 if is_mapped else None)
    return values, dims


def example(values: list[Any], dims: list[int | None], i: int) -> list[Any]:
    return [value if dim is None else value[i] for value, dim in zip(values, dims, strict=True)]


def depends_on_data(entry: Op, dims: list[int | None]) -> bool:
    """Whether the operand that decides on the shape of the result, the last one, differs between examples."""
    return entry.name in DATA_DEPENDENT and (dims[0] if entry.name == "bincount" else dims[-1]) == 0


def as_list(out: Any) -> list[nbdl.Tensor]:
    return list(out) if isinstance(out, (tuple, list)) else [out]


def assert_equals_loop(function: Callable[..., Any], values: list[Any], dims: list[int | None]) -> None:
    found = as_list(vmap(function, tuple(dims))(*values))
    rows = [as_list(function(*example(values, dims, i))) for i in range(EXAMPLES)]
    assert len(found) == len(rows[0])
    for y, column in zip(found, zip(*rows, strict=True), strict=True):
        expected = np.stack([row.detach().numpy() for row in column])
        assert y.dtype == expected.dtype
        assert y.shape == expected.shape
        size = np.abs(expected[np.isfinite(expected)]).max(initial=1.0)
        np.testing.assert_allclose(y.detach().numpy(), expected, rtol=0, atol=1e-11 * size)


def function_of(entry: Op) -> Callable[..., Any]:
    def function(*changed: Any) -> Any:
        return entry.function()(*rebuilt(entry.args, iter(changed)), **entry.kwargs)

    return function


def gradient_of(entry: Op) -> Callable[..., Any]:
    """The gradients of a weighted sum of the outputs by the arguments that can be differentiated by."""
    function, wanted = function_of(entry), entry.differentiable()

    def gradient(*values: Any) -> Any:
        places = [k for k, by in enumerate(wanted) if by]

        def smooth(*chosen: nbdl.Tensor) -> Any:
            changed = list(values)
            for k, value in zip(places, chosen, strict=True):
                changed[k] = value
            return [y for y in as_list(function(*changed)) if y.is_floating_point()]

        outputs, pullback = vjp(smooth, *[values[k] for k in places])
        return pullback([(y.detach() * 0.7 + 0.3).nan_to_num(0.0, 0.0, 0.0) for y in outputs])

    return gradient


@every_op
def test_every_operation_equals_the_loop(entry: Op) -> None:
    """On the backend that needs no compiler: rules do not know which one computes."""
    with nbdl.use_backend("numpy"):
        for which in PATTERNS:
            values, dims = arguments(entry, which)
            if all(dim is None for dim in dims):
                continue
            if depends_on_data(entry, dims):
                with pytest.raises(RuntimeError, match="vmap"):
                    vmap(function_of(entry), tuple(dims))(*values)
                continue
            assert_equals_loop(function_of(entry), values, dims)
            if entry.orders > 0:
                assert_equals_loop(gradient_of(entry), values, dims)


SEVERAL = [entry for entry in TABLE if sum(isinstance(leaf, Sample) for leaf in leaves(entry.args)) > 1]


@pytest.mark.parametrize("entry", SEVERAL, ids=[f"{entry.name}-{k}" for k, entry in enumerate(SEVERAL)])
def test_operands_of_two_levels_equal_the_loop(entry: Op) -> None:
    """The arrays in turn have examples of the inner vmap, of the outer one, and of both."""
    generators = [np.random.default_rng(k) for k in range(EXAMPLES)]
    values: list[Any] = []
    inner: list[int | None] = []
    outer: list[int | None] = []
    count = 0
    for arg in leaves(entry.args):
        is_inner = isinstance(arg, Sample) and count % 3 != 1
        is_outer = isinstance(arg, Sample) and count % 3 != 0
        inner.append(0 if is_inner else None)
        outer.append(int(is_inner) if is_outer else None)
        if isinstance(arg, Sample):
            count += 1
            rows = np.stack([arg.array(generator, np.float64) for generator in generators])
            arg = nbdl.tensor(np.stack([rows, rows[::-1]], 1) if is_inner and is_outer else rows)
        values.append(arg)
    with nbdl.use_backend("numpy"):
        if entry.name not in DATA_DEPENDENT:
            assert_equals_loop(vmap(function_of(entry), tuple(inner)), values, outer)


@pytest.mark.parametrize("dim", [-3, -2, -1])
def test_axes_counted_from_the_end(dim: int) -> None:
    x = nbdl.tensor(np.arange(24.0).reshape(2, 3, 4))
    found = vmap(lambda row: row * 2 + row.sum(), dim, dim)(x)
    axes = tuple(k for k in range(3) if k != dim % 3)
    np.testing.assert_array_equal(found.numpy(), x.numpy() * 2 + x.numpy().sum(axes, keepdims=True))


def test_a_tensor_of_an_outer_vmap_cannot_take_values_of_an_inner_one() -> None:
    def outer(total: nbdl.Tensor, rows: nbdl.Tensor) -> nbdl.Tensor:
        vmap(lambda row: total.add_(row))(rows)
        return total

    with pytest.raises(RuntimeError, match="inplace arithmetic"):
        vmap(outer)(nbdl.zeros(2), nbdl.ones(2, 3))


# ------------------------------------------------------------------------------------------- composition
def array(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).uniform(-1, 1, shape)


def energy(lib: Any, x: Any, w: Any) -> Any:
    return ((x @ w).tanh() ** 2).sum() + (x.exp() * x).sum()


def transforms(lib: Any) -> dict[str, Callable[..., Any]]:
    """Functions of x (4, 3) and w (3, 2), the same with nbdl and with PyTorch."""
    f, func = (lambda x, w: energy(lib, x, w)), lib.func
    v = func.vmap
    return {
        "values": lambda x, w: v(f, (0, None))(x, w),
        "grad": lambda x, w: v(func.grad(f), (0, None))(x, w),
        "grad of the other": lambda x, w: v(func.grad(f, argnums=1), (0, None))(x, w),
        "grad of vmap": lambda x, w: func.grad(lambda w: (v(f, (0, None))(x, w) ** 2).sum())(w),
        "grad of vmap of grad": lambda x, w: func.grad(
            lambda w: (v(func.grad(f), (0, None))(x, w) ** 2).sum()
        )(w),
        "jvp of vmap": lambda x, w: func.jvp(lambda x: v(f, (0, None))(x, w), (x,), (x * 2,))[1],
        "vmap of jvp": lambda x, w: v(lambda x: func.jvp(lambda x: f(x, w), (x,), (x * 2,))[1])(x),
        "jvp of vmap of grad": lambda x, w: func.jvp(
            lambda x: v(func.grad(f), (0, None))(x, w), (x,), (x * 2,)
        )[1],
        "hessian": lambda x, w: v(func.hessian(f), (0, None))(x, w),
        "jacrev of grad": lambda x, w: v(func.jacrev(func.grad(f)), (0, None))(x, w),
        "jacfwd of jacfwd": lambda x, w: v(func.jacfwd(func.jacfwd(f)), (0, None))(x, w),
        "jacrev of vmap": lambda x, w: func.jacrev(lambda x: v(f, (0, None))(x, w))(x),
        "jacfwd of vmap": lambda x, w: func.jacfwd(lambda x: v(f, (0, None))(x, w))(x),
        "nested": lambda x, w: v(v(lambda a, b: a * b, (None, 0)), (0, None))(x[:, 0], w[:, 0]),
        "nested grad": lambda x, w: v(
            lambda a: v(lambda b: func.grad(lambda c: (c * a).sin().sum() * b)(b))(a)
        )(x),
        "axes": lambda x, w: v(lambda a, b: (a.sum(), a * b), (1, 0), (0, 1))(x, w[:, 0]),
        "vjp": lambda x, w: func.vjp(lambda x: v(f, (0, None))(x, w), x)[1](x[:, 0])[0],
        "nest": lambda x, w: v(lambda d: {"a": d["x"] * d["y"][0]}, ({"x": 0, "y": None},))(
            {"x": x, "y": [w[:, 0]]}
        )["a"],
        "in place": lambda x, w: v(lambda x: x.clone().mul_(2).add_(w[:, 0]))(x),
        "in place in a window": lambda x, w: v(
            lambda x: (y := x * 1, y.as_strided((2,), (2,), 0).mul_(w[0]))[0]
        )(x),
        "in place in windows": lambda x, w: v(lambda x: (y := x * 1, y.unfold(0, 1, 2).add_(w[0, 0]))[0])(x),
        "in place in grad": lambda x, w: v(func.grad(lambda x: (x * 1).mul_(x).sum()))(x),
    }


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("name", transforms(nbdl))
def test_transforms_compose(name: str, backend: str) -> None:
    torch = pytest.importorskip("torch")
    x, w = array(4, 3), array(3, 2)
    expected = transforms(torch)[name](torch.tensor(x), torch.tensor(w))
    found = transforms(nbdl)[name](nbdl.tensor(x), nbdl.tensor(w))
    for y, wanted in zip(as_list(found), as_list(expected), strict=True):
        assert not y.requires_grad
        np.testing.assert_allclose(y.numpy(), wanted.detach().numpy(), rtol=0, atol=1e-12)


def test_jacobians_agree_with_differences_of_the_function() -> None:
    w, x = nbdl.tensor(array(3, 2)), nbdl.tensor(array(3))
    forward, reverse = (
        jacfwd(jacrev(lambda x: energy(nbdl, x, w)))(x),
        hessian(lambda x: energy(nbdl, x, w))(x),
    )
    eps, slope = 1e-6, grad(lambda x: energy(nbdl, x, w))
    rows = [(slope(x + eps * e) - slope(x - eps * e)) / (2 * eps) for e in nbdl.eye(3, dtype="float64")]
    np.testing.assert_allclose(forward.numpy(), reverse.numpy(), rtol=0, atol=1e-13)
    np.testing.assert_allclose(forward.numpy(), nbdl.stack(rows).numpy(), rtol=0, atol=1e-8)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 7])
def test_chunks_make_no_difference(chunk_size: int) -> None:
    x = nbdl.tensor(array(5, 3))
    whole = vmap(lambda x: (x.sum(), x * 2), out_dims=(0, 1))(x)
    parts = vmap(lambda x: (x.sum(), x * 2), out_dims=(0, 1), chunk_size=chunk_size)(x)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    for transform in (jacrev, jacfwd):
        a, b = transform(nbdl.exp)(x), transform(nbdl.exp, chunk_size=chunk_size)(x)
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_gradients_of_each_sample_of_a_module() -> None:
    layer = nbdl.nn.Sequential(
        nbdl.nn.Conv1d(2, 3, 2, dtype="float64"), nbdl.nn.Tanh(), nbdl.nn.Linear(4, 1, dtype="float64")
    )
    x = nbdl.tensor(array(4, 1, 2, 5))
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters: Any, x: Any) -> Any:
        return (functional_call(layer, parameters, (x,)) ** 2).sum()

    found = vmap(grad(loss), (None, 0))(parameters, x)
    for name in parameters:
        expected = nbdl.stack([grad(loss)(parameters, row)[name] for row in x])
        np.testing.assert_allclose(found[name].numpy(), expected.numpy(), rtol=0, atol=1e-13)


def test_the_tape_outside_records_through() -> None:
    x, w = nbdl.tensor(array(4, 3)), nbdl.tensor(array(3, 2), requires_grad=True)
    y = vmap(grad(lambda x: energy(nbdl, x, w)))(x)
    (y**2).sum().backward()
    rows = nbdl.stack([grad(lambda x: energy(nbdl, x, w))(row) for row in x])
    (expected,) = nbdl.autograd.grad((rows**2).sum(), w)
    np.testing.assert_allclose(w.grad.numpy(), expected.numpy(), rtol=0, atol=1e-13)
    with nbdl.no_grad():
        assert not vmap(grad(lambda x: energy(nbdl, x, w)))(x).requires_grad


def test_batched_gradients_are_one_pass() -> None:
    calls = []

    class Counted(nbdl.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 3

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            calls.append(g.shape)
            return g * 3

    x = nbdl.tensor(array(3), requires_grad=True)
    y = Counted.apply(x)
    (jacobian,) = nbdl.autograd.grad(y, x, nbdl.eye(3, dtype="float64"), is_grads_batched=True)
    np.testing.assert_array_equal(jacobian.numpy(), 3 * np.eye(3))
    assert calls == [(3,)]


def test_a_compiled_hessian_follows_its_argument() -> None:
    w = nbdl.tensor(array(3, 2))
    compiled = nbdl.compile(hessian(lambda x: energy(nbdl, x, w)))
    for seed in range(3):
        x = nbdl.tensor(np.random.default_rng(seed).uniform(-1, 1, 3))
        expected = hessian(lambda x: energy(nbdl, x, w))(x)
        np.testing.assert_allclose(compiled(x).numpy(), expected.numpy(), rtol=0, atol=1e-13)


def test_an_empty_batch() -> None:
    x = nbdl.zeros(0, 3)
    assert vmap(lambda x: x.softmax(0))(x).shape == (0, 3)
    assert vmap(grad(lambda x: x.square().sum()))(x).shape == (0, 3)


# ---------------------------------------------------------------------------------------------- randomness
@pytest.mark.parametrize(
    "draw", [lambda x: nbdl.rand(3), lambda x: nbdl.nn.functional.dropout(x * 0 + 1, 0.5)]
)
def test_randomness(draw: Callable[..., Any]) -> None:
    x = nbdl.ones(64, 3)
    with pytest.raises(RuntimeError, match="randomness error mode"):
        vmap(draw)(x)
    same = vmap(draw, randomness="same")(x).numpy()
    assert same.shape == (64, 3)
    assert (same == same[0]).all()
    different = vmap(draw, randomness="different")(x).numpy()
    assert different.shape == (64, 3)
    assert len(np.unique(different, axis=0)) > 3


# -------------------------------------------------------------------------------------------------- errors
X = nbdl.ones(2, 3)
ERRORS: dict[str, tuple[Callable[..., Any], type[Exception], str]] = {
    "in_dims": (lambda: vmap(nbdl.exp, in_dims=2)(X), ValueError, "dimensionality 2"),
    "in_dims type": (lambda: vmap(nbdl.exp, in_dims="0")(X), ValueError, "expected `in_dims` to be int"),
    "structure": (lambda: vmap(nbdl.exp, in_dims=(0, 0))(X), ValueError, "not compatible"),
    "sizes": (lambda: vmap(nbdl.add)(X, nbdl.ones(3)), ValueError, "same size in the mapped dimension"),
    "nothing mapped": (lambda: vmap(nbdl.exp, in_dims=None)(X), ValueError, "to be int"),
    "no tensor mapped": (lambda: vmap(nbdl.add, (None, None))(X, X), ValueError, "at least one Tensor"),
    "no inputs": (lambda: vmap(lambda: X)(), ValueError, "got no inputs"),
    "number": (lambda: vmap(nbdl.add)(X, 1.0), ValueError, "cannot vmap over non-Tensor"),
    "output": (lambda: vmap(lambda x: 1.0)(X), ValueError, "must only return Tensors"),
    "out_dims": (lambda: vmap(nbdl.exp, out_dims=(0, 1))(X), ValueError, "out_dims is not compatible"),
    "out_dims range": (lambda: vmap(nbdl.exp, out_dims=5)(X), IndexError, "out of range"),
    "out_dims None": (lambda: vmap(nbdl.exp, out_dims=None)(X), ValueError, "can not return a BatchedTensor"),
    "randomness": (lambda: vmap(nbdl.exp, randomness="no"), RuntimeError, "Only allowed values"),
    "chunk_size": (lambda: vmap(nbdl.exp, chunk_size=0), ValueError, "chunk_size"),
    "item": (lambda: vmap(lambda x: x * x.sum().item())(X), RuntimeError, "vmap"),
    "bool": (lambda: vmap(lambda x: x if x.sum() > 0 else -x)(X), RuntimeError, "vmap"),
    "numpy": (lambda: vmap(lambda x: nbdl.tensor(x.numpy()))(X), RuntimeError, "vmap"),
    "window on a copy": (
        lambda: vmap(lambda x: x.as_strided((2,), (1,)))(X[:, :2]),
        RuntimeError,
        "as_strided: the tensor must be contiguous, .* with all examples",
    ),
    "in place": (lambda: vmap(lambda x: nbdl.zeros(3).add_(x))(X), RuntimeError, "inplace arithmetic"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    call, error, match = ERRORS[name]
    with pytest.raises(error, match=match):
        call()
    assert vmap(nbdl.exp)(X).shape == (2, 3)  # the level was left
