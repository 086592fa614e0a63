"""Functions under vmap: derivatives inside, outside and across it are those of the plain operation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nbdl
from nbdl import func
from nbdl.autograd import Function


class Scaled(Function):
    """x ** k * y, and the sign of x."""

    @staticmethod
    def forward(x, k, y):
        return x**k * y, x.sign()

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, ctx.k, y = inputs
        ctx.save_for_backward(x, y, output[0])
        ctx.save_for_forward(x, y)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx, g, _):
        x, y, out = ctx.saved_tensors
        return g * ctx.k * x ** (ctx.k - 1) * y, None, g * out / y

    @staticmethod
    def jvp(ctx, dx, _, dy):
        x, y = ctx.saved_tensors
        return dx * ctx.k * x ** (ctx.k - 1) * y + x**ctx.k * dy, None


class WithContext(Function):
    """The same of one output, in the older form."""

    @staticmethod
    def forward(ctx, x, k, y):
        ctx.k, out = k, x**k * y
        ctx.save_for_backward(x, y, out)
        ctx.save_for_forward(x, y)
        return out

    @staticmethod
    def backward(ctx, g):
        return Scaled.backward(ctx, g, None)

    @staticmethod
    def jvp(ctx, *tangents):
        return Scaled.jvp(ctx, *tangents)[0]


class WithRule(Scaled):
    """With a rule of its own for many examples."""

    @staticmethod
    def vmap(info, in_dims, x, k, y):
        assert (info.randomness, in_dims[1]) == ("error", None)
        x, y = (z.expand(info.batch_size, *z.shape) if dim is None else z for z, dim in [
            (x, in_dims[0]), (y, in_dims[2])])  # fmt: skip
        return WithRule.apply(x, k, y), (0, 0)


OPERATIONS = {
    "setup_context": lambda x, y: Scaled.apply(x, 3, y)[0],
    "ctx": lambda x, y: WithContext.apply(x, 3, y),
    "vmap": lambda x, y: WithRule.apply(x, 3, y)[0],
}


def transforms(op: Any, dims: tuple[int | None, int | None]) -> dict[str, Any]:
    """Functions of x and y, (3, 3) each, with vmap inside; what all examples share is the first row."""

    def over(function):
        return lambda x, y: func.vmap(function, dims)(
            *(z[0] if dim is None else z for z, dim in zip((x, y), dims, strict=True))
        )

    mapped = over(op)
    rows = over(func.grad(lambda x, y: (op(x, y) ** 2).sum(), (0, 1)))

    def energy(x, y):
        return (mapped(x, y) ** 2).sum()

    def slopes_energy(x, y):
        return sum((g**2).sum() for g in func.grad(energy, (0, 1))(x, y))

    return {
        "grad": func.grad(energy, (0, 1)),
        "grad of grad": func.grad(slopes_energy, (0, 1)),
        "jvp": lambda x, y: func.jvp(energy, (x, y), (y, x)),
        "jvp of grad": lambda x, y: func.jvp(func.grad(energy), (x, y), (y, x)),
        "grad inside": rows,
        "grad of grad inside": func.grad(lambda x, y: sum((g**2).sum() for g in rows(x, y)), (0, 1)),
        "hessian": func.hessian(energy),
        "two levels": func.grad(
            lambda x, y: (func.vmap(lambda row, y: mapped(row[:, None] * x, y), (0, None))(x, y) ** 2).sum()
        ),
    }


@pytest.mark.parametrize("transform", transforms(OPERATIONS["ctx"], (0, 0)))
@pytest.mark.parametrize("form", OPERATIONS)
def test_derivatives(form, transform):
    rng = np.random.default_rng(0)
    with nbdl.use_backend("numpy"):
        x, y = (nbdl.tensor(rng.uniform(0.5, 2, (3, 3))) for _ in range(2))
        for dims in ((0, 0), (1, 0), (0, None), (None, 1)):
            found = transforms(OPERATIONS[form], dims)[transform](x, y)
            expected = transforms(lambda x, y: x**3 * y, dims)[transform](x, y)
            pairs = zip(*(z if isinstance(z, tuple) else (z,) for z in (found, expected)), strict=True)
            for a, b in pairs:
                np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=0)


def test_the_rule_is_what_runs():
    class Counting(WithRule):
        @staticmethod
        def vmap(info, in_dims, x, k, y):
            return (x.movedim(0, -1) * 10, x.new_zeros(())), (-1, None)

    x = nbdl.tensor([[1.0, 2.0], [3.0, 4.0]])
    found, shared = func.vmap(lambda x: Counting.apply(x, 2, x), out_dims=(0, None))(x)
    np.testing.assert_array_equal(found.numpy(), 10 * x.numpy())
    assert shared.shape == ()


def doubling(**methods: Any) -> Any:
    return type("Doubling", (Function,), {
        "forward": staticmethod(lambda x: 2 * x),
        **{name: staticmethod(method) for name, method in methods.items()},
    })  # fmt: skip


def no_context(ctx, inputs, output):
    """Nothing to save."""


@pytest.mark.parametrize(
    ("methods", "error", "message"),
    [
        ({"vmap": lambda info, dims, x: (2 * x, 0)}, RuntimeError, "must have setup_context as well"),
        ({"vmap": lambda info, dims, x: 2 * x, "setup_context": no_context}, ValueError, "got Tensor"),
        (
            {"vmap": lambda info, dims, x: (x, (0, 0)), "setup_context": no_context},
            ValueError,
            "1 outputs and 2 out_dims",
        ),
    ],
)
def test_wrong_rules(methods, error, message):
    with pytest.raises(error, match=message):
        func.vmap(doubling(**methods).apply)(nbdl.ones(3))


def test_changes_in_place_are_refused():
    class Twice(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x.mul_(2))
            return x

    with pytest.raises(RuntimeError, match="mark_dirty cannot be used under vmap"):
        func.grad(lambda x: func.vmap(lambda x: Twice.apply(x * 1))(x).sum())(nbdl.ones(3))


def test_outputs_without_derivative_have_none_outside():
    x = nbdl.ones(3, requires_grad=True)
    values, signs = func.vmap(lambda x: Scaled.apply(x, 2, x))(x)
    assert (values.requires_grad, signs.requires_grad) == (True, False)
