"""Weight and spectral normalisation: the formulas."""

from __future__ import annotations

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.nn.functional.distance import normalize, vector_norm
from nbdl.ops.shape import flatten


def norm_except_dim(v: Tensor, dim: int) -> Tensor:
    """The Euclidean norm of every slice along ``dim``, broadcastable with ``v``; of all if dim is -1."""
    if dim == -1:
        return vector_norm(v.reshape((-1,)), 2.0, 0, False)
    axis = dim % v.array.ndim
    rows = as_matrix(v, axis) if v.array.ndim > 1 else v.unsqueeze(1)
    shape = [n if k == axis else 1 for k, n in enumerate(v.array.shape)]
    return vector_norm(rows, 2.0, 1, False).reshape(shape)


def weight_of_norm(g: Tensor, v: Tensor, dim: int) -> Tensor:
    """g v / norm(v), Salimans and Kingma (2016), equation 2."""
    return v * (g / norm_except_dim(v, dim))


def as_matrix(weight: Tensor, dim: int) -> Tensor:
    """The weight with axis ``dim`` as rows and all others as columns."""
    return flatten(weight.movedim(dim, 0), 1) if weight.array.ndim > 1 else weight.reshape((-1, 1))


def random_direction(weight: Tensor, size: int, eps: float) -> Tensor:
    """A unit vector of the dtype and on the device of a weight."""
    return normalize(weight.detach().new_empty(size).normal_(), dim=0, eps=eps)


@no_grad()
def power_iterations(matrix: Tensor, u: Tensor, v: Tensor, count: int, eps: float) -> None:
    """Improve ``u`` and then ``v``, in place, towards the first left and right singular vectors of a matrix.

    Source: Miyato et al. (2018), algorithm 1.
    """
    for _ in range(count):
        u.copy_(normalize(matrix.mv(v), dim=0, eps=eps))
        v.copy_(normalize(matrix.mT.mv(u), dim=0, eps=eps))
