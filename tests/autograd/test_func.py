"""nbdl.func: values against closed forms and finite differences, nesting, nests of arguments, errors."""

from __future__ import annotations

import itertools
from collections import OrderedDict, namedtuple

import numpy as np
import pytest

import nbdl
from nbdl import func


def vector(*values, **options):
    return nbdl.tensor(values, dtype="float64", **options)


def scalar(value, **options):
    return nbdl.tensor(value, dtype="float64", **options)


def derivative_in_forward_mode(f):
    return lambda x: func.jvp(f, (x,), (nbdl.ones_like(x),))[1]


MODES = {"reverse": func.grad, "forward": derivative_in_forward_mode}
nested = pytest.mark.parametrize(("outer", "inner"), list(itertools.product(MODES, MODES)))


# ---------------------------------------------------------------------------------------------------- nesting
@nested
def test_inner_derivatives_do_not_see_outer_perturbations(outer, inner):
    """d/dx (x * d/dy (x + y)) = 1 (Siskind and Pearlmutter, Perturbation confusion, 2005)."""
    x, y = scalar(3.0), scalar(1.0)
    assert MODES[outer](lambda x: x * MODES[inner](lambda y: x + y)(y))(x).item() == 1.0


@nested
def test_inner_derivative_at_the_outer_variable(outer, inner):
    # d/dx (x * 2 x^2) = 6 x^2
    assert MODES[outer](lambda x: x * MODES[inner](lambda y: x * y * y)(x))(scalar(3.0)).item() == 54.0


@pytest.mark.parametrize("modes", list(itertools.product(MODES, repeat=4)), ids="-".join)
def test_fourth_derivative_in_every_order_of_modes(modes):
    f = nbdl.sin
    for mode in modes:
        f = MODES[mode](f)
    assert f(scalar(0.5)).item() == pytest.approx(np.sin(0.5), abs=1e-12)


@nested
def test_third_order_through_products_and_reductions(outer, inner):
    x, v = vector(0.3, 0.7, 1.1), vector(1.0, -2.0, 0.5)

    def f(x):
        return (x.exp() * x.sum()).tanh().sum()

    def along(g):
        return lambda t: g(x + t * v)

    phi = along(f)
    found = MODES[outer](MODES[inner](MODES[outer](phi)))(scalar(0.0)).item()
    values = [phi(scalar(k * 1e-3)).item() for k in (-2, -1, 1, 2)]
    assert found == pytest.approx((-values[0] + 2 * values[1] - 2 * values[2] + values[3]) / 2e-9, rel=1e-3)


def test_tangents_that_outlive_their_level_are_ignored():
    leaked = []

    def f(x):
        leaked.append(x)
        return x * x

    func.jvp(f, (scalar(3.0),), (scalar(1.0),))
    _, slope = func.jvp(lambda x: x * leaked[0], (scalar(2.0),), (scalar(1.0),))
    assert slope.item() == 3.0


# ----------------------------------------------------------------------------------------------------- values
def field(x):
    return (x.sin() * x.sum()).tanh()


def test_jacobians_agree():
    x = vector(0.3, 0.5, 0.9)
    numerical = np.stack(
        [((field(x + h) - field(x - h)) / 2e-6).numpy() for h in nbdl.eye(3, dtype="float64") * 1e-6], -1
    )
    for jacobian in (func.jacrev(field), func.jacfwd(field)):
        np.testing.assert_allclose(jacobian(x).numpy(), numerical, rtol=1e-8)


def test_jvp_vjp_and_linearize_are_products_with_the_jacobian():
    x, v = vector(0.3, 0.5, 0.9), vector(1.0, 2.0, -1.0)
    jacobian = func.jacrev(field)(x)
    value, slope = func.jvp(field, (x,), (v,))
    out, pullback = func.vjp(field, x)
    again, pushforward = func.linearize(field, x)
    for y in (value, out, again):
        np.testing.assert_array_equal(y.numpy(), field(x).numpy())
        assert not y.requires_grad
    np.testing.assert_allclose(slope.numpy(), (jacobian @ v).numpy(), rtol=1e-12)
    np.testing.assert_allclose(pushforward(v).numpy(), (jacobian @ v).numpy(), rtol=1e-12)
    np.testing.assert_allclose(pullback(v)[0].numpy(), (v @ jacobian).numpy(), rtol=1e-12)
    np.testing.assert_allclose(pullback(2 * v)[0].numpy(), 2 * (v @ jacobian).numpy(), rtol=1e-12)


def test_hessians_agree():
    x, v = vector(0.3, 0.5, 0.9), vector(1.0, 2.0, -1.0)

    def f(x):
        return field(x).sum() ** 2

    hessian = func.hessian(f)(x)
    for outer, inner in itertools.product((func.jacrev, func.jacfwd), repeat=2):
        np.testing.assert_allclose(outer(inner(f))(x).numpy(), hessian.numpy(), rtol=1e-10)
    np.testing.assert_allclose(hessian.numpy(), hessian.T.numpy(), rtol=1e-10)
    np.testing.assert_allclose(func.hvp(f, x, v).numpy(), (hessian @ v).numpy(), rtol=1e-10)
    (product,) = func.hvp(f, (x,), (v,))
    np.testing.assert_allclose(product.numpy(), (hessian @ v).numpy(), rtol=1e-10)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # PyTorch's own
def test_against_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    a, b = np.random.default_rng(0).normal(size=(2, 3)), np.random.default_rng(1).normal(size=(3,))

    def f(library):
        return lambda p, y: {"out": library.tanh(p["w"] @ y), "norm": (p["w"] * p["w"]).sum() * y.sum()}

    ours = ({"w": nbdl.tensor(a)}, nbdl.tensor(b))
    theirs = ({"w": torch.tensor(a)}, torch.tensor(b))
    for name in ("jacrev", "jacfwd"):
        for argnums in (0, 1, (0, 1)):
            mine = getattr(func, name)(f(nbdl), argnums)(*ours)
            twin = getattr(torch.func, name)(f(torch), argnums)(*theirs)
            assert_same_nest(mine, twin)
    mine = func.hessian(lambda *args: f(nbdl)(*args)["norm"], (0, 1))(*ours)
    assert_same_nest(mine, torch.func.hessian(lambda *args: f(torch)(*args)["norm"], (0, 1))(*theirs))


def assert_same_nest(mine, twin):
    if isinstance(twin, dict):
        assert set(mine) == set(twin)
        for key in twin:
            assert_same_nest(mine[key], twin[key])
    elif isinstance(twin, (tuple, list)):
        assert type(mine) is type(twin)
        for x, y in zip(mine, twin, strict=True):
            assert_same_nest(x, y)
    else:
        np.testing.assert_allclose(mine.numpy(), twin.numpy(), rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------------------------------- arguments and nests
def test_argnums():
    f = lambda x, y, k: (x * x * y).sum() * k  # noqa: E731
    x, y = vector(1.0, 2.0), vector(3.0, 4.0)
    assert func.grad(f)(x, y, 2).tolist() == [12.0, 32.0]
    assert func.grad(f, 1)(x, y, k=2).tolist() == [2.0, 8.0]
    assert [g.tolist() for g in func.grad(f, (1, 0))(x, y, 1)] == [[1.0, 4.0], [6.0, 16.0]]


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize("container", [lambda a, b: [a, b], Pair, lambda a, b: OrderedDict(a=a, b=(b,))])
def test_nests_keep_their_type(container):
    def f(p):
        a, b = p.values() if isinstance(p, dict) else p
        return (a * a * (b[0] if isinstance(b, tuple) else b)).sum()

    p = container(vector(1.0, 2.0), vector(3.0, 4.0))
    gradient = func.grad(f)(p)
    assert type(gradient) is type(p)
    a, b = gradient.values() if isinstance(p, dict) else gradient
    assert a.tolist() == [6.0, 16.0]
    assert (b[0] if isinstance(b, tuple) else b).tolist() == [1.0, 4.0]


def test_aux():
    f = lambda x: ((x * x).sum(), {"twice": x * 2})  # noqa: E731
    x = vector(1.0, 2.0)
    gradient, aux = func.grad(f, has_aux=True)(x)
    assert aux["twice"].tolist() == [2.0, 4.0]
    assert not aux["twice"].requires_grad
    gradient, (value, aux) = func.grad_and_value(f, has_aux=True)(x)
    assert (gradient.tolist(), value.item()) == ([2.0, 4.0], 5.0)
    value, slope, aux = func.jvp(f, (x,), (x,), has_aux=True)
    assert (slope.item(), aux["twice"].tolist()) == (10.0, [2.0, 4.0])
    value, pullback, aux = func.vjp(f, x, has_aux=True)
    assert pullback(scalar(1.0))[0].tolist() == [2.0, 4.0]
    for jacobian in (func.jacrev, func.jacfwd):
        found, aux = jacobian(f, has_aux=True)(x)
        assert (found.tolist(), aux["twice"].tolist()) == ([2.0, 4.0], [2.0, 4.0])


def test_constant_functions_have_derivative_zero():
    x = vector(1.0, 2.0)
    c = scalar(7.0)
    assert func.grad(lambda x: c)(x).tolist() == [0.0, 0.0]
    assert func.jvp(lambda x: c, (x,), (x,))[1].item() == 0.0
    assert func.jacrev(lambda x: c)(x).tolist() == [0.0, 0.0]
    assert func.jacfwd(lambda x: c)(x).tolist() == [0.0, 0.0]
    assert func.linearize(lambda x: c, x)[1](x).item() == 0.0


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (1, 2)])
def test_jacobian_shapes(shape):
    x = nbdl.ones(shape, dtype="float64")
    for jacobian in (func.jacrev, func.jacfwd):
        assert jacobian(lambda x: x * 2)(x).shape == shape + shape
        assert jacobian(lambda x: x.sum())(x).shape == shape


# ------------------------------------------------------------------------------------- the tape of the caller
def test_results_are_on_the_tape_only_where_they_should_be():
    x, w = vector(1.0, 2.0), vector(3.0, 4.0, requires_grad=True)
    assert not func.grad(lambda x: (x**3).sum())(x).requires_grad
    gradient = func.grad(lambda x: (x * x * w).sum())(x)
    gradient.sum().backward()
    assert w.grad.tolist() == [2.0, 4.0]
    assert x.grad is None


def test_derivatives_of_a_leaf_of_the_caller():
    x = vector(1.0, 2.0, requires_grad=True)
    func.grad(lambda x: (x**3).sum())(x).sum().backward()
    assert x.grad.tolist() == [6.0, 12.0]
    x.grad = None
    func.jvp(lambda x: x**3, (x,), (nbdl.ones_like(x.detach()),))[1].sum().backward()
    assert x.grad.tolist() == [6.0, 12.0]


def test_under_no_grad():
    x = vector(1.0, 2.0, requires_grad=True)
    with nbdl.no_grad():
        gradient = func.grad(lambda x: (x**3).sum())(x)
    assert gradient.tolist() == [3.0, 12.0]
    assert not gradient.requires_grad


def test_the_product_is_differentiable_by_its_vector():
    x = vector(1.0, 2.0)
    out, pullback = func.vjp(lambda x: x**3, x)
    g = func.grad(lambda v: (pullback(v)[0] * vector(1.0, 10.0)).sum())(nbdl.ones_like(out))
    assert g.tolist() == [3.0, 120.0]


# ----------------------------------------------------------------------------------------------------- errors
x1 = vector(1.0, 2.0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: func.grad(lambda x: x * 2)(x1), RuntimeError, "scalar tensor, got shape"),
        (lambda: func.grad(lambda x: 3.0)(x1), RuntimeError, "must return a tensor, got float"),
        (lambda: func.grad(nbdl.sum)(3.0), TypeError, "must be tensors.*got float"),
        (lambda: func.grad(nbdl.sum)(nbdl.tensor([1, 2])), RuntimeError, "floating point tensors, got int64"),
        (lambda: func.grad(nbdl.sum, argnums=1)(x1), RuntimeError, "out of range"),
        (lambda: func.grad(nbdl.sum, argnums=())(x1), RuntimeError, "must not be empty"),
        (lambda: func.grad(nbdl.sum, argnums="x")(x1), TypeError, "argnums must be an int"),
        (lambda: func.grad(nbdl.mul, argnums=(0, -2))(x1, x1), RuntimeError, "must be unique"),
        (lambda: func.grad(nbdl.sum, has_aux=True)(x1), RuntimeError, "must return a tuple"),
        (lambda: func.jvp(nbdl.sin, x1, (x1,)), RuntimeError, "primals to be a tuple"),
        (lambda: func.jvp(nbdl.sin, (x1,), x1), RuntimeError, "tangents to be a tuple"),
        (lambda: func.jvp(nbdl.sin, (x1,), (x1, x1)), RuntimeError, "same structure"),
        (lambda: func.jvp(nbdl.sin, (x1,), (x1[:1],)), RuntimeError, "number 0 has shape"),
        (lambda: func.jvp(lambda x: x1, (x1,), (x1,), strict=True), RuntimeError, "strict=True"),
        (lambda: func.vjp(nbdl.sin, x1)[1]((x1,)), RuntimeError, "same structure"),
        (lambda: func.vjp(nbdl.sin, x1)[1](x1[:1]), RuntimeError, "number 0 has shape"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


# -------------------------------------------------------------------------------------------- functional_call
class Net(nbdl.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nbdl.nn.Linear(2, 3)
        self.second = nbdl.nn.Linear(3, 1)
        self.register_buffer("shift", nbdl.zeros(1))

    def forward(self, x, scale=1.0):
        return self.second(self.first(x).tanh()) * scale + self.shift


def test_functional_call_is_the_module_with_other_tensors():
    net = Net()
    x = nbdl.ones(5, 2)
    params = {name: parameter.detach() + 1 for name, parameter in net.named_parameters()}
    expected = params["second.bias"] + (
        (x @ params["first.weight"].T + params["first.bias"]).tanh() @ params["second.weight"].T
    )
    before = dict(net.named_parameters())
    out = func.functional_call(net, (params, {"shift": nbdl.ones(1)}), (x,), {"scale": 2.0})
    np.testing.assert_allclose(out.numpy(), (expected * 2 + 1).numpy(), rtol=1e-6)
    assert all(parameter is before[name] for name, parameter in net.named_parameters())


def test_gradient_by_the_parameters_of_a_module():
    net = Net()
    x = nbdl.ones(5, 2)
    params = {name: parameter.detach() for name, parameter in net.named_parameters()}
    gradient = func.grad(lambda p: func.functional_call(net, p, x).square().sum())(params)
    net(x).square().sum().backward()
    for name, parameter in net.named_parameters():
        np.testing.assert_allclose(gradient[name].numpy(), parameter.grad.numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ({"third.weight": x1}, {}, "no parameters or buffers called third.weight"),
        ({"first.weight": x1}, {"strict": True}, "missing keys.*second.bias"),
        (({"shift": x1}, {"shift": x1}), {}, "several of the dicts"),
    ],
)
def test_functional_call_errors(given, options, message):
    net = Net()
    with pytest.raises(RuntimeError, match=message):
        func.functional_call(net, given, nbdl.ones(1, 2), **options)


def test_functional_call_restores_after_an_error():
    net = Net()
    weight = net.first.weight
    with pytest.raises(RuntimeError):
        func.functional_call(net, {"first.weight": nbdl.ones(7, 7)}, nbdl.ones(1, 2))
    assert net.first.weight is weight


def test_tied_weights_are_replaced_under_all_names():
    net = Net()
    net.second = net.first
    new = nbdl.zeros(3, 2)
    names = {}

    class Probe(nbdl.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self):
            names["first"], names["second"] = self.net.first.weight, self.net.second.weight
            return nbdl.zeros(1)

    func.functional_call(Probe(), {"net.first.weight": new})
    assert names["first"] is names["second"] is new
