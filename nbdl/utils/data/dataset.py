"""Datasets: what gives a sample for an index, or one sample after the other."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from nbdl.autograd.tensor import Tensor
from nbdl.ops.creation import as_tensor
from nbdl.ops.random import randperm

Sample = TypeVar("Sample", covariant=True)


class Dataset(Generic[Sample]):
    """A map from indices to samples: subclasses define ``__getitem__`` and ``__len__``."""

    def __getitem__(self, index: Any) -> Sample:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    def __add__(self, other: Dataset[Any]) -> Dataset[Any]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[Sample]):
    """A stream of samples: subclasses define ``__iter__``, and ``__len__`` if they know it."""

    def __iter__(self) -> Iterator[Sample]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")

    def __add__(self, other: Dataset[Any]) -> Dataset[Any]:
        return ChainDataset([self, other])


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Sample k is row k of every tensor.

    Args:
        tensors: tensors with equal first sizes.

    Raises:
        TypeError: something is no tensor.
        AssertionError: there is none, one has no axis, or their first sizes differ.

    Example:
        >>> import nbdl
        >>> from nbdl.utils.data import TensorDataset
        >>> dataset = TensorDataset(nbdl.zeros(10, 3), nbdl.arange(10))
        >>> len(dataset), dataset[4]
        (10, (tensor([0., 0., 0.]), tensor(4)))
    """

    tensors: tuple[Tensor, ...]

    def __init__(self, *tensors: Tensor):
        for k, tensor in enumerate(tensors):
            if not isinstance(tensor, Tensor):
                raise TypeError(f"TensorDataset: argument {k} must be a tensor, got {type(tensor).__name__}")
        shapes = [tuple(tensor.shape) for tensor in tensors]
        if not shapes or not all(shapes) or len({shape[0] for shape in shapes}) > 1:
            raise AssertionError(
                f"TensorDataset: the tensors need a first axis of one size, got shapes {shapes}"
            )
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple([tensor[index] for tensor in self.tensors])

    def gather(self, indices: Sequence[int]) -> list[Tensor]:
        """Several samples stacked: one fancy index a tensor."""
        return [tensor[as_tensor(indices, device=tensor.device)] for tensor in self.tensors]

    def __len__(self) -> int:
        return self.tensors[0].shape[0]


class Subset(Dataset[Sample]):
    """Some samples of another dataset.

    Args:
        dataset: the other dataset.
        indices: the positions of the samples in it.
    """

    def __init__(self, dataset: Dataset[Sample], indices: Sequence[int]):
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: Any) -> Sample:
        if isinstance(index, list):
            return self.dataset[[self.indices[k] for k in index]]
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


class StackDataset(Dataset[Any]):
    """Sample k is sample k of every dataset: a tuple, or a dict if they were given by name.

    Args:
        args: datasets of one length.
        kwargs: the same by name; one or the other.

    Raises:
        ValueError: there is none, both forms are used, or the lengths differ.

    Example:
        >>> from nbdl.utils.data import StackDataset
        >>> StackDataset(image=["a", "b"], label=[3, 4])[1]
        {'image': 'b', 'label': 4}
    """

    datasets: tuple[Any, ...] | dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any):
        if bool(args) == bool(kwargs):
            raise ValueError(
                "StackDataset: expected datasets either as arguments or by name, got "
                f"{len(args)} arguments and {len(kwargs)} names"
            )
        self.datasets = args or kwargs
        lengths = [len(dataset) for dataset in args or kwargs.values()]
        if len(set(lengths)) > 1:
            raise ValueError(f"StackDataset: size mismatch between datasets, got lengths {lengths}")
        self._length = lengths[0]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple([dataset[index] for dataset in self.datasets])

    def __len__(self) -> int:
        return self._length


class ConcatDataset(Dataset[Sample]):
    """Datasets one after the other.

    Args:
        datasets: datasets with a length.

    Raises:
        AssertionError: there is none, or one is a stream.
    """

    def __init__(self, datasets: Iterable[Dataset[Sample]]):
        self.datasets = list(datasets)
        if not self.datasets:
            raise AssertionError("ConcatDataset: datasets should not be an empty iterable")
        for dataset in self.datasets:
            if isinstance(dataset, IterableDataset):
                raise AssertionError("ConcatDataset does not support IterableDataset; use ChainDataset")
        self.cumulative_sizes = list(itertools.accumulate(len(dataset) for dataset in self.datasets))  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Sample:
        size = len(self)
        if not -size <= index < size:
            kind = ValueError if index < 0 else IndexError  # as in PyTorch
            raise kind(f"ConcatDataset: index {index} is out of range for {size} samples")
        index %= size
        k = bisect.bisect_right(self.cumulative_sizes, index)
        return self.datasets[k][index - (self.cumulative_sizes[k - 1] if k else 0)]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


class ChainDataset(IterableDataset[Sample]):
    """Streams one after the other.

    Args:
        datasets: streams.
    """

    def __init__(self, datasets: Iterable[Dataset[Sample]]):
        self.datasets = list(datasets)
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise AssertionError(
                    f"ChainDataset only supports IterableDataset, got {type(dataset).__name__}"
                )

    def __iter__(self) -> Iterator[Sample]:
        return itertools.chain.from_iterable(self.datasets)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self.datasets)  # type: ignore[arg-type, misc]


def batch_getter(dataset: Any) -> Callable[[Sequence[int]], list[Tensor]] | None:
    """What gives a whole batch of ``dataset`` for its indices at once; None if nothing does.

    That is a method ``gather``, if it stands in the class whose ``__getitem__`` the dataset uses: a subclass
    with its own ``__getitem__`` has samples of its own.
    """
    reader = next((kind for kind in type(dataset).__mro__ if "__getitem__" in vars(kind)), object)
    if "gather" in vars(reader):
        return dataset.gather
    if reader is Subset:
        whole = batch_getter(dataset.dataset)
        if whole is not None:
            return lambda indices: whole([dataset.indices[k] for k in indices])
    return None


def random_split(
    dataset: Dataset[Sample], lengths: Sequence[float], generator: Any = None
) -> list[Subset[Sample]]:
    """Split a dataset at random into parts that do not overlap.

    Args:
        dataset: the dataset.
        lengths: the sizes of the parts, or fractions of the whole that sum to 1; what rounding leaves goes to
            the first parts, one sample each.
        generator: where the randomness comes from; default: the global generator.

    Raises:
        ValueError: the sizes do not sum to that of the dataset, or a fraction is not in [0, 1].

    Example:
        >>> import nbdl
        >>> from nbdl.utils.data import TensorDataset, random_split
        >>> parts = random_split(TensorDataset(nbdl.arange(10)), [0.7, 0.3], nbdl.Generator().manual_seed(0))
        >>> [len(part) for part in parts]
        [7, 3]
    """
    size = len(dataset)  # type: ignore[arg-type]
    total = sum(lengths)
    if math.isclose(total, 1) and total <= 1:
        sizes = _sizes_of_fractions(lengths, size)
    else:
        sizes = [int(length) for length in lengths]
        if sum(sizes) != size or sizes != list(lengths):
            raise ValueError(
                "random_split: sum of input lengths does not equal the length of the input dataset: "
                f"{list(lengths)} for "
                f"{size} samples; give integers that sum to {size} or fractions that sum to 1"
            )
    order = randperm(size, generator=generator).tolist()
    return [
        Subset(dataset, order[end - n : end])
        for n, end in zip(sizes, itertools.accumulate(sizes), strict=True)
    ]


def _sizes_of_fractions(fractions: Sequence[float], size: int) -> list[int]:
    for k, fraction in enumerate(fractions):
        if not 0 <= fraction <= 1:
            raise ValueError(f"random_split: fraction at index {k} is not between 0 and 1: {fraction}")
    sizes = [math.floor(size * fraction) for fraction in fractions]
    for k in range(size - sum(sizes)):
        sizes[k % len(sizes)] += 1
    return sizes
