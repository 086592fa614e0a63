"""Parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

from nbdl.autograd.tensor import Tensor
from nbdl.ops.joining import cat


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters, flattened, one after the other; differentiable.

    Raises:
        TypeError: they are on different devices.

    Example:
        >>> import nbdl
        >>> layer = nbdl.nn.Linear(3, 2)
        >>> nbdl.nn.utils.parameters_to_vector(layer.parameters()).shape
        nbdl.Size([8])
    """
    given = list(parameters)
    devices = {str(parameter.device) for parameter in given}
    if len(devices) > 1:
        raise TypeError(
            "parameters_to_vector: Found parameters on different devices, this is currently not supported: "
            f"{', '.join(sorted(devices))}"
        )
    return cat([parameter.reshape((-1,)) for parameter in given])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """The inverse of :func:`parameters_to_vector`: each parameter shares the memory of its part of ``vec``.

    Raises:
        TypeError: ``vec`` is no tensor.
        RuntimeError: it is too short.
    """
    if not isinstance(vec, Tensor):
        raise TypeError(f"vector_to_parameters: expected a Tensor, but got: {type(vec).__name__}")
    start = 0
    for parameter in parameters:
        stop = start + parameter.array.size
        parameter.data = vec[start:stop].reshape(parameter.array.shape).detach()
        start = stop
