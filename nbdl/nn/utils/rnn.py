"""Sequences of different lengths: padded to one tensor, or packed without padding.

A packed sequence holds the elements of all sequences step by step: first the first elements, then the second
ones of those sequences that have one, and so on; the sequences are sorted by length, longest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.backend.device import Device
from nbdl.ops.arithmetic import where
from nbdl.ops.copying import constant
from nbdl.ops.creation import as_tensor
from nbdl.ops.joining import stack
from nbdl.ops.padding import pad_constant
from nbdl.ops.selecting import index_select, take_rows
from nbdl.ops.shape import flatten, narrow, transpose
from nbdl.ops.sorting import argsort

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_rows",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_rows",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


class _Fields(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Fields):
    """A batch of sequences without padding, made by :func:`pack_padded_sequence` or :func:`pack_sequence`.

    Attributes:
        data: (elements of all sequences, ...), step by step.
        batch_sizes: int64 (longest length,): how many sequences have an element at each step.
        sorted_indices: the order that sorts the sequences by length; None if they were sorted.
        unsorted_indices: the order that undoes it.
    """

    __slots__ = ()

    def __new__(
        cls,
        data: Any,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> PackedSequence:
        if batch_sizes is None:
            data, batch_sizes = data
        if batch_sizes.device.type != "cpu":
            raise ValueError(
                "PackedSequence: batch_sizes should always be on CPU; make packed sequences by "
                "pack_padded_sequence or pack_sequence"
            )
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The data in another dtype or on another device, the indices beside it."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        orders = [None if order is None else order.to(data.device) for order in self[2:]]
        return PackedSequence(data, self.batch_sizes, *orders)

    def cpu(self) -> PackedSequence:
        """The data on the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = "cuda") -> PackedSequence:
        """The data on a GPU."""
        return self.to(device)

    def double(self) -> PackedSequence:
        """The data as float64."""
        return self.to(np.float64)

    def float(self) -> PackedSequence:
        """The data as float32."""
        return self.to(np.float32)

    def half(self) -> PackedSequence:
        """The data as float16."""
        return self.to(np.float16)

    def long(self) -> PackedSequence:
        """The data as int64."""
        return self.to(np.int64)

    def int(self) -> PackedSequence:
        """The data as int32."""
        return self.to(np.int32)

    @property
    def is_cuda(self) -> bool:
        """Whether the data are on a GPU."""
        return self.data.device.type == "cuda"


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes another one; None for None."""
    return None if permutation is None else argsort(permutation)


# ----------------------------------------------------------------------------------- rows of packed sequences
def pack_rows(x: Tensor, batch_sizes: Sequence[int]) -> Tensor:
    """The rows of a padded batch that belong to sequences.

    Args:
        x: (time, batch, ...).
        batch_sizes: how many sequences have an element at each step; at most ``time`` of them.

    Returns:
        (elements of all sequences, ...)
    """
    batch = x.array.shape[1]
    rows = np.concatenate([t * batch + np.arange(count) for t, count in enumerate(batch_sizes)])
    return take_rows(flatten(x, 0, 1), _index(rows, x.device))


def pad_rows(
    data: Tensor, batch_sizes: Sequence[int], value: float = 0.0, length: int | None = None
) -> Tensor:
    """The inverse of :func:`pack_rows`.

    Args:
        data: (elements of all sequences, ...).
        batch_sizes: how many sequences have an element at each step.
        value: what fills the rest.
        length: number of steps; default: as many as there are.

    Returns:
        (time, batch, ...)
    """
    length = len(batch_sizes) if length is None else length
    counts = np.zeros(length, np.int64)
    counts[: len(batch_sizes)] = batch_sizes
    starts, places = np.cumsum(counts) - counts, np.arange(batch_sizes[0])
    exists = places < counts[:, None]
    rows = take_rows(data, _index(np.where(exists, starts[:, None] + places, 0), data.device))
    if exists.all():
        return rows
    mask = _index(exists.reshape(exists.shape + (1,) * (data.array.ndim - 1)), data.device)
    return where(mask, rows, value)


def _index(values: np.ndarray, device: Device) -> Tensor:
    return constant(values, device)


# ----------------------------------------------------------------------------------------- public functions
def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Pack a padded batch of sequences.

    Args:
        input: (time, batch, ...), or (batch, time, ...) with ``batch_first``.
        lengths: of the sequences, a tensor or a list of ints.
        batch_first: which axis comes first.
        enforce_sorted: the lengths must not increase; otherwise the sequences are sorted here.

    Raises:
        RuntimeError: the lengths do not fit the input, are not positive, or not sorted.

    Example:
        >>> import nbdl
        >>> from nbdl.nn.utils.rnn import pack_padded_sequence
        >>> packed = pack_padded_sequence(nbdl.tensor([[1, 2, 0], [3, 4, 5]]), [2, 3], True, False)
        >>> packed.data, packed.batch_sizes
        (tensor([3, 1, 4, 2, 5]), tensor([2, 2, 1]))
    """
    counts = np.asarray(lengths.tolist() if isinstance(lengths, Tensor) else lengths, np.int64)
    padded = transpose(input, 0, 1) if batch_first else input
    order = None
    if not enforce_sorted:
        order = np.argsort(-counts, kind="stable")
    _check_lengths(counts if order is None else counts[order], padded)
    if order is not None:
        counts = counts[order]
        padded = index_select(padded, 1, _index(order, input.device))
    sizes = (counts > np.arange(counts[0])[:, None]).sum(1)
    sorted_indices = None if order is None else _index(order, input.device)
    return PackedSequence(pack_rows(padded, sizes.tolist()), as_tensor(sizes), sorted_indices)


def _check_lengths(counts: np.ndarray, padded: Tensor) -> None:
    if padded.array.size == 0:
        raise RuntimeError(f"pack_padded_sequence: Cannot pack empty tensors, got {tuple(padded.shape)}")
    steps, batch = padded.array.shape[:2]
    if counts.shape != (batch,):
        raise RuntimeError(
            "pack_padded_sequence: Expected `len(lengths)` to be equal to batch_size, but got "
            f"{counts.size} (batch_size={batch})"
        )
    if (counts[1:] > counts[:-1]).any():
        raise RuntimeError(
            "pack_padded_sequence: `lengths` array must be sorted in decreasing order when `enforce_sorted` "
            "is True. Pass `enforce_sorted=False` to have the sequences sorted."
        )
    if counts[-1] <= 0:
        raise RuntimeError(
            "pack_padded_sequence: Length of all samples has to be greater than 0, but found an element in "
            "'lengths' that is <= 0"
        )
    if counts[0] > steps:
        raise RuntimeError(f"pack_padded_sequence: a length is {counts[0]}, but the input has {steps} steps")


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The inverse of :func:`pack_padded_sequence`.

    Args:
        sequence: the packed sequences.
        batch_first: which axis of the result comes first.
        padding_value: what fills the rest.
        total_length: number of steps of the result; default: the longest length.

    Returns:
        (time, batch, ...), or (batch, time, ...) with ``batch_first``; and the lengths, int64.

    Raises:
        ValueError: ``total_length`` is less than the longest length.
    """
    sizes = sequence.batch_sizes.tolist()
    if total_length is not None and total_length < len(sizes):
        raise ValueError(
            "pad_packed_sequence: Expected total_length to be at least the length of the longest sequence in "
            f"input, but got total_length={total_length} and max sequence length being {len(sizes)}"
        )
    padded = pad_rows(sequence.data, sizes, padding_value, total_length)
    lengths = (np.asarray(sizes)[:, None] > np.arange(sizes[0])).sum(0)
    if sequence.unsorted_indices is not None:
        padded = index_select(padded, 1, sequence.unsorted_indices)
        lengths = lengths[sequence.unsorted_indices.tolist()]
    return transpose(padded, 0, 1) if batch_first else padded, as_tensor(lengths)


def pad_sequence(
    sequences: Any, batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Stack sequences of different lengths.

    Args:
        sequences: tensors (length, ...), alike in all axes but the first.
        batch_first: which axis of the result comes first.
        padding_value: what fills the rest.
        padding_side: ``right`` or ``left``.

    Returns:
        (longest length, sequences, ...), or (sequences, longest length, ...) with ``batch_first``.

    Raises:
        RuntimeError: ``sequences`` is no iterable or empty, or the side is another.

    Example:
        >>> import nbdl
        >>> from nbdl.nn.utils.rnn import pad_sequence
        >>> pad_sequence([nbdl.tensor([1, 2, 3]), nbdl.tensor([4])], batch_first=True)
        tensor([[1, 2, 3],
                [4, 0, 0]])
    """
    if not isinstance(sequences, Iterable):
        raise RuntimeError(
            f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}"
        )
    rows = list(sequences)
    if not rows:
        raise RuntimeError("pad_sequence: received an empty list of sequences")
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"pad_sequence: padding_side should be 'left' or 'right', got {padding_side!r}")
    longest = max(row.array.shape[0] for row in rows)
    padded = []
    for row in rows:
        missing = longest - row.array.shape[0]
        widths = (missing, 0) if padding_side == "left" else (0, missing)
        padded.append(pad_constant(row, [widths, *[(0, 0)] * (row.array.ndim - 1)], padding_value))
    return stack(padded, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False) -> list[Tensor]:
    """The inverse of :func:`pad_sequence`.

    Args:
        padded_sequences: (time, batch, ...), or (batch, time, ...) with ``batch_first``.
        lengths: of the sequences.
        batch_first: which axis comes first.
    """
    batch = padded_sequences if batch_first else transpose(padded_sequences, 0, 1)
    return [narrow(batch[k], 0, 0, length) for k, length in enumerate(lengths.tolist())]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences of different lengths, see :func:`pack_padded_sequence`.

    Example:
        >>> import nbdl
        >>> from nbdl.nn.utils.rnn import pack_sequence
        >>> pack_sequence([nbdl.tensor([1, 2, 3]), nbdl.tensor([4])]).data
        tensor([1, 4, 2, 3])
    """
    lengths = [sequence.array.shape[0] for sequence in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The inverse of :func:`pack_sequence`."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
