"""Activations that textbooks have and PyTorch has not."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.pointwise import call
from nbdl.ops.primitive import normalize_axis


def _soboleva(x: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Both sides are divided by the larger term of the denominator, so that nothing overflows early."""
    m = f.maximum(c * x, -d * x)
    return (f.exp(a * x - m) - f.exp(-b * x - m)) / (f.exp(c * x - m) + f.exp(-d * x - m))


_SOBOLEVA = Formula("soboleva_tanh", _soboleva, 5)
_GAUSSIAN = Formula("gaussian", lambda x: f.exp(-x * x), 1)
_STEP = Formula("binary_step", lambda x: f.where(f.isnan(x), x, f.where(x >= 0, 1, 0)), 1)


def soboleva_tanh(
    input: Tensor,
    a: float | Tensor = 1.0,
    b: float | Tensor = 1.0,
    c: float | Tensor = 1.0,
    d: float | Tensor = 1.0,
) -> Tensor:
    """(exp(a x) - exp(-b x)) / (exp(c x) + exp(-d x)): tanh with other rates; bounded if a <= c and b <= d.

    Args:
        input: of any shape.
        a: rate of the first exponential; a number, or a tensor that gets a gradient; as the others.
        b: rate of the second.
        c: rate of the third.
        d: rate of the fourth.

    Source: Soboleva, Beskorovainyi (2008), via Golev, Iliev, Kyurkchiev (2017), A note on the Soboleva
    modified hyperbolic tangent activation function.

    Example:
        >>> import nbdl
        >>> x = nbdl.tensor([-1.0, 0.0, 2.0])
        >>> nbdl.allclose(nbdl.nn.functional.soboleva_tanh(x), x.tanh())
        True
    """
    return call(_SOBOLEVA, input, a, b, c, d)


def gaussian(input: Tensor) -> Tensor:
    """exp(-x^2), in (0, 1].

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.gaussian(nbdl.tensor([0.0, 1.0]))
        tensor([1.0000, 0.3679])
    """
    return call(_GAUSSIAN, input)


def binary_step(input: Tensor, straight_through: bool = False) -> Tensor:
    """1 where x >= 0, else 0.

    Args:
        input: of any shape.
        straight_through: pass gradients on as if this were the identity; otherwise they are zero.

    Source of the straight-through estimator: Bengio, Leonard, Courville (2013), Estimating or propagating
    gradients through stochastic neurons.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.binary_step(nbdl.tensor([-0.5, 0.0, 2.0]))
        tensor([0., 1., 1.])
    """
    step = call(_STEP, input)
    if not straight_through:
        return step
    # Zero, with the slope of the identity; infinity minus itself is no number, so there the slope is 0.
    return step + (input - input.detach()).nan_to_num(0.0)


@numpy_keywords
def maxout(input: Tensor, pieces: int, dim: int = -1) -> Tensor:
    """The maximum of each group of ``pieces`` neighbours along an axis.

    The gradient goes to the largest element of the group; equal largest ones share it evenly.

    Args:
        input: the axis has a multiple of ``pieces`` elements.
        pieces: the size of the groups.
        dim: the axis.

    Returns:
        of the same shape, but the axis is ``pieces`` times shorter

    Raises:
        RuntimeError: the groups do not fit.

    Source: Goodfellow, Warde-Farley, Mirza, Courville, Bengio (2013), Maxout networks, section 3.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.maxout(nbdl.tensor([1.0, 5.0, 2.0, -3.0, -1.0, -2.0]), 3)
        tensor([ 5., -1.])
    """
    axis = normalize_axis("maxout", dim, input.array.ndim)
    shape = input.array.shape
    if pieces < 1 or shape[axis] % pieces:
        raise RuntimeError(
            f"maxout: the size of axis {dim} must be a multiple of pieces={pieces}, got {tuple(shape)}"
        )
    groups = input.reshape((*shape[:axis], shape[axis] // pieces, pieces, *shape[axis + 1 :]))
    return groups.amax(axis + 1)
