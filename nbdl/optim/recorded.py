"""Products with recorded derivatives: one more pass backward each, for one vector or many at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nbdl.autograd import engine, forward_ad
from nbdl.autograd.duals import Dual
from nbdl.autograd.modes import enable_grad
from nbdl.autograd.tensor import Tensor


def pulled_back(
    ys: Sequence[Tensor], xs: Sequence[Tensor], vectors: Sequence[Tensor], batched: bool = False
) -> list[Tensor]:
    """The sums over y of v^T dy/dx, one for each x; zeros for an x on which nothing depends.

    Args:
        ys: recorded tensors.
        xs: what they are differentiated by.
        vectors: v, in the shapes of ``ys``.
        batched: whether the first axis of all vectors, and of all results, counts several of them.
    """
    used = [(y, v) for y, v in zip(ys, vectors, strict=True) if y.requires_grad]
    if not used:
        counts = tuple(vectors[0].shape[:1]) if batched else ()
        return [x.detach().new_zeros((*counts, *x.shape)) for x in xs]
    return list(
        engine.grad(
            [y for y, _ in used],
            xs,
            [v for _, v in used],
            retain_graph=True,
            create_graph=False,
            is_grads_batched=batched,
            materialize_grads=True,
        )
    )


def gradients_of(
    value: Tensor, leaves: Sequence[Tensor], create_graph: bool, retain_graph: bool | None = None
) -> list[Tensor]:
    """The gradients of a scalar by ``leaves``, zeros where it does not depend on one."""
    found = engine.grad(
        value, leaves, retain_graph=retain_graph, create_graph=create_graph, materialize_grads=True
    )
    return [gradient for gradient in found if gradient is not None]


@contextmanager
def along(leaves: Sequence[Tensor], tangents: Sequence[Tensor]) -> Iterator[int]:
    """Let leaves move along tangents: what is computed of them carries its derivative; gives the level.

    The leaves carry the tangents themselves, since whoever computes with them knows only these tensors.
    """
    with forward_ad.dual_level() as level:
        for leaf, tangent in zip(leaves, tangents, strict=True):
            leaf.dual = Dual(level, leaf.detach(), tangent)
        try:
            yield level
        finally:
            for leaf in leaves:
                leaf.dual = None


class Linearized:
    """The Jacobian J of recorded outputs, ready for products with it and with its transpose.

    J^T w is linear in w, and its derivative by w in a direction v is J v: so both products are passes
    backward, and nothing is evaluated again.

    Args:
        outputs: a recorded tensor.
        xs: what it is differentiated by.
    """

    def __init__(self, outputs: Tensor, xs: Sequence[Tensor]):
        self.outputs, self.xs = outputs, list(xs)
        self._w = outputs.detach().zeros_like(requires_grad=True)
        with enable_grad():
            found = engine.grad(outputs, self.xs, self._w, create_graph=True, materialize_grads=True)
        self._transposed = [gradient for gradient in found if gradient is not None]

    def push(self, vectors: Sequence[Tensor], batched: bool = False) -> Tensor:
        """J v, in the shape of the outputs."""
        return pulled_back(self._transposed, [self._w], vectors, batched)[0]

    def pull(self, cotangent: Tensor, batched: bool = False) -> list[Tensor]:
        """J^T u, in the shapes of the variables."""
        return pulled_back([self.outputs], self.xs, [cotangent], batched)
