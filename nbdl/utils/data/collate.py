"""Samples put together into a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.ops.creation import as_tensor, tensor
from nbdl.ops.joining import stack


def default_collate(batch: Sequence[Any]) -> Any:
    """A batch of samples that are built alike.

    Tensors, arrays and numbers get a new first axis; mappings, tuples and lists are collated entry by entry
    (a tuple becomes a list, as in PyTorch); strings stay a list.

    Raises:
        TypeError: there is something else in a sample.
        RuntimeError: lists in the samples differ in length, or tensors in shape.

    Example:
        >>> from nbdl.utils.data import default_collate
        >>> default_collate([(1, "a"), (2, "b")])
        [tensor([1, 2]), ['a', 'b']]
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return stack(list(batch))
    if isinstance(first, (np.ndarray, np.generic)) and first.dtype.kind in "biuf":
        return as_tensor(np.stack(batch))
    if isinstance(first, float):
        return tensor(batch, dtype=np.float64)
    if isinstance(first, (bool, int)):
        return tensor(batch)
    if isinstance(first, (str, bytes)):
        return list(batch)
    if isinstance(first, Mapping):
        return _rebuilt(first, {key: default_collate([sample[key] for sample in batch]) for key in first})
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError(
                "default_collate: each element in list of batch should be of equal size, got lengths "
                f"{sorted({len(sample) for sample in batch})}"
            )
        columns = [default_collate(column) for column in zip(*batch, strict=True)]
        return type(first)(*columns) if hasattr(first, "_fields") else columns
    raise TypeError(
        "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; "
        f"found {type(first).__name__}"
    )


def default_convert(sample: Any) -> Any:
    """One sample with its arrays made tensors; anything else stays."""
    if isinstance(sample, (np.ndarray, np.generic)) and sample.dtype.kind in "biuf":
        return as_tensor(np.asarray(sample))
    if isinstance(sample, Mapping):
        return _rebuilt(sample, {key: default_convert(value) for key, value in sample.items()})
    if isinstance(sample, tuple) and hasattr(sample, "_fields"):
        return type(sample)(*map(default_convert, sample))
    if isinstance(sample, Sequence) and not isinstance(sample, (str, bytes)):
        return [default_convert(value) for value in sample]
    return sample


def _rebuilt(mapping: Mapping, entries: dict) -> Any:
    """``entries`` in a mapping of the same type, if its constructor takes a dict."""
    try:
        return type(mapping)(entries)  # type: ignore[call-arg]
    except TypeError:
        return entries
