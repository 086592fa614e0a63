"""Arguments of the wrong kind: errors that name function, argument, what was given and what is allowed."""

from __future__ import annotations

import inspect
import math

import pytest

import nbdl
from nbdl import nn, optim
from nbdl.optim import least_squares, minimize
from nbdl.optim.optimizer import Optimizer

MADE = {  # those that take more than parameters
    "KFAC": lambda **settings: optim.KFAC(nn.Linear(2, 2), nn.MSELoss(), **settings),
    "NaturalGradient": lambda **settings: optim.NaturalGradient(one(), nn.MSELoss(), **settings),
    "HessianFree": lambda **settings: optim.HessianFree(one(), nn.MSELoss(), **settings),
    "SAM": lambda **settings: optim.SAM(one(), optim.SGD, **settings),
    "Nesterov": lambda **settings: optim.Nesterov(one(), optim.SGD, **settings),
}
KINDS = [
    kind for kind in map(optim.__dict__.get, optim.__all__)
    if isinstance(kind, type) and issubclass(kind, Optimizer) and kind is not Optimizer
]  # fmt: skip


def one():
    return [nbdl.ones(2, 2, requires_grad=True)]


def make(kind, **settings):
    return MADE.get(kind.__name__, lambda **settings: kind(one(), **settings))(**settings)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_optimizers(kind):
    make(kind)
    for name, parameter in inspect.signature(kind).parameters.items():
        default = parameter.default
        if isinstance(default, bool) or not isinstance(default, (int, float, tuple)):
            continue
        for given in ("text", 1j, object()):
            with pytest.raises(
                TypeError, match=rf"^{kind.__name__}: ({name}|learning rate|Invalid)\b.*must be"
            ):
                make(kind, **{name: given})


def square(x):
    return (x * x).sum()


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "fun must be a function, got None", {"fun": None}),
        (TypeError, "list of uneven rows", {"x0": [[1.0], [1.0, 2.0]]}),
        (ValueError, "method must be one of gradient-descent, .*, or a Method; got 3", {"method": 3}),
        (TypeError, "options must be a dict or None, got 'gtol'", {"options": "gtol"}),
        (ValueError, "method bfgs has no option 3; it has gtol", {"options": {3: 1}}),
        (TypeError, "maxiter must be an integer of at least 0, got 2.5", {"options": {"maxiter": 2.5}}),
        (TypeError, "gtol must be a number of at least 0, got 'a'", {"tol": "a"}),
        (ValueError, "gtol must be a number of at least 0, got nan", {"tol": math.nan}),
        (TypeError, "callback must be a function, got 3", {"callback": 3}),
        (TypeError, r"callback must take one argument, .* \(a, b\)", {"callback": lambda a, b: None}),
        (TypeError, "bounds must be real numbers or None, got", {"bounds": [("a", "b")]}),
        (TypeError, r"fun must return a pair \(value, gradient\), got Tensor", {"jac": True}),
        (TypeError, "jac must return real numbers or a tensor, got NoneType", {"jac": lambda x: None}),
        (
            RuntimeError,
            "fun must return a real number, got dtype complex128",
            {"fun": lambda x: (1j * x).sum()},
        ),
        (TypeError, "c1 must be a number above 0 and below 1, got 'a'", {"options": {"c1": "a"}}),
        (
            ValueError,
            "line_search must be one of armijo, .* got <class",
            {"options": {"line_search": optim.search.Armijo}},
        ),
        (
            ValueError,
            "has no option 'c1'",
            {"options": {"line_search": optim.search.Armijo(), "c1": 0.1}},
        ),
    ],
)
def test_minimize(error, message, arguments):
    with pytest.raises(error, match=message):
        minimize(**{"fun": square, "x0": [1.0], **arguments})


def test_a_single_argument_needs_no_tuple():
    assert minimize(lambda x, a: square(x - a), [0.0], args=2.0).x == pytest.approx(2.0)
    assert least_squares(lambda x, a: x - a, [0.0], args=2.0).x == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "fun must be a function, got 3", {"fun": 3}),
        (
            ValueError,
            r"method must be one of trf, dogbox, lm, gauss-newton, got \['lm'\]",
            {"method": ["lm"]},
        ),
        (TypeError, "f_scale must be a number above 0, got 'a'", {"f_scale": "a"}),
        (ValueError, "max_nfev must be an integer of at least 1, got 0", {"max_nfev": 0}),
        (ValueError, "x_scale must be 'jac', a number or 1 numbers, got", {"x_scale": [1, 2]}),
        (TypeError, "kwargs must be a dict or None, got 3", {"kwargs": 3}),
        (TypeError, "the residuals must be real, got dtype complex128", {"fun": lambda x: 1j * x}),
        (TypeError, "jac must be a function, got 3", {"jac": 3}),
    ],
)
def test_least_squares(error, message, arguments):
    with pytest.raises(error, match=f"least_squares: {message}"):
        least_squares(**{"fun": lambda x: x - 1, "x0": [1.0], **arguments})
