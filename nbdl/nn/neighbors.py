"""Classification by the nearest training samples."""

from __future__ import annotations

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.joining import cat
from nbdl.ops.products import cdist
from nbdl.ops.sorting import topk
from nbdl.ops.triangular import one_hot


class NearestNeighbor:
    """The class that is most frequent among the nearest training samples; of equals the first.

    Args:
        k: how many neighbours vote.
        p: order of the norm that measures distances; 1 and 2 are usual.
        block: how many samples are classified at a time, which bounds the memory.

    Raises:
        ValueError: there are fewer samples than neighbours, or labels do not fit.

    Source: Cover, Hart (1967), Nearest neighbor pattern classification.

    Example:
        >>> import nbdl
        >>> samples, classes = nbdl.tensor([[0.0, 0.0], [5.0, 5.0]]), nbdl.tensor([3, 7])
        >>> model = nbdl.nn.NearestNeighbor().train(samples, classes)
        >>> model.predict(nbdl.tensor([[4.0, 4.5], [1.0, 0.0]]))
        tensor([7, 3])
    """

    def __init__(self, k: int = 1, p: float = 2.0, block: int = 256):
        if k < 1 or block < 1:
            raise ValueError(f"NearestNeighbor: k and block must be at least 1, got {k} and {block}")
        self.k, self.p, self.block = k, p, block
        self.samples: Tensor | None = None
        self.labels: Tensor | None = None

    def train(self, images: Tensor, labels: Tensor) -> NearestNeighbor:
        """Remember samples (N, ...) and their integer classes (N,)."""
        if labels.ndim != 1 or labels.shape[0] != images.shape[0] or images.shape[0] < self.k:
            raise ValueError(
                f"NearestNeighbor.train: need a label a sample, and at least k={self.k} samples, got samples "
                f"{tuple(images.shape)} and labels {tuple(labels.shape)}"
            )
        self.samples, self.labels = images.detach().flatten(1), labels.detach()
        return self

    @no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """The classes (M,) of samples (M, ...)."""
        if self.samples is None or self.labels is None:
            raise RuntimeError("NearestNeighbor.predict: there is no training set; call train first")
        rows = images.flatten(1)
        parts = [self._classes(rows[k : k + self.block]) for k in range(0, rows.shape[0], self.block)]
        return cat(parts) if parts else self.labels[:0]

    def _classes(self, rows: Tensor) -> Tensor:
        distances = cdist(rows, self.samples, self.p)  # type: ignore[arg-type]
        if self.k == 1:
            return self.labels[distances.argmin(1)]  # type: ignore[index]
        nearest = self.labels[topk(distances, self.k, dim=1, largest=False).indices]  # type: ignore[index]
        return one_hot(nearest).sum(1).argmax(1).to(dtype=nearest.dtype)
