"""Parametrizations of weights: orthogonal, spectrally normalised, with norms of their own."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl import linalg
from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.nn.functional.distance import normalize
from nbdl.nn.module import Module
from nbdl.nn.utils.normalized_weights import (
    as_matrix,
    norm_except_dim,
    power_iterations,
    random_direction,
    weight_of_norm,
)
from nbdl.nn.utils.parametrize import register_parametrization
from nbdl.nn.utils.weight_hooks import spectral_axis
from nbdl.ops.creation import eye
from nbdl.ops.factorizations import geqrf
from nbdl.ops.joining import cat
from nbdl.ops.matrix_functions import matrix_exp
from nbdl.ops.new_like import zeros_like
from nbdl.ops.random import randn

_MAPS = ("matrix_exp", "cayley", "householder")


# -------------------------------------------------------------------------------------------- orthogonal
def _is_orthogonal(q: Tensor) -> bool:
    rows, columns = q.shape[-2:]
    if rows < columns:
        q, rows, columns = q.mT, columns, rows
    tolerance = 10.0 * rows * float(np.finfo(q.dtype).eps)
    product = q.mT @ q
    return bool(((product - eye(columns, dtype=q.dtype, device=q.device)).abs() < tolerance).all())


def _orthogonal_factor(x: Tensor) -> Tensor:
    """The orthogonal factor of x = q r with a positive diagonal of r."""
    q, r = linalg.qr(x)
    return q * r.diagonal(0, -2, -1).sgn().unsqueeze(-2)


class _Orthogonal(Module):
    """Matrices with orthonormal columns (or rows, if they are wide), by a map from triangular matrices.

    Sources: Lezcano-Casado (2019), Trivializations for gradient-based optimization on manifolds;
    Lezcano-Casado, Martinez-Rubio (2019), Cheap orthogonal constraints in neural networks.
    """

    def __init__(self, weight: Tensor, orthogonal_map: str, use_trivialization: bool):
        super().__init__()
        self.shape, self.orthogonal_map = weight.shape, orthogonal_map
        self.use_trivialization = use_trivialization
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, X: Tensor) -> Tensor:
        rows, columns = X.shape[-2:]
        wide = rows < columns
        tall = X.mT if wide else X
        if self.orthogonal_map == "householder":
            A = tall.tril(-1)
            tau = 2 / (1 + (A * A).sum(-2))
            signs = tall.detach().diagonal(0, -2, -1).sgn().unsqueeze(-2)
            Q = linalg.householder_product(A, tau) * signs
        else:
            Q = self._of_skew(tall)
        if self.use_trivialization:
            Q = self.base @ Q
        return Q.mT if wide else Q

    def _of_skew(self, X: Tensor) -> Tensor:
        """exp(A), or its Cayley approximation (I - A/2)^-1 (I + A/2), of a skew-symmetric A."""
        n, k = X.shape[-2:]
        L = X.tril()
        if n != k:
            L = cat([L, L.new_zeros((*L.shape[:-1], n - k))], -1)
        A = L - L.mT
        if self.orthogonal_map == "matrix_exp":
            Q = matrix_exp(A)
        else:
            one = eye(n, dtype=A.dtype, device=A.device)
            Q = linalg.solve(one - 0.5 * A, one + 0.5 * A)
        return Q if n == k else Q[..., :k]

    @no_grad()
    def right_inverse(self, Q: Tensor) -> Tensor:
        """The operand of a given matrix; with trivialization the matrix becomes the base point.

        Raises:
            ValueError: the shape is another than before.
            NotImplementedError: the map has no inverse.
        """
        if Q.shape != self.shape:
            raise ValueError(
                f"orthogonal: Expected a matrix or batch of matrices of shape {tuple(self.shape)}. Got a "
                f"tensor of shape {tuple(Q.shape)}."
            )
        rows, columns = Q.shape[-2:]
        wide = rows < columns
        tall = Q.mT if wide else Q
        if not self.use_trivialization:
            if self.orthogonal_map != "householder":
                raise NotImplementedError(
                    "orthogonal: It is not possible to assign to the matrix exponential or the Cayley "
                    "parametrizations when use_trivialization=False."
                )
            A = self._reflectors(tall)
            return A.mT if wide else A
        self.base = self._completed(tall)
        operand = zeros_like(Q)
        operand.diagonal(0, -2, -1).fill_(-1.0)
        return operand

    @staticmethod
    def _reflectors(Q: Tensor) -> Tensor:
        """Householder vectors of Q = H S below the diagonal, the signs S on it."""
        A, tau = geqrf(Q)
        signs = A.diagonal(0, -2, -1).sgn()
        signs = signs * (1 - 2 * (tau == 0).to(dtype=signs.dtype))
        A.diagonal(0, -2, -1).copy_(signs)
        return A

    @staticmethod
    def _completed(Q: Tensor) -> Tensor:
        """A square orthogonal matrix that begins with the columns of Q."""
        n, k = Q.shape[-2:]
        if n == k:
            return Q.clone() if _is_orthogonal(Q) else _orthogonal_factor(Q)
        rest = randn(*Q.shape[:-2], n, n - k, dtype=Q.dtype, device=Q.device)
        return _orthogonal_factor(cat([Q, rest], -1))


def orthogonal(
    module: Module,
    name: str = "weight",
    orthogonal_map: str | None = None,
    *,
    use_trivialization: bool = True,
) -> Module:
    """Keep a matrix orthogonal: Q^T Q = I, or Q Q^T = I if it is wide.

    Args:
        module: the layer, which is changed.
        name: the parameter, a matrix or a batch of them.
        orthogonal_map: ``matrix_exp``, ``cayley`` or ``householder``; default: ``matrix_exp`` for square
            matrices, else ``householder``.
        use_trivialization: multiply by a base point, which makes every orthogonal matrix reachable and
            assignable.

    Raises:
        ValueError: it is no matrix, or the map is unknown.

    Example:
        >>> import nbdl
        >>> layer = nbdl.nn.utils.parametrizations.orthogonal(nbdl.nn.Linear(4, 4))
        >>> nbdl.allclose(layer.weight @ layer.weight.mT, nbdl.eye(4), atol=1e-5)
        True
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if weight.ndim < 2:
        raise ValueError(f"orthogonal: Expected a matrix or batch of matrices. Got a {weight.ndim}-D tensor")
    if orthogonal_map is None:
        orthogonal_map = "matrix_exp" if weight.shape[-2] == weight.shape[-1] else "householder"
    if orthogonal_map not in _MAPS:
        raise ValueError(
            f"orthogonal: orthogonal_map has to be one of {', '.join(_MAPS)}. Got: {orthogonal_map}"
        )
    orth = _Orthogonal(weight, orthogonal_map, use_trivialization)
    return register_parametrization(module, name, orth, unsafe=True)


# ----------------------------------------------------------------------------- spectral and weight norms
class _SpectralNorm(Module):
    def __init__(self, weight: Tensor, n_power_iterations: int, dim: int, eps: float):
        super().__init__()
        if not -weight.ndim <= dim < weight.ndim:
            raise IndexError(
                "spectral_norm: Dimension out of range (expected to be in range of "
                f"[-{weight.ndim}, {weight.ndim - 1}] but got {dim})"
            )
        if n_power_iterations <= 0:
            raise ValueError(
                "spectral_norm: Expected n_power_iterations to be positive, but got "
                f"n_power_iterations={n_power_iterations}"
            )
        self.dim, self.eps, self.n_power_iterations = dim % weight.ndim, eps, n_power_iterations
        if weight.ndim > 1:
            matrix = as_matrix(weight.detach(), self.dim)
            rows, columns = matrix.array.shape
            self.register_buffer("_u", random_direction(weight, rows, eps))
            self.register_buffer("_v", random_direction(weight, columns, eps))
            power_iterations(matrix, self._u, self._v, 15, eps)

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            power_iterations(matrix, self._u, self._v, self.n_power_iterations, self.eps)
        return weight / self._u.clone().dot(matrix.mv(self._v.clone()))

    def right_inverse(self, value: Tensor) -> Tensor:
        """The weight itself: it has norm 1 if it was normalised."""
        return value


def spectral_norm(
    module: Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> Module:
    """Divide a weight by its largest singular value, which each use in training estimates a little better.

    Args:
        module: the layer, which is changed.
        name: the parameter.
        n_power_iterations: of every use in training.
        eps: lower bound of the norms in the iteration.
        dim: the axis that makes the rows of the matrix; default: 1 for transposed convolutions, else 0.

    Raises:
        ValueError: there is no such tensor, or ``n_power_iterations`` is not positive.
        IndexError: there is no such axis.

    Source: Miyato, Kataoka, Koyama, Yoshida (2018), Spectral normalization for generative adversarial
        networks.
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    axis = spectral_axis(module) if dim is None else dim
    return register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, axis, eps))


class _WeightNorm(Module):
    def __init__(self, dim: int | None):
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return weight_of_norm(weight_g, weight_v, self.dim)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Norms and directions of a weight."""
        return norm_except_dim(weight, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Split a weight into norms ``original0`` and directions ``original1``: w = g v / norm(v).

    Checkpoints of :func:`nbdl.nn.utils.weight_norm` load too.

    Args:
        module: the layer, which is changed.
        name: the parameter.
        dim: the axis along which every slice has a norm of its own; None: one norm for all.

    Source: Salimans, Kingma (2016), Weight normalization.
    """
    register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def rename_older_keys(module: Module, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for suffix, original in (("g", "original0"), ("v", "original1")):
            key = f"{prefix}{name}_{suffix}"
            if key in state_dict:
                state_dict[f"{prefix}parametrizations.{name}.{original}"] = state_dict.pop(key)

    module.register_load_state_dict_pre_hook(rename_older_keys)
    return module
