"""Embedding: a vector for each of a set of numbers."""

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
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ValueError(
                    f"Embedding: padding_idx must be within num_embeddings, got {padding_idx} for "
                    f"{num_embeddings} rows"
                )
            padding_idx %= num_embeddings
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        self.max_norm, self.norm_type, self.scale_grad_by_freq = max_norm, norm_type, scale_grad_by_freq
        self.weight = Parameter(empty(num_embeddings, embedding_dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx].fill_(0)

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
        if embeddings.ndim != 2:
            raise ValueError(
                "Embedding.from_pretrained: embeddings parameter is expected to be 2-dimensional, got "
                f"shape {tuple(embeddings.shape)}"
            )
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
