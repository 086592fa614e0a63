"""Embedding: a vector for each of a set of numbers, and sums and means of them."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.nn import functional as F
from nbdl.nn import init
from nbdl.nn.module import Module
from nbdl.nn.parameter import Parameter
from nbdl.ops.creation import empty


class Embedding(Module):
    """Rows of a table, looked up by their numbers.

    Args:
        num_embeddings: rows of the table.
        embedding_dim: their length.
        padding_idx: a row that is zero at first and gets no gradient.
        max_norm: rows that are looked up are first shortened to this norm, in place.
        norm_type: the p of that norm.
        scale_grad_by_freq: divide the gradient of a row by how often it was looked up.
        device: where the table is.
        dtype: its dtype.

    Attributes:
        weight: (num_embeddings, embedding_dim), standard normal at first.

    Raises:
        ValueError: ``padding_idx`` is out of range.

    Shape:
        integers (*) -> (*, embedding_dim)

    Example:
        >>> import nbdl
        >>> nbdl.nn.Embedding(10, 3)(nbdl.tensor([[1, 2], [4, 5]])).shape
        nbdl.Size([2, 2, 3])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        *,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = _checked_padding("Embedding", padding_idx, num_embeddings)
        self.max_norm, self.norm_type, self.scale_grad_by_freq = max_norm, norm_type, scale_grad_by_freq
        self.weight = Parameter(empty(num_embeddings, embedding_dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        _draw_table(self.weight, self.padding_idx)

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(
            input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq
        )

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, **options: Any) -> Embedding:
        """An embedding with a given table.

        Args:
            embeddings: the table, a matrix.
            freeze: whether it is kept as it is in training.
            options: arguments of the constructor.

        Raises:
            ValueError: it is no matrix.
        """
        _check_table("Embedding.from_pretrained", embeddings)
        embedding = cls(*embeddings.shape, device=embeddings.device, dtype=embeddings.dtype, **options)
        embedding.weight = Parameter(embeddings, requires_grad=not freeze)
        return embedding

    def extra_repr(self) -> str:
        parts = [f"{self.num_embeddings}", f"{self.embedding_dim}"]
        for name, default in (
            ("padding_idx", None),
            ("max_norm", None),
            ("norm_type", 2),
            ("scale_grad_by_freq", False),
        ):
            if getattr(self, name) != default:
                parts.append(f"{name}={getattr(self, name)}")
        return ", ".join(parts)


class EmbeddingBag(Module):
    """Sums, means or maxima of rows of a table over bags of their numbers.

    Args:
        num_embeddings: rows of the table.
        embedding_dim: their length.
        max_norm: rows that are looked up are first shortened to this norm, in place.
        norm_type: the p of that norm.
        scale_grad_by_freq: divide the gradient of a row by how often it was looked up.
        mode: ``sum``, ``mean`` or ``max``.
        sparse: not supported: gradients are dense.
        _weight: the table; default: a random one.
        include_last_offset: the last offset is the end of the last bag.
        padding_idx: a row that does not count, and is zero at first.
        device: where the table is.
        dtype: its dtype.

    Attributes:
        weight: (num_embeddings, embedding_dim), standard normal at first.

    Raises:
        ValueError: ``padding_idx`` is out of range, or the table has another shape.

    Shape:
        integers (bags, n), or (all,) with offsets (bags,) -> (bags, embedding_dim)

    Example:
        >>> import nbdl
        >>> nbdl.nn.EmbeddingBag(10, 3)(nbdl.tensor([1, 2, 4, 5]), nbdl.tensor([0, 3])).shape
        nbdl.Size([2, 3])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = _checked_padding("EmbeddingBag", padding_idx, num_embeddings)
        self.max_norm, self.norm_type, self.scale_grad_by_freq = max_norm, norm_type, scale_grad_by_freq
        self.mode, self.sparse, self.include_last_offset = mode, sparse, include_last_offset
        if _weight is not None:
            if tuple(_weight.shape) != (num_embeddings, embedding_dim):
                raise ValueError(
                    "EmbeddingBag: Shape of weight does not match num_embeddings and embedding_dim, got "
                    f"{tuple(_weight.shape)} for {(num_embeddings, embedding_dim)}"
                )
            self.weight = Parameter(_weight)
        else:
            self.weight = Parameter(empty(num_embeddings, embedding_dim, device=device, dtype=dtype))
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        _draw_table(self.weight, self.padding_idx)

    def forward(
        self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None
    ) -> Tensor:
        return F.embedding_bag(
            input, self.weight, offsets, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.mode,
            self.sparse, per_sample_weights, self.include_last_offset, self.padding_idx,
        )  # fmt: skip

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, **options: Any) -> EmbeddingBag:
        """A bag with a given table.

        Args:
            embeddings: the table, a matrix.
            freeze: whether it is kept as it is in training.
            options: arguments of the constructor.

        Raises:
            ValueError: it is no matrix.
        """
        _check_table("EmbeddingBag.from_pretrained", embeddings)
        rows, size = embeddings.shape
        bag = cls(rows, size, _weight=embeddings, **options)
        bag.weight.requires_grad_(not freeze)
        return bag

    def extra_repr(self) -> str:
        defaults = {"max_norm": None, "norm_type": 2, "scale_grad_by_freq": False}
        parts = [f"{self.num_embeddings}, {self.embedding_dim}"]
        parts += [f"{name}={getattr(self, name)}" for name, d in defaults.items() if getattr(self, name) != d]
        parts.append(f"mode={self.mode!r}")
        if self.padding_idx is not None:
            parts.append(f"padding_idx={self.padding_idx}")
        return ", ".join(parts)


def _checked_padding(label: str, padding_idx: int | None, rows: int) -> int | None:
    """The padding row, counted from the beginning."""
    if padding_idx is None:
        return None
    if not -rows <= padding_idx < rows:
        raise ValueError(
            f"{label}: padding_idx must be within num_embeddings, got {padding_idx} for {rows} rows"
        )
    return padding_idx % rows


def _draw_table(weight: Parameter, padding_idx: int | None) -> None:
    init.normal_(weight)
    if padding_idx is not None:
        with no_grad():
            weight[padding_idx].fill_(0)


def _check_table(label: str, embeddings: Tensor) -> None:
    if embeddings.ndim != 2:
        raise ValueError(
            f"{label}: embeddings parameter is expected to be 2-dimensional, got shape "
            f"{tuple(embeddings.shape)}"
        )
