"""Special functions that no elementary formula gives: Bessel, incomplete gamma, zeta, polynomials, ...

SciPy computes them (on every CPU backend); the derivatives are formulas, of any order. The equations are
those of the NIST Digital Library of Mathematical Functions (DLMF).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula, dtypes
from nbdl.formula import functions as f
from nbdl.ops.arithmetic import lgamma, mul, negative
from nbdl.ops.batching import over_broadcast_axes
from nbdl.ops.gamma import gammainc_slope
from nbdl.ops.pointwise import call, operand
from nbdl.ops.primitive import Primitive, check_broadcast
from nbdl.ops.reduction import sum_to
from nbdl.ops.type_rules import result_type

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node

__all__ = ["i0", "igamma", "igammac", "mvlgamma"]

Partial = Callable[..., Tensor]
_SQRT_2PI = math.sqrt(2 * math.pi)


def _formula(name: str, definition: Callable[..., Any]) -> Callable[..., Tensor]:
    """The operation of a formula on tensors."""
    formula = Formula(name, definition, definition.__code__.co_argcount)
    return lambda *operands: call(formula, *operands)


# Slopes at 0 of odd functions whose formula divides by x.
_i1_slope = _formula("i1_slope", lambda x, i0, i1: f.where(f.equal(x, 0), 0.5, i0 - i1 / x))
_i0e_slope = _formula("i0e_slope", lambda x, y, i1e: i1e - f.sign(x) * y)
_i1e_slope = _formula(
    "i1e_slope", lambda x, y, i0e: f.where(f.equal(x, 0), 0.5, i0e - y * (f.sign(x) + 1 / x))
)
_y1_slope = _formula("y1_slope", lambda x, y0, y1: y0 - y1 / x)
_k1_slope = _formula("k1_slope", lambda x, y, k0: -k0 - y / x)
_k1e_slope = _formula("k1e_slope", lambda x, y, k0e: y - k0e - y / x)
_erfcx_slope = _formula("erfcx_slope", lambda x, y: 2 * x * y - 2 / math.sqrt(math.pi))
_log_ndtr_slope = _formula("log_ndtr_slope", lambda x, y: f.exp(-0.5 * f.square(x) - y) / _SQRT_2PI)
_ndtri_slope = _formula("ndtri_slope", lambda y: _SQRT_2PI * f.exp(0.5 * f.square(y)))
_gammainc_density = _formula("gammainc_density", lambda a, x: f.exp(f.xlogy(a - 1, x) - x - f.lgamma(a)))

# For each function the partial derivatives, called with the value and the operands; None: not known.
RULES: dict[str, tuple[Partial | None, ...]] = {
    "i0": (lambda y, x: special("i1", x),),  # DLMF 10.29.3
    "i1": (lambda y, x: _i1_slope(x, special("i0", x), y),),  # 10.29.2
    "i0e": (lambda y, x: _i0e_slope(x, y, special("i1e", x)),),
    "i1e": (lambda y, x: _i1e_slope(x, y, special("i0e", x)),),
    "j0": (lambda y, x: negative(special("j1", x)),),  # 10.6.3
    "j1": (lambda y, x: _i1_slope(x, special("j0", x), y),),  # 10.6.2
    "y0": (lambda y, x: negative(special("y1", x)),),
    "y1": (lambda y, x: _y1_slope(x, special("y0", x), y),),
    "k0": (lambda y, x: negative(special("k1", x)),),  # 10.29.3
    "k1": (lambda y, x: _k1_slope(x, y, special("k0", x)),),  # 10.29.2
    "k0e": (lambda y, x: y - special("k1e", x),),
    "k1e": (lambda y, x: _k1e_slope(x, y, special("k0e", x)),),
    "ai": (lambda y, x: special("aip", x),),
    "aip": (lambda y, x: x * special("ai", x),),  # 9.2.1
    "erfcx": (lambda y, x: _erfcx_slope(x, y),),  # 7.10.1
    "log_ndtr": (lambda y, x: _log_ndtr_slope(x, y),),
    "ndtri": (lambda y, x: _ndtri_slope(y),),
    "gammainc": (lambda y, a, x: gammainc_slope(a, x), lambda y, a, x: _gammainc_density(a, x)),  # 8.8.13
    "gammaincc": (
        lambda y, a, x: negative(gammainc_slope(a, x)),
        lambda y, a, x: negative(_gammainc_density(a, x)),
    ),
    "zeta": (None, lambda y, s, q: negative(mul(s, special("zeta", s + 1, q)))),  # 25.11.17
}


class _Smooth(Primitive):
    """A function of broadcast operands with a table of partial derivatives."""

    saves_output = True
    protects_output = True

    def partial(self, k: int) -> Partial:
        """The derivative by operand k, a function of the value and the operands."""
        raise NotImplementedError

    def check(self, *arrays: Any) -> None:
        """Operands must broadcast."""
        check_broadcast(self.label, arrays)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The gradient times the partial derivatives, summed over what broadcasting had added."""
        (gradient,) = gradients
        inputs, y = node.inputs, node.output()
        return [
            sum_to(gradient * self.partial(k)(y, *inputs), node.shape(k)) if node.needs_grad(k) else None
            for k in range(len(inputs))
        ]

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The tangents times the partial derivatives."""
        terms = [
            tangent * self.partial(k)(outputs[0], *inputs)
            for k, tangent in enumerate(tangents)
            if tangent is not None
        ]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return (total.expand(outputs[0].shape),)


class Special(_Smooth):
    """A function of :data:`RULES`."""

    name = "special"

    batch = over_broadcast_axes

    def __init__(self, function: str):
        super().__init__(function=function)
        self.label = function

    def partial(self, k: int) -> Partial:
        """From the table.

        Raises:
            RuntimeError: it is not known.
        """
        rule = RULES[self.label][k]
        if rule is None:
            raise RuntimeError(
                f"{self.label}: the derivative with respect to argument {k + 1} is not implemented"
            )
        return rule


class Polynomial(_Smooth):
    """A derivative of an orthogonal polynomial; operands are the place and the degree.

    Args:
        family: a key of the table of recurrences.
        order: how often it is differentiated.
    """

    name = "polynomial"
    saves_output = False

    batch = over_broadcast_axes

    def __init__(self, family: str, order: int = 0):
        super().__init__(family=family, order=order)
        self.family, self.order = family, order
        self.label = f"{family.partition('_')[0]}_polynomial_{family.partition('_')[2]}"

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The next derivative; degrees have none."""
        assert gradients[0] is not None
        x, n = node.inputs
        following = Polynomial.of(self.family, self.order + 1)
        return sum_to(gradients[0] * apply(following, x, n), node.shape(0)), None

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The next derivative times the tangent."""
        if tangents[0] is None:
            return (None,)
        return (apply(Polynomial.of(self.family, self.order + 1), *inputs) * tangents[0],)


def _floats(label: str, *values: Any) -> list[Tensor]:
    """Tensors and numbers as floating tensors of the dtype that they promote to."""
    if not any(isinstance(value, Tensor) for value in values):
        raise TypeError(f"{label}(): argument 1 must be a tensor, got {type(values[0]).__name__}")
    dtype = result_type(*values)
    if dtypes.category(dtype) < 2:
        dtype = dtypes.get_default_dtype()
    if dtypes.category(dtype) > 2:
        raise NotImplementedError(f"{label}: not defined for complex numbers, got {dtype}")
    return [operand(label, k, value)[0].to(dtype) for k, value in enumerate(values, 1)]


def special(function: str, *values: Any) -> Tensor:
    """A function of :data:`RULES` on tensors and numbers."""
    return apply(Special.of(function), *_floats(function, *values))


def polynomial(family: str, x: Any, n: Any) -> Tensor:
    """An orthogonal polynomial at ``x`` of degree ``n``, both tensors or numbers."""
    place, degree = _floats(family, x, n)
    return apply(Polynomial.of(family), place, degree.detach())


# ----------------------------------------------------------------------------------------- public functions
def i0(input: Tensor) -> Tensor:
    """The modified Bessel function of the first kind of order 0."""
    return special("i0", input)


def igamma(input: Tensor, other: Tensor) -> Tensor:
    """The regularised lower incomplete gamma function P(a, x), a first."""
    return special("gammainc", input, other)


def igammac(input: Tensor, other: Tensor) -> Tensor:
    """The regularised upper incomplete gamma function 1 - P(a, x), a first."""
    return special("gammaincc", input, other)


def mvlgamma(input: Tensor, p: int) -> Tensor:
    """The logarithm of the multivariate gamma function (DLMF 35.3.4).

    Args:
        input: larger than (p - 1) / 2.
        p: the dimension.

    Raises:
        RuntimeError: ``p`` is below 1.
    """
    if p < 1:
        raise RuntimeError(f"mvlgamma: p has to be greater than or equal to 1, got {p}")
    x = input if input.is_floating_point() else input.to(dtypes.get_default_dtype())
    total = lgamma(x)
    for k in range(1, p):
        total = total + lgamma(x - k / 2)
    return total + p * (p - 1) / 4 * math.log(math.pi)
