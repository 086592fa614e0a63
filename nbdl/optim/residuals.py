"""Vectors of residuals: their Jacobian, and losses that grow slower than their squares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nbdl.autograd import engine
from nbdl.autograd.modes import enable_grad, no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula, atan, log1p, sqrt, where
from nbdl.ops.creation import eye
from nbdl.ops.joining import stack
from nbdl.ops.pointwise import call
from nbdl.optim.function import convert
from nbdl.optim.vectors import Layout


def jacobian(residuals: Tensor, leaves: Sequence[Tensor], layout: Layout) -> Tensor:
    """The Jacobian (m, n) of recorded residuals (m,) by the variables.

    Its rows are reverse passes. With fewer columns than rows, the passes run through the product J^T v
    instead, which is linear in v and has the derivative J e_k for each variable k.
    """
    m, n = residuals.numel(), layout.size
    if not residuals.requires_grad or not m:
        return residuals.detach().new_zeros((m, n))
    if m <= n:
        units = eye(m, dtype=residuals.dtype, device=residuals.device).unbind(0)
        rows = [
            engine.grad(residuals, leaves, unit, retain_graph=True, materialize_grads=True) for unit in units
        ]
        with no_grad():
            return stack([layout.flat([part for part in row if part is not None]) for row in rows])
    v = residuals.detach().zeros_like(requires_grad=True)
    with enable_grad():
        product = engine.grad(residuals, leaves, v, create_graph=True, materialize_grads=True)
    columns: list[Tensor | None] = []
    for unit in eye(n, dtype=residuals.dtype, device=residuals.device).unbind(0):
        pairs = [
            (g, u)
            for g, u in zip(product, layout.split(unit), strict=True)
            if g is not None and g.requires_grad
        ]
        columns += engine.grad(
            [g for g, _ in pairs], v, [u for _, u in pairs], retain_graph=True, materialize_grads=True
        )
    with no_grad():
        return stack([column for column in columns if column is not None], 1)


# Functions rho of squared residuals z, with the first two derivatives: those of SciPy's least_squares.


def _huber(z: Any) -> tuple[Any, Any, Any]:
    root = sqrt(where(z > 1, z, 1))
    return where(z > 1, 2 * root - 1, z), 1 / root, where(z > 1, -1 / (2 * root * root * root), 0)


def _soft_l1(z: Any) -> tuple[Any, Any, Any]:
    root = sqrt(1 + z)
    return 2 * (root - 1), 1 / root, -1 / (2 * root * root * root)


def _cauchy(z: Any) -> tuple[Any, Any, Any]:
    return log1p(z), 1 / (1 + z), -1 / ((1 + z) * (1 + z))


def _arctan(z: Any) -> tuple[Any, Any, Any]:
    slope = 1 / (1 + z * z)
    return atan(z), slope, -2 * z * slope * slope


ROBUST_LOSSES: dict[str, Formula] = {
    "soft_l1": Formula("soft_l1", _soft_l1, 1),
    "huber": Formula("huber", _huber, 1),
    "cauchy": Formula("cauchy", _cauchy, 1),
    "arctan": Formula("arctan", _arctan, 1),
}
LOSSES = ("linear", *ROBUST_LOSSES)


Loss = str | Callable[[Tensor], Any]


def _rho(loss: Loss, z: Tensor) -> Any:
    """A robust loss and its two derivatives at z (m,): three tensors (m,).

    Raises:
        ValueError: a function of the user gives another shape.
    """
    if isinstance(loss, str):
        return call(ROBUST_LOSSES[loss], z)
    rows = convert("least_squares", "loss", loss(z), z)
    if tuple(rows.shape) != (3, z.numel()):
        raise ValueError(
            f"least_squares: loss must return an array of shape {(3, z.numel())}, got {tuple(rows.shape)}"
        )
    return rows.unbind(0)


def cost(residuals: Tensor, loss: Loss, scale: float) -> Tensor:
    """scale^2 sum rho(r^2 / scale^2) / 2, 0-d."""
    if loss == "linear":
        return (residuals * residuals).sum() * 0.5
    z = (residuals / scale) ** 2
    return _rho(loss, z)[0].sum() * (0.5 * scale * scale)


def reweighted(
    residuals: Tensor, matrix: Tensor, loss: Loss, scale: float, second_order: bool
) -> tuple[Tensor, Tensor]:
    """Residuals and Jacobian whose squares have the gradient of a robust cost.

    Args:
        residuals: r (m,).
        matrix: J (m, n).
        loss: the name of the loss, or a function, see :func:`nbdl.optim.least_squares`.
        scale: the residual from which it bends.
        second_order: whether its second derivative counts in J^T J, Triggs et al. (2000), Bundle adjustment:
            a modern synthesis, eq. (11); otherwise these are iteratively reweighted least squares.
    """
    if loss == "linear":
        return residuals, matrix
    z = (residuals / scale) ** 2
    _, slope, bend = _rho(loss, z)
    weight = ((slope + 2 * bend * z).clamp(min=1e-16) if second_order else slope).sqrt()
    return residuals * slope / weight, matrix * weight.unsqueeze(1)
