"""Batched tensors: one tensor stands for the same value in many examples, as ``nbdl.func.vmap`` wants it.

A function under vmap sees the tensors of one example. Such a tensor has the example's shape and dtype; what
it stands for is its :class:`Batch`: a tensor of a lower level with the examples along axis 0. Operations go
to the batching rule of the primitive (:meth:`nbdl.ops.primitive.Primitive.batch`), which works on those
tensors with ordinary operations, so that levels nest.

Levels of vmap and of forward differentiation are numbered in the order in which they were opened. At each
level a tensor has a history and tangents of its own: what was opened inside the vmap belongs to the batched
tensor, what was opened outside belongs to the tensor in its batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nbdl.autograd.duals import Dual, enter_level, exit_level, without_left_levels
from nbdl.autograd.modes import mode
from nbdl.autograd.tensor import Tensor

if TYPE_CHECKING:
    from nbdl.ops.primitive import Primitive


class BatchLevel(NamedTuple):
    """An open vmap.

    Attributes:
        number: its place among all open levels; inner ones have higher numbers.
        size: number of examples.
        randomness: what random operations do: ``error``, ``same`` or ``different``.
        grad: whether the tape was recording around it.
    """

    number: int
    size: int
    randomness: str
    grad: bool


class Batch:
    """What a tensor stands for at one level.

    Attributes:
        level: the level.
        value: a tensor of lower levels.
        is_batched: whether axis 0 of ``value`` counts examples; else it is the same in all of them.
        array: memory of the shape and dtype of one example; what is in it must not be read.
    """

    __slots__ = ("array", "is_batched", "level", "value")

    def __init__(self, level: BatchLevel, value: Tensor, is_batched: bool):
        self.level, self.value, self.is_batched = level, value, is_batched
        self.array = _example(value.array) if is_batched else value.array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.array.shape

    @property
    def dtype(self) -> Any:
        """Type of the elements."""
        return self.array.dtype

    def tensor(self) -> Tensor:
        """A tensor that stands for it."""
        tensor = Tensor(self.array)
        tensor.batch = self
        return tensor

    def with_value(self, value: Tensor) -> Batch:
        """Another value at the same level."""
        return Batch(self.level, value, self.is_batched)

    def full(self) -> Tensor:
        """The value with the examples along axis 0, repeated without a copy if it is the same in all."""
        value = self.value
        return value if self.is_batched else value.expand((self.level.size, *value.array.shape))

    def detached(self) -> Batch:
        """The same without history at any level."""
        return self.with_value(self.value.detach())


def _example(array: Any) -> Any:
    """The first example, with the strides of all; memory of its own if there is none."""
    return array[0, ...] if len(array) else np.empty_like(array, shape=array.shape[1:])


@contextmanager
def batch_level(size: int, randomness: str) -> Iterator[BatchLevel]:
    """Open a level of vmap for a block."""
    level = BatchLevel(enter_level(), size, randomness, mode.grad)
    mode.batch_levels = (*mode.batch_levels, level)
    try:
        yield level
    finally:
        mode.batch_levels = mode.batch_levels[:-1]
        exit_level()


def level_of(tensors: Sequence[Tensor]) -> BatchLevel | None:
    """The innermost level at which one of ``tensors`` is batched."""
    levels = [tensor.batch.level for tensor in tensors if tensor.batch is not None]
    return max(levels) if levels else None


def untaped(x: Tensor) -> Tensor:
    """``x`` without the history of its own level; tangents and lower levels stay."""
    tensor = Tensor(x.array)
    tensor.storage = x.shared_storage()
    tensor.dual, tensor.batch = x.dual, x.batch
    return tensor


def lifted(x: Tensor, level: BatchLevel) -> Tensor:
    """``x`` as a tensor of ``level``: one from outside is the same in all examples, and a constant there."""
    x = without_left_levels(x)
    if x.batch is not None and x.batch.level is level:
        return x
    dual = x.dual
    if dual is not None and dual.level > level.number:
        primal = lifted(dual.primal, level)
        tensor = untaped(primal)
        tensor.dual = Dual(dual.level, primal, dual.tangent)
        return tensor
    return Batch(level, x if level.grad else untaped(x), False).tensor()


def apply_batched(primitive: Primitive, inputs: Sequence[Tensor], level: BatchLevel) -> Any:
    """Run ``primitive`` by its batching rule, and record it at ``level``.

    Raises:
        RuntimeError: the shape of the result depends on values, which may differ between examples.
    """
    if not primitive.has_static_shape:
        raise RuntimeError(
            f"vmap: We do not support batching operators that can output dynamic shape. Attempted to vmap "
            f"over {primitive.label}; use a form of fixed shape, such as where(condition, x, 0)"
        )
    operands = [lifted(x, level) for x in inputs]
    batches: list[Batch] = [x.batch for x in operands]  # type: ignore[misc]
    values = [batch.value for batch in batches]
    flags = [batch.is_batched for batch in batches]
    is_batched = any(flags)
    result = primitive.batch(values, flags, level) if is_batched else primitive(*values)
    results = result if isinstance(result, (tuple, list)) else (result,)
    outputs = wrap(primitive, operands, tuple([Batch(level, y, is_batched) for y in results]))
    return outputs if isinstance(result, (tuple, list)) else outputs[0]


def draw(primitive: Primitive, seed: Tensor, number: Tensor, *operands: Tensor) -> Any:
    """Run a random primitive, by what the innermost vmap says of randomness.

    Raises:
        RuntimeError: it says that random numbers are an error.
    """
    if mode.batch_levels:
        level = mode.batch_levels[-1]
        if level.randomness == "error":
            raise RuntimeError(
                f"vmap: called random operation {primitive.label} while in randomness error mode. Please "
                "either use the 'same' or 'different' randomness flags on vmap or perform the randomness "
                "operation out of vmap"
            )
        if level.randomness == "different":
            seed = Batch(level, seed.expand((level.size,)), True).tensor()
    return apply(primitive, seed, number, *operands)


def write_into(x: Tensor, y: Tensor, label: str) -> None:
    """Overwrite the memory of ``x``, at all levels, by ``y``.

    Raises:
        RuntimeError: ``y`` differs between examples, and ``x`` does not.
    """
    level = level_of((x, y))
    if level is None:
        x.copy_(y)
        return
    target, source = x.batch, lifted(y, level).batch
    assert source is not None
    if target is None or target.level is not level or source.is_batched > target.is_batched:
        raise RuntimeError(
            f"vmap: inplace arithmetic(self, *extra_args) is not possible in {label}: there exists a Tensor "
            "`other` in extra_args that has more elements than `self`. This happened due to `other` being "
            "vmapped over but `self` not being vmapped over in a vmap. Please try to use out-of-place "
            "operators instead of inplace arithmetic, or make `self` by new_zeros or zeros_like of a "
            "tensor that is vmapped over."
        )
    target.value.copy_(source.full() if target.is_batched else source.value)


def refuse_read(x: Tensor, what: str) -> None:
    """Values that may differ between examples cannot become one Python value.

    Raises:
        RuntimeError: ``x`` is batched.
    """
    if x.batch is not None:
        raise RuntimeError(
            f"vmap: It looks like you're reading {what} of a Tensor that is vmapped over. Its value may "
            "differ between examples, so it cannot be used in Python; use operations on tensors, such as "
            "where, instead of item() and data-dependent control flow."
        )


from nbdl.autograd.tape import apply, wrap  # noqa: E402  (both need each other)
