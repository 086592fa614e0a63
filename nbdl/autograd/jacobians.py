"""The derivatives of a function as matrices, in three ways: differences, reverse mode, forward mode."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbdl.autograd import forward_ad
from nbdl.autograd.engine import grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.creation import tensor

Matrix = np.ndarray


class Problem(NamedTuple):
    """What is checked, and how closely."""

    caller: str
    func: Callable[..., Any]
    inputs: tuple[Any, ...]
    eps: float
    atol: float
    rtol: float
    nondet_tol: float

    @property
    def differentiated(self) -> list[int]:
        """Positions of the inputs that require a gradient."""
        return [k for k, x in enumerate(self.inputs) if isinstance(x, Tensor) and x.requires_grad]

    def outputs(self, *inputs: Any) -> list[Tensor]:
        """The floating tensors that the function returns."""
        result = self.func(*(inputs or self.inputs))
        results = result if isinstance(result, (tuple, list)) else (result,)
        return [y for y in results if isinstance(y, Tensor) and y.is_floating_point()]


# ------------------------------------------------------------------------------------------------ the problem
def problem_of(
    caller: str,
    func: Callable[..., Any],
    inputs: Any,
    eps: float,
    atol: float,
    rtol: float,
    nondet_tol: float,
) -> Problem:
    """What is checked, the inputs looked over.

    Raises:
        ValueError: no input requires a gradient.
        RuntimeError: elements of one share memory.
    """
    values = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    problem = Problem(caller, func, values, eps, atol, rtol, nondet_tol)
    if not problem.differentiated:
        raise ValueError(
            f"{caller}: expects at least one input tensor to require gradient, but none of them has "
            f"requires_grad=True"
        )
    for k in problem.differentiated:
        array = values[k].array
        if array.dtype != np.float64:
            warnings.warn(
                f"{caller}: input {k} requires gradient and has dtype {array.dtype}; the check will "
                f"likely fail if the "
                "inputs are not of double precision",
                stacklevel=3,
            )
        if array.size and any(
            stride == 0 and n > 1 for n, stride in zip(array.shape, array.strides, strict=True)
        ):
            raise RuntimeError(
                f"{caller}: input {k} has an axis with stride 0; its elements share memory and cannot be "
                f"changed one by "
                "one: clone() it"
            )
    return problem


def array_of(value: Any) -> Any:
    """The array of a tensor, or anything else as an array."""
    return value.array if isinstance(value, Tensor) else np.asarray(value)


def host(value: Any) -> np.ndarray:
    """A tensor, array or number as a NumPy array."""
    array = value.array if isinstance(value, Tensor) else value
    return array.get() if hasattr(array, "get") else np.asarray(array)


def flat(tensor: Tensor | None, size: int) -> Matrix:
    """The elements as float64; zeros for None."""
    return np.zeros(size) if tensor is None else host(tensor).astype(np.float64).reshape(-1)


def tensor_like(y: Tensor, values: Matrix) -> Tensor:
    """``values`` in the shape and dtype of ``y``, on its device."""
    return tensor(values.reshape(y.shape), dtype=y.dtype, device=y.device)


def random_gradient(y: Tensor, strided: bool) -> Tensor:
    """A leaf of the shape and dtype of ``y``; ``strided``: not contiguous."""
    values = np.random.default_rng(0).uniform(-1, 1, y.shape)
    if strided:
        seed = tensor(np.stack([values, values], -1), dtype=y.dtype, device=y.device).select(-1, 0)
    else:
        seed = tensor_like(y, values)
    return seed.detach().requires_grad_()


def _basis(size: int, k: int) -> Matrix:
    vector = np.zeros(size)
    vector[k] = 1.0
    return vector


# -------------------------------------------------------------------------------------------- the derivatives
def difference(
    outputs: Callable[[], list[Matrix]], array: Any, index: tuple[int, ...], eps: float
) -> list[Matrix]:
    """Central differences of all outputs by one element of ``array``, which is restored."""
    old = array[index].item()
    try:
        array[index] = old + eps
        upper, above = array[index].item(), outputs()
        array[index] = old - eps
        lower, below = array[index].item(), outputs()
    finally:
        array[index] = old
    return [(a - b).reshape(-1) / (upper - lower) for a, b in zip(above, below, strict=True)]


def _values(problem: Problem) -> list[Matrix]:
    return [host(y).astype(np.float64) for y in problem.outputs()]


def numerical_jacobians(problem: Problem, k: int) -> list[Matrix]:
    """For every output the matrix (elements of input k, elements of the output)."""
    array = problem.inputs[k].array
    rows = [
        difference(lambda: _values(problem), array, index, problem.eps) for index in np.ndindex(array.shape)
    ]
    return [np.stack(column) for column in zip(*rows, strict=True)]


def directional_difference(problem: Problem, k: int, direction: Matrix) -> list[Matrix]:
    """Central differences of all outputs when input k moves along ``direction``."""
    array = problem.inputs[k].array
    old = array.copy()
    step = tensor_like(problem.inputs[k], problem.eps * direction).array
    try:
        array[...] = old + step
        above = _values(problem)
        array[...] = old - step
        below = _values(problem)
    finally:
        array[...] = old
    return [(a - b).reshape(-1) / (2 * problem.eps) for a, b in zip(above, below, strict=True)]


def vjp(problem: Problem, outputs: Sequence[Tensor], vectors: Sequence[Matrix]) -> list[Tensor | None]:
    """Gradients of the inputs that need one; ``vectors`` are the gradients of ``outputs``."""
    pairs = [(y, tensor_like(y, v)) for y, v in zip(outputs, vectors, strict=True) if y.requires_grad]
    sources = [problem.inputs[k] for k in problem.differentiated]
    if not pairs:
        return [None] * len(sources)
    ys, gradients = zip(*pairs, strict=True)
    return list(grad(ys, sources, gradients, retain_graph=True, allow_unused=True))


def jvp(problem: Problem, k: int, direction: Matrix) -> list[Tensor | None]:
    """Tangents of the outputs when input k has the tangent ``direction``."""
    with forward_ad.dual_level():
        inputs = list(problem.inputs)
        inputs[k] = forward_ad.make_dual(inputs[k], tensor_like(inputs[k], direction))
        return [forward_ad.unpack_dual(y).tangent for y in problem.outputs(*inputs)]


def reverse_jacobians(problem: Problem, y: Tensor) -> list[Matrix]:
    """For every input the matrix (elements of the input, elements of ``y``), one backward pass a column."""
    sizes = [problem.inputs[k].numel() for k in problem.differentiated]
    columns = [vjp(problem, [y], [_basis(y.numel(), j)]) for j in range(y.numel())]
    return [
        np.stack([flat(column[i], size) for column in columns], 1) if columns else np.zeros((size, 0))
        for i, size in enumerate(sizes)
    ]


def forward_jacobians(problem: Problem, k: int, outputs: Sequence[Tensor]) -> list[Matrix]:
    """For every output the matrix (elements of input k, elements of the output), one forward pass a row."""
    size = problem.inputs[k].numel()
    rows = [jvp(problem, k, _basis(size, i)) for i in range(size)]
    return [
        np.stack([flat(row[j], y.numel()) for row in rows]) if rows else np.zeros((0, y.numel()))
        for j, y in enumerate(outputs)
    ]
