"""Discrete Fourier transforms as linear maps, each with its adjoint.

With W the matrix exp(-2 pi i j k / n), the transform is W and the inverse one the conjugate of W, divided by
n as ``norm`` says; so the adjoint of one is the other with the division on the other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbdl.autograd.tensor import Tensor, made
from nbdl.backend.device import device_of, module_for
from nbdl.formula import dtypes
from nbdl.ops.batching import along_shifted_axis
from nbdl.ops.primitive import LinearMap

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node

# Where the adjoint transform is divided, by where the transform is.
ADJOINT_NORM = {"backward": "forward", "forward": "backward", "ortho": "ortho"}


class Fourier(LinearMap):
    """The complex transform.

    Args:
        axes: the transformed axes.
        inverse: the inverse transform.
        norm: ``backward``, ``forward`` or ``ortho``.
    """

    name = "fourier"

    def __init__(self, axes: tuple[int, ...], inverse: bool, norm: str):
        super().__init__(axes=axes, inverse=inverse, norm=norm)
        self.adjoint = (axes, not inverse, ADJOINT_NORM[norm])

    batch = along_shifted_axis

    def shifted(self) -> LinearMap:
        """Along the next axes."""
        return Fourier.of(
            tuple([axis + 1 for axis in self.params["axes"]]), self.params["inverse"], self.params["norm"]
        )

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The transform in the other direction."""
        return (Fourier.of(*self.adjoint)(gradients[0]),)


class FourierReal(LinearMap):
    """The transform of real numbers; half of the frequencies.

    Args:
        axis: the transformed axis.
        norm: ``backward``, ``forward`` or ``ortho``.
    """

    name = "fourier_real"

    def __init__(self, axis: int, norm: str):
        super().__init__(axis=axis, norm=norm)
        self.axis, self.norm = axis, norm

    batch = along_shifted_axis

    def shifted(self) -> LinearMap:
        """Along the next axis."""
        return FourierReal.of(self.axis + 1, self.norm)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The inverse counts all frequencies twice but those that stand alone, so they are halved before."""
        (gradient,) = gradients
        assert gradient is not None
        n = node.shape(0)[self.axis]
        halved = gradient * _weights(gradient, self.axis, n, 0.5)
        return (FourierRealInverse.of(self.axis, n, ADJOINT_NORM[self.norm])(halved),)


class FourierRealInverse(LinearMap):
    """Real numbers from half of the frequencies.

    Args:
        axis: the transformed axis.
        n: its length in the result.
        norm: ``backward``, ``forward`` or ``ortho``.
    """

    name = "fourier_real_inverse"

    def __init__(self, axis: int, n: int, norm: str):
        super().__init__(axis=axis, n=n, norm=norm)
        self.axis, self.n, self.norm = axis, n, norm

    batch = along_shifted_axis

    def shifted(self) -> LinearMap:
        """Along the next axis."""
        return FourierRealInverse.of(self.axis + 1, self.n, self.norm)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The transform, doubled where a frequency stands for its negative too."""
        (gradient,) = gradients
        half = FourierReal.of(self.axis, ADJOINT_NORM[self.norm])(gradient)
        return (half * _weights(half, self.axis, self.n, 2.0),)


def _weights(x: Tensor, axis: int, n: int, paired: float) -> Tensor:
    """1 for the frequencies that are their own negative (0 and n / 2), else ``paired``; broadcasts."""
    weights = np.full(n // 2 + 1, paired, dtypes.real_of(x.dtype))
    weights[0] = 1
    if n % 2 == 0:
        weights[-1] = 1
    shape = [1] * x.array.ndim
    shape[axis] = len(weights)
    return made(module_for(device_of(x.array)).asarray(weights.reshape(shape)))
