"""Bounds on gradients. Nothing is read into Python unless asked for, so compiled programs may clip too."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.nn.functional.distance import vector_norm
from nbdl.ops.creation import tensor
from nbdl.ops.joining import stack
from nbdl.ops.pointwise import call

Tensors = Tensor | Iterable[Tensor]

# The constant is PyTorch's; it keeps the clipped norm below the bound.
_COEFFICIENT = Formula(
    "clip_coefficient", lambda bound, norm: f.minimum(bound / (norm + 1e-6), 1), 2
)  # a NaN norm makes NaN


def _listed(tensors: Tensors) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _gradients(parameters: Tensors) -> list[Tensor]:
    return [parameter.grad for parameter in _listed(parameters) if parameter.grad is not None]


@no_grad()
def get_total_norm(
    tensors: Tensors,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The p-norm of all elements of all tensors, as of one vector.

    Args:
        tensors: one tensor or several.
        norm_type: the p, also infinite.
        error_if_nonfinite: raise if it is NaN or infinite.
        foreach: accepted for PyTorch's sake.

    Returns:
        a 0-d tensor, on the device of the first tensor

    Raises:
        RuntimeError: the norm is not finite, under ``error_if_nonfinite``.
    """
    given = _listed(tensors)
    if not given:
        return tensor(0.0)
    p, device = float(norm_type), given[0].device
    norms = [vector_norm(x.detach().reshape((-1,)), p, 0, False).to(device) for x in given]
    total = norms[0] if len(norms) == 1 else vector_norm(stack(norms), p, 0, False)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise RuntimeError(
            f"get_total_norm: The total norm of order {p} for gradients is non-finite ({total.item()}), so "
            "it cannot be clipped. To disable this error and scale the gradients by the non-finite norm "
            "anyway, set `error_if_nonfinite=False`"
        )
    return total


@no_grad()
def clip_grads_with_norm_(
    parameters: Tensors, max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Scale gradients down, in place, by max_norm / total_norm if that is less than 1.

    Args:
        parameters: whose gradients these are; one tensor or several.
        max_norm: the bound.
        total_norm: the norm of all gradients, see :func:`get_total_norm`.
        foreach: accepted for PyTorch's sake.
    """
    gradients = _gradients(parameters)
    if gradients:
        coefficient = call(_COEFFICIENT, float(max_norm), total_norm)
        for gradient in gradients:
            gradient.mul_(coefficient.to(gradient.device))


def clip_grad_norm_(
    parameters: Tensors,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale the gradients of ``parameters`` down, in place, so that their norm is at most ``max_norm``.

    Args:
        parameters: one tensor or several; those without gradient are left out.
        max_norm: the bound.
        norm_type: the p of the norm, also infinite.
        error_if_nonfinite: raise if the norm is NaN or infinite, instead of scaling by it.
        foreach: accepted for PyTorch's sake.

    Returns:
        the norm of all gradients together, before, as a 0-d tensor

    Raises:
        RuntimeError: the norm is not finite, under ``error_if_nonfinite``.

    Source: Pascanu, Mikolov, Bengio (2013), On the difficulty of training recurrent neural networks, section
        3.2.

    Example:
        >>> import nbdl
        >>> p = nbdl.zeros(2, requires_grad=True)
        >>> p.grad = nbdl.tensor([3.0, 4.0])
        >>> nbdl.nn.utils.clip_grad_norm_(p, max_norm=1.0)
        tensor(5.)
        >>> p.grad
        tensor([0.6000, 0.8000])
    """
    given = _listed(parameters)
    total = get_total_norm(_gradients(given), norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(given, max_norm, total, foreach)
    return total


@no_grad()
def clip_grad_value_(parameters: Tensors, clip_value: float, foreach: bool | None = None) -> None:
    """Move every element of the gradients into [-clip_value, clip_value], in place.

    Args:
        parameters: one tensor or several; those without gradient are left out.
        clip_value: the bound.
        foreach: accepted for PyTorch's sake.
    """
    bound = float(clip_value)
    for gradient in _gradients(parameters):
        gradient.clamp_(-bound, bound)


def clip_grad_norm(
    parameters: Tensors,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """:func:`clip_grad_norm_` under its old name, with a warning."""
    warnings.warn("clip_grad_norm is now deprecated in favor of clip_grad_norm_", FutureWarning, stacklevel=2)
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)
