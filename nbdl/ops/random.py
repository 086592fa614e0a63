"""Random tensors: uniform, normal, integers, Bernoulli, permutations, samples of categories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula, dtypes
from nbdl.formula import functions as f
from nbdl.ops.copying import as_dtype
from nbdl.ops.drawing import (
    Draw,
    RandomBernoulli,
    RandomNormal,
    RandomUniform,
    draw_floats,
    draw_integers,
    generator_for,
    is_everywhere,
)
from nbdl.ops.pointwise import call, scalar
from nbdl.ops.primitive import new_shape
from nbdl.ops.searching import searchsorted
from nbdl.random import Generator

__all__ = [
    "bernoulli", "bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "multinomial",
    "normal", "normal_", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "random_",
    "randperm", "uniform_",
]  # fmt: skip

_SCALED = Formula("scaled", lambda x, scale, shift: x * scale + shift, 3)
_EXPONENTIAL = Formula("exponential", lambda u, rate: -f.log1p(-u) / rate, 2)
_CAUCHY = Formula("cauchy", lambda u, median, sigma: median + sigma * f.tan(math.pi * (u - 0.5)), 3)
_GEOMETRIC = Formula("geometric", lambda u, p: f.floor(f.log1p(-u) / f.log1p(-p)) + 1, 2)


def rand(
    *size: Any,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Uniform numbers in [0, 1); of complex ones both parts.

    Args:
        size: the shape.
        dtype: floating or complex; default: the default dtype.
        device: default: the one of the backend in force.
        requires_grad: whether gradients shall flow to it.
        generator: default: the one of the device.

    Example:
        >>> import nbdl
        >>> nbdl.rand(2, 3).shape
        nbdl.Size([2, 3])
    """
    result = draw_floats(RandomUniform, "rand", new_shape("rand", size), dtype, device, generator)
    return result.requires_grad_(requires_grad)


def randn(
    *size: Any,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Standard normal numbers, complex ones too have variance 1; arguments as for :func:`rand`.

    Example:
        >>> import nbdl
        >>> nbdl.randn(2, 3).shape
        nbdl.Size([2, 3])
    """
    result = draw_floats(RandomNormal, "randn", new_shape("randn", size), dtype, device, generator)
    if result.is_complex():
        result = result * math.sqrt(0.5)
    return result.requires_grad_(requires_grad)


def randint(
    *args: Any,
    low: int = 0,
    high: int | None = None,
    size: Sequence[int] | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Integers in [low, high), int64 unless ``dtype`` says otherwise.

    Called as ``randint(high, size)``, ``randint(low, high, size)``, or with keywords.

    Raises:
        RuntimeError: there is no integer from ``low`` to ``high``.

    Example:
        >>> import nbdl
        >>> nbdl.randint(0, 10, (3,)).max() < 10
        tensor(True)
    """
    given = list(args)
    if size is None:
        if not given or not isinstance(given[-1], (tuple, list)):
            raise TypeError("randint: missing argument size, a tuple")
        size = given.pop()
    if len(given) == 2:
        low, high = given
    elif len(given) == 1:
        high = given[0] if high is None else high
        low = low if high is given[0] else given[0]
    if high is None:
        raise TypeError("randint: missing argument high")
    source = generator_for("randint", generator, device)
    wanted = np.dtype(np.int64) if dtype is None else as_dtype(dtype)
    result = draw_integers(
        "randint", int(low), int(high), new_shape("randint", (tuple(size),)), wanted, source
    )
    return result.requires_grad_() if requires_grad else result


def randperm(n: int, *, dtype: Any = None, device: Any = None, generator: Generator | None = None) -> Tensor:
    """The integers from 0 to n - 1 in random order.

    Example:
        >>> import nbdl
        >>> nbdl.randperm(4).sort().values
        tensor([0, 1, 2, 3])
    """
    if n < 0:
        raise RuntimeError(f"randperm: n must be non-negative, got {n}")
    source = generator_for("randperm", generator, device)
    keys = draw_integers("randperm", -(1 << 63), 1 << 63, (n,), np.dtype(np.int64), source)
    order = keys.argsort(0)
    return order if dtype is None else order.to(dtype)


def rand_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Uniform numbers in [0, 1) with the shape, dtype and device of ``input``."""
    place = input.device if device is None else device
    return rand(input.array.shape, dtype=dtype or input.dtype, device=place, requires_grad=requires_grad)


def randn_like(
    input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Standard normal numbers with the shape, dtype and device of ``input``."""
    place = input.device if device is None else device
    return randn(input.array.shape, dtype=dtype or input.dtype, device=place, requires_grad=requires_grad)


def randint_like(
    input: Tensor, low: int, high: int | None = None, *, dtype: Any = None, device: Any = None
) -> Tensor:
    """Integers in [low, high), or [0, low), with the shape, dtype and device of ``input``."""
    bounds = (0, low) if high is None else (low, high)
    place = input.device if device is None else device
    return randint(*bounds, input.array.shape, dtype=dtype or input.dtype, device=place)


def normal(
    mean: Any = 0.0,
    std: Any = 1.0,
    size: Sequence[int] | None = None,
    *,
    dtype: Any = None,
    device: Any = None,
    generator: Generator | None = None,
) -> Tensor:
    """Normal numbers with the given mean and standard deviation.

    Args:
        mean: number or tensor.
        std: number or tensor.
        size: the shape; needed where both are numbers.
        dtype: floating; default: that of the tensors, or the default dtype.
        device: default: that of the tensors, or of the backend in force.
        generator: default: the one of the device.

    Raises:
        RuntimeError: ``std`` is negative, or the shapes do not broadcast.

    Example:
        >>> import nbdl
        >>> nbdl.normal(0.0, 1.0, (2, 2)).shape
        nbdl.Size([2, 2])
    """
    tensors = [value for value in (mean, std) if isinstance(value, Tensor)]
    if (isinstance(std, (int, float)) and std < 0) or (
        isinstance(std, Tensor) and not is_everywhere(std >= 0)
    ):
        raise RuntimeError("normal: expects all elements of std >= 0.0")
    if size is None:
        if not tensors:
            raise TypeError("normal: missing argument size")
        size = np.broadcast_shapes(*[value.array.shape for value in tensors])
    if tensors:
        dtype, device = dtype or tensors[0].dtype, tensors[0].device if device is None else device
    sample = draw_floats(
        RandomNormal, "normal", new_shape("normal", (tuple(size),)), dtype, device, generator
    )
    with no_grad():
        return call(_SCALED, sample, std, mean)


def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """1 with the probabilities in ``input`` (or ``p`` for all elements), else 0, in the dtype of ``input``.

    Raises:
        RuntimeError: a probability is not in [0, 1].

    Example:
        >>> import nbdl
        >>> nbdl.bernoulli(nbdl.tensor([0.0, 1.0]))
        tensor([0., 1.])
    """
    probability = input.detach() if p is None else _probability("bernoulli", p)
    if p is None:
        if not input.is_floating_point():
            raise RuntimeError(f"bernoulli: expected a floating tensor of probabilities, got {input.dtype}")
        if not is_everywhere((probability >= 0) & (probability <= 1)):
            raise RuntimeError("bernoulli: expected all probabilities to be in [0, 1]")
    source = generator_for("bernoulli", generator, input.device)
    return source.draw(RandomBernoulli.of(input.array.shape, input.array.dtype), probability)


def _probability(label: str, p: float) -> Tensor:
    if not 0 <= p <= 1:
        raise RuntimeError(f"{label}: expects p to be in [0, 1], but got p={p}")
    return scalar(float(p))


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Samples of the indices of the last axis, with probabilities proportional to ``input``.

    Args:
        input: (n,) or (rows, n), not negative; rows need not sum to 1.
        num_samples: samples a row.
        replacement: whether an index may be drawn again.
        generator: default: the one of the device.

    Returns:
        int64 of shape (num_samples,) or (rows, num_samples).

    Raises:
        RuntimeError: a weight is negative or not finite, a row has no weight, or there are too few indices.

    Example:
        >>> import nbdl
        >>> nbdl.multinomial(nbdl.tensor([0.0, 1.0, 0.0]), 2, replacement=True)
        tensor([1, 1])
    """
    if input.array.ndim not in (1, 2) or not input.is_floating_point():
        raise RuntimeError(
            f"multinomial: expected a floating vector or matrix, got {input.dtype} with "
            f"{input.array.ndim} axes"
        )
    n = input.array.shape[-1]
    if num_samples <= 0:
        raise RuntimeError(f"multinomial: cannot sample n_sample <= 0 samples, got {num_samples}")
    if not replacement and num_samples > n:
        raise RuntimeError(f"multinomial: cannot sample {num_samples} of {n} categories without replacement")
    weights = input.detach()
    if not is_everywhere(weights.isfinite() & (weights >= 0)):
        raise RuntimeError("multinomial: probability tensor contains either inf, nan or element < 0")
    if n == 0 or not is_everywhere(weights.sum(-1) > 0):
        raise RuntimeError("multinomial: invalid distribution (sum of probabilities <= 0)")
    weights = weights.to(np.float64)
    source = generator_for("multinomial", generator, input.device)
    if replacement:
        rising = weights.cumsum(-1)
        uniform = source.draw(RandomUniform.of((*input.array.shape[:-1], num_samples), dtypes.FLOAT64))
        # Points in (0, total]: an index without weight adds no length, and is never met.
        return searchsorted(rising, (1 - uniform) * rising[..., -1:])
    # The first arrivals of exponential clocks with these rates (Efraimidis and Spirakis, 2006).
    clocks = call(_EXPONENTIAL, source.draw(RandomUniform.of(input.array.shape, dtypes.FLOAT64)), weights)
    return clocks.topk(num_samples, -1, largest=False).indices


# ------------------------------------------------------------------------------------------------- in place
def _fill(
    label: str, kind: type[Draw], x: Tensor, generator: Generator | None, formula: Formula, *values: float
) -> Tensor:
    """Overwrite ``x`` with a function of fresh numbers."""
    sample = draw_floats(kind, label, x.array.shape, x.dtype, x.device, generator)
    return x.copy_(call(formula, sample, *values))


def uniform_(input: Tensor, a: float = 0.0, b: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with uniform numbers in [a, b).

    Raises:
        RuntimeError: a > b.
    """
    if a > b:
        raise RuntimeError(f"uniform_: expects to return a [from, to) range, but found from={a} > to={b}")
    return _fill("uniform_", RandomUniform, input, generator, _SCALED, float(b) - float(a), float(a))


def normal_(
    input: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with normal numbers.

    Raises:
        RuntimeError: std < 0.
    """
    if std < 0:
        raise RuntimeError(f"normal_: expects std >= 0.0, but found std {std}")
    return _fill("normal_", RandomNormal, input, generator, _SCALED, float(std), float(mean))


def log_normal_(
    input: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with numbers whose logarithm is normal.

    Raises:
        RuntimeError: std <= 0.
    """
    if std <= 0:
        raise RuntimeError(f"log_normal_: expects std > 0.0, but found std={std}")
    return normal_(input, mean, std, generator=generator).exp_()


def exponential_(input: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with exponentially distributed numbers of rate ``lambd``.

    Raises:
        RuntimeError: lambd <= 0.
    """
    if lambd <= 0:
        raise RuntimeError(f"exponential_: expects lambda > 0.0, but found lambda={lambd}")
    return _fill("exponential_", RandomUniform, input, generator, _EXPONENTIAL, float(lambd))


def cauchy_(
    input: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with numbers of the Cauchy distribution.

    Raises:
        RuntimeError: sigma <= 0.
    """
    if sigma <= 0:
        raise RuntimeError(f"cauchy_: expects sigma > 0.0, but found sigma={sigma}")
    return _fill("cauchy_", RandomUniform, input, generator, _CAUCHY, float(median), float(sigma))


def geometric_(input: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with the numbers of trials up to the first success, each of probability ``p``.

    Raises:
        RuntimeError: p is not in (0, 1).
    """
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_: expects p to be in (0, 1), but got p={p}")
    source = generator_for("geometric_", generator, input.device)
    sample = source.draw(RandomUniform.of(input.array.shape, dtypes.FLOAT64))
    return input.copy_(call(_GEOMETRIC, sample, float(p)))


def bernoulli_(input: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1 with probability ``p`` (number or tensor that broadcasts), else 0.

    Raises:
        RuntimeError: a probability is not in [0, 1].
    """
    if isinstance(p, Tensor):
        return input.copy_(bernoulli(p.expand(input.array.shape), generator=generator))
    return input.copy_(bernoulli(input.detach(), p, generator=generator))


def random_(
    input: Tensor, low: int = 0, high: int | None = None, *, generator: Generator | None = None
) -> Tensor:
    """Fill with integers in [low, high), in [0, low), or with all that the dtype holds exactly.

    Raises:
        RuntimeError: there is no integer in between.
    """
    if high is None:
        low, high = 0, low or _largest_exact(input.dtype) + 1
    source = generator_for("random_", generator, input.device)
    return input.copy_(draw_integers("random_", int(low), int(high), input.array.shape, input.dtype, source))


def _largest_exact(dtype: np.dtype) -> int:
    """The largest number up to which all integers have a representation."""
    if dtype.kind == "b":
        return 1
    if dtype.kind in "iu":
        return int(np.iinfo(dtype).max)
    return 1 << {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}[dtype.name]
