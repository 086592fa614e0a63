"""Special functions, as ``torch.special``: differentiable to any order.

Example:
    >>> import nbdl
    >>> nbdl.special.ndtr(nbdl.tensor([-1.0, 0.0, 1.0]))
    tensor([0.1587, 0.5000, 0.8413])
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.ops.arithmetic import (
    digamma,
    erf,
    erfc,
    erfinv,
    exp2,
    expit,
    expm1,
    log1p,
    logit,
    polygamma,
    round,
    sinc,
    xlog1py,
    xlogy,
)
from nbdl.ops.arithmetic import digamma as psi
from nbdl.ops.arithmetic import lgamma as gammaln
from nbdl.ops.keywords import offer as _offer
from nbdl.ops.pointwise import call
from nbdl.ops.softmax import log_softmax, softmax
from nbdl.ops.special_functions import i0, polynomial, special
from nbdl.ops.special_functions import igamma as gammainc
from nbdl.ops.special_functions import igammac as gammaincc
from nbdl.ops.special_functions import mvlgamma as multigammaln
from nbdl.ops.statistics import logsumexp

__all__ = [
    "airy_ai", "bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1", "chebyshev_polynomial_t",
    "chebyshev_polynomial_u", "chebyshev_polynomial_v", "chebyshev_polynomial_w", "digamma", "entr", "erf",
    "erfc", "erfcx", "erfinv", "exp2", "expit", "expm1", "gammainc", "gammaincc", "gammaln",
    "hermite_polynomial_h", "hermite_polynomial_he", "i0", "i0e", "i1", "i1e", "laguerre_polynomial_l",
    "legendre_polynomial_p", "log1p", "log_ndtr", "log_softmax", "logit", "logsumexp", "modified_bessel_i0",
    "modified_bessel_i1", "modified_bessel_k0", "modified_bessel_k1", "multigammaln", "ndtr", "ndtri",
    "polygamma", "psi", "round", "scaled_modified_bessel_k0", "scaled_modified_bessel_k1",
    "shifted_chebyshev_polynomial_t", "shifted_chebyshev_polynomial_u", "shifted_chebyshev_polynomial_v",
    "shifted_chebyshev_polynomial_w", "sinc", "softmax", "spherical_bessel_j0", "xlog1py", "xlogy", "zeta",
]  # fmt: skip

_NDTR = Formula("ndtr", lambda x: 0.5 * f.erfc(-x * math.sqrt(0.5)), 1)
_ENTR = Formula(
    "entr",
    lambda x: f.where(x > 0, -x * f.log(x), f.where(f.isnan(x), x, f.where(f.equal(x, 0), 0, -math.inf))),
    1,
)


def _unary(name: str, function: str, doc: str) -> Callable[[Tensor], Tensor]:
    def operation(input: Tensor) -> Tensor:
        return special(function, input)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    return operation


def _polynomial(name: str, family: str, doc: str, shifted: bool = False) -> Callable[[Any, Any], Tensor]:
    def operation(input: Any, n: Any) -> Tensor:
        return polynomial(family, 2 * input - 1 if shifted else input, n)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = f"{doc} of degree ``n``, a number or a tensor; 0 where it is negative."
    return operation


airy_ai = _unary("airy_ai", "ai", "The Airy function Ai.")
bessel_j0 = _unary("bessel_j0", "j0", "The Bessel function of the first kind of order 0.")
bessel_j1 = _unary("bessel_j1", "j1", "The Bessel function of the first kind of order 1.")
bessel_y0 = _unary("bessel_y0", "y0", "The Bessel function of the second kind of order 0.")
bessel_y1 = _unary("bessel_y1", "y1", "The Bessel function of the second kind of order 1.")
erfcx = _unary("erfcx", "erfcx", "exp(x^2) * erfc(x), which does not underflow.")
i0e = _unary("i0e", "i0e", "exp(-|x|) * i0(x).")
i1 = modified_bessel_i1 = _unary(
    "i1", "i1", "The modified Bessel function of the first kind of order 1."
)  # fmt: skip
modified_bessel_i0 = i0
i1e = _unary("i1e", "i1e", "exp(-|x|) * i1(x).")
modified_bessel_k0 = _unary(
    "modified_bessel_k0", "k0", "The modified Bessel function of the second kind of order 0."
)
modified_bessel_k1 = _unary(
    "modified_bessel_k1", "k1", "The modified Bessel function of the second kind of order 1."
)
scaled_modified_bessel_k0 = _unary("scaled_modified_bessel_k0", "k0e", "exp(x) * modified_bessel_k0(x).")
scaled_modified_bessel_k1 = _unary("scaled_modified_bessel_k1", "k1e", "exp(x) * modified_bessel_k1(x).")
log_ndtr = _unary("log_ndtr", "log_ndtr", "The logarithm of :func:`ndtr`, exact for small probabilities.")
ndtri = _unary(
    "ndtri", "ndtri", "The inverse of :func:`ndtr`: quantiles of the standard normal distribution."
)

chebyshev_polynomial_t = _polynomial(
    "chebyshev_polynomial_t", "chebyshev_t", "The Chebyshev polynomial of the first kind"
)
chebyshev_polynomial_u = _polynomial(
    "chebyshev_polynomial_u", "chebyshev_u", "The Chebyshev polynomial of the second kind"
)
chebyshev_polynomial_v = _polynomial(
    "chebyshev_polynomial_v", "chebyshev_v", "The Chebyshev polynomial of the third kind"
)
chebyshev_polynomial_w = _polynomial(
    "chebyshev_polynomial_w", "chebyshev_w", "The Chebyshev polynomial of the fourth kind"
)
shifted_chebyshev_polynomial_t = _polynomial(
    "shifted_chebyshev_polynomial_t", "chebyshev_t", "The Chebyshev polynomial T at 2x - 1", True
)
shifted_chebyshev_polynomial_u = _polynomial(
    "shifted_chebyshev_polynomial_u", "chebyshev_u", "The Chebyshev polynomial U at 2x - 1", True
)
shifted_chebyshev_polynomial_v = _polynomial(
    "shifted_chebyshev_polynomial_v", "chebyshev_v", "The Chebyshev polynomial V at 2x - 1", True
)
shifted_chebyshev_polynomial_w = _polynomial(
    "shifted_chebyshev_polynomial_w", "chebyshev_w", "The Chebyshev polynomial W at 2x - 1", True
)
hermite_polynomial_h = _polynomial("hermite_polynomial_h", "hermite_h", "The physicists' Hermite polynomial")
hermite_polynomial_he = _polynomial(
    "hermite_polynomial_he", "hermite_he", "The probabilists' Hermite polynomial"
)
laguerre_polynomial_l = _polynomial("laguerre_polynomial_l", "laguerre_l", "The Laguerre polynomial")
legendre_polynomial_p = _polynomial("legendre_polynomial_p", "legendre_p", "The Legendre polynomial")


def entr(input: Tensor) -> Tensor:
    """-x log(x); 0 at 0, and -inf below."""
    return call(_ENTR, input)


def ndtr(input: Tensor) -> Tensor:
    """The probability that a standard normal number is below x."""
    return call(_NDTR, input)


def spherical_bessel_j0(input: Tensor) -> Tensor:
    """sin(x) / x, 1 at 0."""
    return sinc(input * (1 / math.pi))


def zeta(input: Any, other: Any) -> Tensor:
    """The Hurwitz zeta function sum_k (k + q)^-x, x first; differentiable by q."""
    return special("zeta", input, other)


_offer(globals())
