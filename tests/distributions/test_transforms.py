"""Transforms: inverses, Jacobians, shapes, caches, and constraints with the transforms onto them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nbdl
from nbdl import distributions as d
from nbdl.distributions import constraints, utils
from nbdl.func import jacrev

T = nbdl.tensor


def double(*values: Any) -> nbdl.Tensor:
    return nbdl.tensor(np.array(values, np.float64))


# name: (how it is made, shape of one argument)
TRANSFORMS: dict[str, tuple[Callable[[], d.Transform], tuple[int, ...]]] = {
    "exp": (d.ExpTransform, ()),
    "power": (lambda: d.PowerTransform(double(-1.5)[0]), ()),
    "sigmoid": (d.SigmoidTransform, ()),
    "softplus": (d.SoftplusTransform, ()),
    "tanh": (d.TanhTransform, ()),
    "affine": (lambda: d.AffineTransform(1.0, -3.0), ()),
    "affine of vectors": (lambda: d.AffineTransform(0.5, double(1.0, -2.0, 3.0), event_dim=1), (3,)),
    "distribution function": (lambda: d.CumulativeDistributionTransform(d.Normal(double(0.3)[0], 2.0)), ()),
    "reshape": (lambda: d.ReshapeTransform((6,), (2, 3)), (6,)),
    "stick breaking": (d.StickBreakingTransform, (4,)),
    "correlations": (d.CorrCholeskyTransform, (6,)),
    "independent": (lambda: d.IndependentTransform(d.ExpTransform(), 1), (3,)),
    "composition": (
        lambda: d.ComposeTransform([d.TanhTransform(), d.AffineTransform(2.0, -0.5), d.ExpTransform()]),
        (),
    ),
    "composition of events": (
        lambda: d.ComposeTransform([d.ExpTransform(), d.StickBreakingTransform()]),
        (3,),
    ),
    "nothing": (lambda: d.identity_transform, ()),
    "inverse": (lambda: d.SigmoidTransform().inv, ()),
    "cat": (lambda: d.CatTransform([d.ExpTransform(), d.TanhTransform()], dim=-1, lengths=[1, 2]), (3,)),
    "stack": (lambda: d.StackTransform([d.ExpTransform(), d.SigmoidTransform()], dim=-1), (2,)),
}
# Their event has no axis, and their domain one: log-determinants of elements are not of the whole.
PARTWISE = ("cat", "stack")


def arguments(transform: d.Transform, shape: tuple[int, ...], batch: tuple[int, ...] = ()) -> nbdl.Tensor:
    x = np.random.default_rng(3).standard_normal((*batch, *shape))
    if transform.domain is constraints.positive or isinstance(transform.domain, constraints.interval):
        x = 1 / (1 + np.exp(-x))
    return nbdl.tensor(x)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_inverse_and_sets(name: str, backend: str) -> None:
    make, shape = TRANSFORMS[name]
    transform = make()
    x = arguments(transform, shape, (5,))
    y = transform(x)
    np.testing.assert_allclose(transform.inv(y).numpy(), x.numpy(), rtol=1e-10, atol=1e-12)
    assert bool(transform.domain.check(x).all())
    assert bool(transform.codomain.check(y).all())
    assert transform.bijective
    assert transform.forward_shape(x.shape) == y.shape
    assert transform.inverse_shape(y.shape) == x.shape
    assert transform.inv.inv is transform
    assert transform.inv.domain.event_dim == transform.codomain.event_dim
    log_det = transform.log_abs_det_jacobian(x, y)
    assert log_det.shape == x.shape[: x.ndim - (0 if name in PARTWISE else len(shape))]
    opposite = transform.inv.log_abs_det_jacobian(y, x)
    np.testing.assert_allclose(opposite.numpy(), -log_det.numpy(), rtol=1e-12)


def coordinates(name: str, y: nbdl.Tensor) -> nbdl.Tensor:
    """As many elements of a value as its argument has, such that they determine it."""
    if "correlations" in name:
        return utils.tril_matrix_to_vec(y, -1)
    return y[..., :-1] if name in ("stick breaking", "composition of events") else y.reshape(-1)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_jacobian(name: str) -> None:
    make, shape = TRANSFORMS[name]
    transform = make()
    x = arguments(transform, shape)
    with nbdl.use_backend("numpy"):
        jacobian = jacrev(lambda x: coordinates(name, transform(x.reshape(shape))))(x.reshape(-1)).numpy()
        log_det = transform.log_abs_det_jacobian(x, transform(x)).sum().item()
    expected = np.linalg.slogdet(np.atleast_2d(jacobian))
    assert log_det == pytest.approx(expected.logabsdet, rel=1e-10, abs=1e-12)
    if not shape:
        assert float(transform.sign) == expected.sign


@pytest.mark.parametrize(
    "make", [d.SoftmaxTransform, d.LowerCholeskyTransform, d.PositiveDefiniteTransform, d.AbsTransform]
)
def test_right_inverses(make: Callable[[], d.Transform], backend: str) -> None:
    """These lose something of their arguments, and give it back in one way."""
    transform = make()
    x = arguments(transform, (3, 3))
    y = transform(x)
    assert not transform.bijective
    assert bool(transform.codomain.check(y).all())
    np.testing.assert_allclose(transform(transform.inv(y)).numpy(), y.numpy(), rtol=1e-12)


@given(st.integers(1, 6), st.integers(0, 4))
def test_wide_ranges(n: int, seed: int) -> None:
    """Stick breaking and correlations far from 0 keep their inverse."""
    x = nbdl.tensor(np.random.default_rng(seed).uniform(-6, 6, n * (n + 1) // 2))
    with nbdl.use_backend("numpy"):
        for transform in (d.StickBreakingTransform(), d.CorrCholeskyTransform()):
            y = transform(x)
            assert bool(transform.codomain.check(y))
            np.testing.assert_allclose(transform.inv(y).numpy(), x.numpy(), rtol=1e-9, atol=1e-9)


@given(st.integers(1, 5), st.integers(-4, 4))
def test_triangles(n: int, diagonal: int) -> None:
    matrix = nbdl.tensor(np.arange(2.0 * n * n).reshape(2, n, n) + 1)
    if not -n < diagonal < n:
        return
    with nbdl.use_backend("numpy"):
        vector = utils.tril_matrix_to_vec(matrix, diagonal)
        again = utils.vec_to_tril_matrix(vector, diagonal)
        assert nbdl.equal(again, nbdl.tril(matrix, diagonal))


def test_triangle_errors() -> None:
    with pytest.raises(ValueError, match="is outside"):
        utils.tril_matrix_to_vec(nbdl.ones(2, 2), 2)
    with pytest.raises(ValueError, match="dimension is 4 which cannot be expressed"):
        utils.vec_to_tril_matrix(nbdl.ones(4))


def test_caches() -> None:
    x = nbdl.tensor(40.0)
    plain, cached = d.SigmoidTransform(), d.SigmoidTransform(cache_size=1)
    assert plain.inv(plain(x)) != x
    y = cached(x)
    assert cached.inv(y) is x
    assert cached(x) is y
    z = cached.inv(nbdl.tensor(0.5))
    assert cached(z) == 0.5
    for make, _ in TRANSFORMS.values():
        transform = make()
        other = transform.with_cache(1)
        assert type(other) is type(transform)
        assert other._cache_size == 1
        assert other.with_cache(1) is other
        assert other.with_cache(0)._cache_size == 0 or isinstance(other, type(d.ExpTransform().inv))
    assert pickle.loads(pickle.dumps(cached))(x) == y


def test_equality() -> None:
    made = [make() for make, _ in TRANSFORMS.values()]
    again = [make() for make, _ in TRANSFORMS.values()]
    for k, a in enumerate(made):
        for j, b in enumerate(again):
            is_distribution = isinstance(a, d.CumulativeDistributionTransform)  # of an object of its own
            assert (a == b) == (k == j and not is_distribution), (a, b)
        assert hash(a) == hash(again[k])
    assert d.AffineTransform(0.0, 1.0) != d.AffineTransform(0.0, 2.0)
    assert d.PowerTransform(double(1.0, 2.0)) != d.PowerTransform(double(1.0, 3.0))


TRANSFORM_ERRORS: dict[str, tuple[type[Exception], str | None, Callable[[], Any]]] = {
    "cache": (ValueError, "cache_size must be 0 or 1, got 2", lambda: d.ExpTransform(cache_size=2)),
    "reshape": (ValueError, "different numbers of elements", lambda: d.ReshapeTransform((2, 3), (5,))),
    "reshaped": (ValueError, "Shape mismatch", lambda: d.ReshapeTransform((2,), (1, 2))(nbdl.ones(3))),
    "few axes": (ValueError, "Too few dimensions", lambda: d.ReshapeTransform((2,), (1, 2))(nbdl.ones(()))),
    "few axes of a group": (
        ValueError,
        "expected at least 1, got 0",
        lambda: d.IndependentTransform(d.ExpTransform(), 1)(nbdl.ones(())),
    ),
    "stack": (AssertionError, "must be Transform instances", lambda: d.StackTransform([d.ExpTransform(), 3])),
    "lengths": (ValueError, "expected 1 lengths", lambda: d.CatTransform([d.ExpTransform()], 0, [1, 2])),
    "event axes": (ValueError, "domain.event_dim or", lambda: d.CorrCholeskyTransform().event_dim),
    "correlations": (ValueError, "not a flattened", lambda: d.CorrCholeskyTransform().forward_shape((4,))),
    "determinant": (
        NotImplementedError,
        None,
        lambda: d.AbsTransform().log_abs_det_jacobian(nbdl.ones(2), nbdl.ones(2)),
    ),
    "sign": (NotImplementedError, None, lambda: d.SoftmaxTransform().sign),
    "shapes": (
        RuntimeError,
        "cannot be broadcast",
        lambda: d.AffineTransform(nbdl.ones(2), 1.0).forward_shape((3,)),
    ),
    "registry": (
        NotImplementedError,
        "Cannot transform _IntegerInterval constraints",
        lambda: d.biject_to(constraints.integer_interval(0, 2)),
    ),
    "register": (
        TypeError,
        "Constraint subclass or instance",
        lambda: d.biject_to.register(3, lambda _: d.identity_transform),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSFORM_ERRORS)
def test_transform_errors(name: str) -> None:
    error, message, call = TRANSFORM_ERRORS[name]
    with pytest.raises(error, match=message):
        call()


# ---------------------------------------------------------------------------------------------- constraints
SPD = [[2.0, 0.5], [0.5, 1.0]]
# (constraint, what is in it, what is not)
SETS: list[tuple[Any, Any, Any]] = [
    (constraints.boolean, [0.0, 1.0], [0.5, 2.0, float("nan")]),
    (constraints.nonnegative_integer, [0.0, 3.0], [-1.0, 0.5]),
    (constraints.positive_integer, [1.0, 3.0], [0.0, 1.5]),
    (constraints.integer_interval(1, 3), [1.0, 3.0], [0.0, 4.0, 1.5]),
    (constraints.real, [0.0, float("inf")], [float("nan")]),
    (constraints.positive, [0.1], [0.0, -1.0, float("nan")]),
    (constraints.nonnegative, [0.0, 1.0], [-1.0]),
    (constraints.greater_than(2), [3.0], [2.0]),
    (constraints.greater_than_eq(2), [2.0], [1.0]),
    (constraints.less_than(2), [1.0], [2.0]),
    (constraints.interval(-1, 1), [-1.0, 1.0], [-1.1, 1.1]),
    (constraints.half_open_interval(-1, 1), [-1.0], [1.0]),
    (constraints.unit_interval, [0.0, 1.0], [2.0]),
    (constraints.one_hot, [[0.0, 1.0]], [[1.0, 1.0], [0.5, 0.5]]),
    (constraints.simplex, [[0.4, 0.6]], [[0.4, 0.4], [-0.5, 1.5]]),
    (constraints.multinomial(3), [[1.0, 2.0], [1.0, 0.0]], [[2.0, 2.0], [-1.0, 1.0]]),
    (constraints.real_vector, [[0.0, 1.0]], [[0.0, float("nan")]]),
    (constraints.lower_triangular, [[[0.0, 0.0], [1.0, 0.0]]], [[[1.0, 1.0], [0.0, 1.0]]]),
    (constraints.lower_cholesky, [[[1.0, 0.0], [1.0, 2.0]]], [[[1.0, 0.0], [1.0, -2.0]]]),
    (constraints.corr_cholesky, [[[1.0, 0.0], [0.6, 0.8]]], [[[1.0, 0.0], [0.6, 0.9]]]),
    (constraints.square, [SPD], None),
    (constraints.symmetric, [SPD], [[[1.0, 2.0], [3.0, 4.0]]]),
    (constraints.positive_semidefinite, [SPD, [[1.0, 0.0], [0.0, 0.0]]], [[[1.0, 2.0], [2.0, 1.0]]]),
    (constraints.positive_definite, [SPD], [[[1.0, 2.0], [2.0, 1.0]], [[2.0, 0.5], [0.4, 1.0]]]),
    (constraints.independent(constraints.positive, 1), [[1.0, 2.0]], [[1.0, -2.0]]),
    (constraints.MixtureSameFamilyConstraint(constraints.positive), [1.0], [-1.0]),
]


@pytest.mark.parametrize(("constraint", "inside", "outside"), SETS, ids=lambda x: repr(x)[:30])
def test_sets(constraint: Any, inside: Any, outside: Any, backend: str) -> None:
    for values, expected in ((inside, True), (outside, False)):
        if values is not None:
            found = constraint.check(nbdl.tensor(values))
            assert found.tolist() == [expected] * len(values)
            assert found.ndim + constraint.event_dim == nbdl.tensor(values).ndim
    assert isinstance(constraint.is_discrete, bool)


def test_rectangles_and_sequences() -> None:
    wide = nbdl.ones(4, 2, 3)
    for constraint in (constraints.square, constraints.symmetric, constraints.positive_definite):
        assert constraint.check(wide).tolist() == [False] * 4
    joined = constraints.cat([constraints.positive, constraints.real], 0, [2, 1])
    assert joined.check(nbdl.tensor([1.0, -1.0, -1.0])).tolist() == [True, False, True]
    piled = constraints.stack([constraints.positive, constraints.real], 0)
    assert piled.check(nbdl.tensor([[1.0, -1.0], [-1.0, 1.0]])).tolist() == [[True, False], [True, True]]
    assert (joined.event_dim, piled.event_dim, joined.is_discrete) == (0, 0, False)
    with pytest.raises(ValueError, match="expected 1 lengths but got 2"):
        constraints.cat([constraints.real], 0, [1, 2])
    with pytest.raises(ValueError, match=r"Expected value.dim\(\) >= 1 but got 0"):
        constraints.real_vector.check(nbdl.tensor(1.0))


def test_dependent_constraints() -> None:
    dependent = constraints.dependent(is_discrete=True)
    assert constraints.is_dependent(dependent) and constraints.is_dependent(d.Uniform.support)
    assert not constraints.is_dependent(constraints.real)
    assert dependent.is_discrete
    with pytest.raises(NotImplementedError, match="event_dim cannot be determined statically"):
        dependent.event_dim
    with pytest.raises(ValueError, match="Cannot determine validity of dependent constraint"):
        dependent.check(nbdl.ones(1))


REPRS = {
    "Interval(lower_bound=0.0, upper_bound=1.0)": constraints.unit_interval,
    "GreaterThan(lower_bound=0.0)": constraints.positive,
    "IndependentConstraint(Real(), 1)": constraints.real_vector,
    "Simplex()": constraints.simplex,
    "Multinomial()": constraints.multinomial(3),
    "MixtureSameFamilyConstraint(Real())": constraints.MixtureSameFamilyConstraint(constraints.real),
    "_InverseTransform(ExpTransform())": d.ExpTransform().inv,
    "ComposeTransform(\n    ExpTransform(),\n    TanhTransform()\n)": d.ComposeTransform(
        [d.ExpTransform(), d.TanhTransform()]
    ),
    "IndependentTransform(ExpTransform(), 1)": d.IndependentTransform(d.ExpTransform(), 1),
}


@pytest.mark.parametrize("expected", REPRS)
def test_reprs(expected: str) -> None:
    assert repr(REPRS[expected]) == expected


UNCONSTRAINED = [
    constraints.real, constraints.positive, constraints.nonnegative, constraints.greater_than(3.0),
    constraints.less_than(-2.0), constraints.interval(2.0, 5.0), constraints.unit_interval,
    constraints.half_open_interval(0.0, 2.0), constraints.real_vector, constraints.simplex,
    constraints.corr_cholesky, constraints.lower_cholesky, constraints.positive_definite,
    constraints.independent(constraints.positive, 1),
    constraints.cat([constraints.positive, constraints.real], -1, [2, 1]),
    constraints.stack([constraints.positive, constraints.real, constraints.unit_interval], -1),
]  # fmt: skip


@pytest.mark.parametrize("constraint", UNCONSTRAINED, ids=repr)
def test_registries(constraint: Any) -> None:
    x = nbdl.tensor(np.random.default_rng(0).standard_normal((3, 3)))
    with nbdl.use_backend("numpy"):
        y = d.transform_to(constraint)(x)
        assert bool(constraint.check(y).all())
        if constraint in (constraints.lower_cholesky, constraints.positive_definite):
            with pytest.raises(NotImplementedError, match="Cannot transform"):
                d.biject_to(constraint)
            return
        bijection = d.biject_to(constraint)
        assert bijection.bijective
        y = bijection(x)
        assert bool(constraint.check(y).all())
        np.testing.assert_allclose(bijection.inv(y).numpy(), x.numpy(), rtol=1e-9)
