"""Operations of the user's own: Function and custom_op."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl
from nbdl import func
from nbdl.autograd import Function, custom_op, gradcheck, gradgradcheck, numba_kernel
from nbdl.autograd.function import once_differentiable


def leaf(*shape, seed=0):
    return nbdl.tensor(np.random.default_rng(seed).uniform(0.5, 1.5, shape), requires_grad=True)


class Exp(Function):
    """Saves its output, takes a number beside the tensor."""

    @staticmethod
    def forward(ctx, x, factor):
        y = (x * factor).exp()
        ctx.factor = factor
        ctx.save_for_backward(y)
        ctx.save_for_forward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return ctx.factor * y * g, None

    @staticmethod
    def jvp(ctx, t, _):
        (y,) = ctx.saved_tensors
        return ctx.factor * y * t


class ProductAndSum(Function):
    """Several outputs, one without derivative; the newer form with setup_context."""

    @staticmethod
    def forward(x, y):
        return x * y, x + y, x > y

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)
        ctx.mark_non_differentiable(output[2])

    @staticmethod
    def backward(ctx, g, h, _):
        x, y = ctx.saved_tensors
        return g * y + h, g * x + h

    @staticmethod
    def jvp(ctx, t, u):
        x, y = ctx.saved_tensors
        return t * y + x * u, t + u, None


class SquareInPlace(Function):
    @staticmethod
    def forward(ctx, x):
        x.mul_(x)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return 2 * y.sqrt() * g


def square_of_a_view(x):
    y = x.clone()
    assert SquareInPlace.apply(y[0]).grad_fn is not None
    return y * y[0]


@pytest.mark.parametrize(
    ("function", "count", "forward"),
    [
        (lambda x: Exp.apply(x, 0.5), 1, True),
        (lambda x, y: Exp.apply(x * y, 0.5) * x, 2, True),
        (ProductAndSum.apply, 2, True),
        (lambda x, y: ProductAndSum.apply(x, y)[1], 2, True),
        (lambda x: SquareInPlace.apply(x.clone()).sin(), 1, False),
        (square_of_a_view, 1, False),
    ],
)
def test_derivatives(function, count, forward, backend):
    inputs = tuple(leaf(2, 3, seed=k) for k in range(count))
    assert gradcheck(function, inputs, check_forward_ad=forward)
    assert gradgradcheck(function, inputs, check_fwd_over_rev=forward)


def test_nested_forward_mode():
    second = func.hessian(lambda x: Exp.apply(x, 2.0).sum())(leaf(3).detach())
    np.testing.assert_allclose(second.numpy(), np.diag(4 * np.exp(2 * leaf(3).detach().numpy())))


def test_forward_is_not_recorded_and_backward_sees_what_it_needs():
    seen = {}

    class Probe(Function):
        @staticmethod
        def forward(ctx, x, y, k):
            seen["recorded"] = (x * y).requires_grad
            seen["needs"] = ctx.needs_input_grad
            return x * k

        @staticmethod
        def backward(ctx, g):
            seen["backward recorded"] = nbdl.is_grad_enabled()
            return g * 3, None, None

    x, y = leaf(2), leaf(2).detach()
    out = Probe.apply(x, y, 3)
    assert type(out.grad_fn).__name__ == "Node"
    assert out.grad_fn.name() == "ProbeBackward"
    out.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]
    assert seen == {"recorded": False, "needs": (True, False, False), "backward recorded": False}


@pytest.mark.parametrize("materialize", [True, False])
def test_missing_gradients(materialize):
    seen = []

    class Two(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(materialize)
            return x * 1, x * 2

        @staticmethod
        def backward(ctx, g, h):
            seen.append(None if h is None else h.tolist())
            return g

    Two.apply(leaf(2))[0].sum().backward()
    assert seen == [[0.0, 0.0] if materialize else None]


def test_outputs_that_are_no_tensors_pass_through():
    class Mixed(Function):
        @staticmethod
        def forward(ctx, x):
            return "label", x * 2, None

        @staticmethod
        def backward(ctx, g):
            return g * 2

    label, y, nothing = Mixed.apply(leaf(2))
    assert (label, nothing) == ("label", None)
    y.sum().backward()


def test_integer_outputs_need_no_gradient():
    class Sign(Function):
        @staticmethod
        def forward(ctx, x):
            return (x > 1).long()

    assert not Sign.apply(leaf(2)).requires_grad


def test_saved_values_are_guarded():
    y = leaf(3) * 1
    out = Exp.apply(y, 1.0)
    with nbdl.no_grad():
        out.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
    out = Exp.apply(y, 1.0).sum()
    out.backward()
    with pytest.raises(RuntimeError, match="second time"):
        out.backward()


def make(**methods):
    return type("Broken", (Function,), {"forward": staticmethod(lambda ctx, x, k: x * k)} | {
        name: staticmethod(method) for name, method in methods.items()
    })  # fmt: skip


@pytest.mark.parametrize(
    ("backward", "error", "message"),
    [
        (lambda ctx, g: g, RuntimeError, r"incorrect number of gradients \(expected 2, got 1\)"),
        (lambda ctx, g: (g, None, g), RuntimeError, "incorrect number of gradients"),
        (lambda ctx, g: (g, g), RuntimeError, "different from None at position 2"),
        (lambda ctx, g: (1.0, None), TypeError, "gradient of type float at position 0"),
        (
            lambda ctx, g: (g.sum(), None),
            RuntimeError,
            r"invalid gradient: got shape \(\) but expected \(3,\)",
        ),
    ],
)
def test_wrong_gradients(backward, error, message):
    with pytest.raises(error, match=message):
        make(backward=backward).apply(leaf(3), 2.0).sum().backward()


def test_missing_methods():
    with pytest.raises(NotImplementedError, match="must implement the backward"):
        make().apply(leaf(3), 2.0).sum().backward()
    with pytest.raises(NotImplementedError, match="must implement the jvp"):
        func.jvp(lambda x: make().apply(x, 2.0), (leaf(3),), (leaf(3),))
    with pytest.raises(NotImplementedError, match="forward"):
        Function.apply(leaf(3))
    with pytest.raises(RuntimeError, match="not instantiated"):
        Exp()


def test_wrong_tangents():
    broken = make(jvp=lambda ctx, t, _: (t, t))
    with pytest.raises(RuntimeError, match="returned 2 tangents for 1 outputs"):
        func.jvp(lambda x: broken.apply(x, 2.0), (leaf(3),), (leaf(3),))
    broken = make(jvp=lambda ctx, t, _: t.sum())
    with pytest.raises(RuntimeError, match="tangent of shape"):
        func.jvp(lambda x: broken.apply(x, 2.0), (leaf(3),), (leaf(3),))


def test_wrong_saves():
    with pytest.raises(TypeError, match="can only save tensors"):
        make(forward=lambda ctx, x, k: ctx.save_for_backward(k)).apply(leaf(3), 2.0)
    with pytest.raises(RuntimeError, match="in backward and jvp only"):
        make(forward=lambda ctx, x, k: ctx.saved_tensors).apply(leaf(3), 2.0)


def test_once_differentiable():
    class Cube(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        @once_differentiable
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 3 * x * x * g

    x = leaf(3)
    Cube.apply(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 3 * x.detach().numpy() ** 2)
    (g,) = nbdl.autograd.grad(Cube.apply(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()
    for once in (
        func.grad(lambda x: Cube.apply(x).sum()),
        func.grad(lambda x: func.vmap(Cube.apply)(x).sum()),
        func.vmap(func.grad(Cube.apply)),
    ):
        np.testing.assert_allclose(once(x.detach()).numpy(), 3 * x.detach().numpy() ** 2)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            func.grad(lambda x, once=once: once(x).sum())(x.detach())


def test_a_dirty_leaf_is_refused():
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        SquareInPlace.apply(leaf(3))


# -------------------------------------------------------------------------------------------------- custom_op
@numba_kernel
def cube_loops(x, y, out, scale):
    a, b, c = x.reshape(-1), y.reshape(-1), out.reshape(-1)
    for i in range(a.size):
        c[i] = scale * a[i] * a[i] * a[i] * b[i]


def numpy_kernel(x, y, out, scale):
    np.multiply(scale * x**3, y, out=out)


def cube_vjp(node, g, scale):
    x, y = node.inputs
    return 3 * scale * x * x * y * g, scale * x**3 * g


def cube_jvp(inputs, outputs, tangents, scale):
    (x, y), (t, u) = inputs, tangents
    return 3 * scale * x * x * y * (0 if t is None else t) + scale * x**3 * (0 if u is None else u)


def make_cube(**options):
    return custom_op("scaled_cube", numpy=numpy_kernel, vjp=cube_vjp, jvp=cube_jvp, **options)


def test_custom_op(backend):
    op = make_cube(numba=cube_loops)
    x, y = leaf(3, 2), leaf(2, 3, seed=1)
    np.testing.assert_allclose(op(x, y.T, scale=2.0).detach().numpy(), 2 * (x**3 * y.T).detach().numpy())
    assert gradcheck(lambda x, y: op(x, y.T, scale=2.0), (x, y), check_forward_ad=True)
    assert gradgradcheck(lambda x, y: op(x, y.T, scale=2.0), (x, y), check_fwd_over_rev=True)


def test_custom_op_with_several_outputs_and_a_shape_rule(backend):
    def rows(x):
        if len(x.shape) != 2:
            raise RuntimeError(f"row_extrema: x must be a matrix, got shape {x.shape}")
        return [((x.shape[0],), x.dtype), ((x.shape[0],), x.dtype)]

    def kernel(x, low, high):
        np.min(x, axis=1, out=low)
        np.max(x, axis=1, out=high)

    op = custom_op("row_extrema", numpy=kernel, shape=rows)
    low, high = op(nbdl.tensor([[3.0, 1.0], [2.0, 5.0]]))
    assert (low.tolist(), high.tolist()) == ([1.0, 2.0], [3.0, 5.0])
    with pytest.raises(RuntimeError, match="must be a matrix"):
        op(nbdl.ones(3))
    low, _ = op(leaf(2, 2))
    with pytest.raises(RuntimeError, match="made without vjp"):
        low.sum().backward()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: custom_op("f", numpy=3), TypeError, "numpy must be a function, got int"),
        (lambda: custom_op("f", numpy=numpy_kernel, vjp=1), TypeError, "vjp must be a function"),
        (lambda: make_cube()("x", leaf(2), scale=1.0), TypeError, "argument 1 must be a tensor"),
        (lambda: make_cube()(leaf(2), leaf(3), scale=1.0), RuntimeError, "cannot be broadcast"),
        (lambda: make_cube()(leaf(2), leaf(2), scale=[1]), TypeError, "parameters must be hashable"),
        (
            lambda: make_cube(shape=lambda x, y, scale: 3)(leaf(2), leaf(2), scale=1),
            TypeError,
            "shape must return",
        ),
        (lambda: make_cube().kernel("cupy"), RuntimeError, "no kernel for the backend cupy, only for numpy"),
    ],
)
def test_custom_op_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_custom_op_rules_are_counted():
    op = custom_op("pair", numpy=lambda x, y, out: np.add(x, y, out=out), vjp=lambda node, g: g)
    with pytest.raises(RuntimeError, match=r"pair: vjp returned 1 results \(expected 2\)"):
        op(leaf(2), leaf(2)).sum().backward()


def test_a_custom_op_in_a_compiled_step(backend):
    op = make_cube(numba=cube_loops)
    y = leaf(3)

    @nbdl.compile
    def step(x):
        y.grad = None
        loss = op(x, y, scale=2.0).sum()
        loss.backward()
        return loss.detach()

    for seed in (1, 2):
        x = leaf(3, seed=seed).detach()
        assert step(x).item() == pytest.approx((2 * x**3 * y.detach()).sum().item())
        np.testing.assert_allclose(y.grad.numpy(), 2 * x.numpy() ** 3)
