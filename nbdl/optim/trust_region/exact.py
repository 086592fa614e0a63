"""The trust-region subproblem solved exactly."""

from __future__ import annotations

import numpy as np

from nbdl import linalg
from nbdl.autograd.tensor import Tensor
from nbdl.ops.creation import from_numpy
from nbdl.optim.objective import Objective, Point, checked
from nbdl.optim.trust_region.secular import model_decrease, trust_region_step
from nbdl.optim.trust_region.subproblem import ModelStep, Subproblem
from nbdl.optim.vectors import fetch


class Spectrum:
    """The Hessian at a point by its eigenvalues, on the host, and eigenvectors, on the device.

    Attributes:
        values: eigenvalues, ascending (n,).
        coefficients: of the gradient in the basis of the eigenvectors (n,).
    """

    def __init__(self, objective: Objective, point: Point):
        matrix, largest = objective.hessian(point)
        values, self._vectors = linalg.eigh(matrix)
        read, *both = fetch(largest, values, self._vectors.T @ point.gradient)
        checked(read)
        self.values, self.coefficients = np.array(both).reshape(2, -1)
        self.point = point

    def step(self, coefficients: np.ndarray) -> Tensor:
        """The vector with these coefficients."""
        vectors = self._vectors
        return vectors @ from_numpy(coefficients).to(dtype=vectors.dtype, device=vectors.device)


class Exact(Subproblem):
    """The global minimizer of the model, the hard case included.

    One eigendecomposition serves all radii that are tried at a point.

    Source: Moré & Sorensen (1983); Nocedal & Wright (2006), section 4.3.
    """

    dense = True

    def __init__(self) -> None:
        self._spectrum: Spectrum | None = None

    def __call__(self, objective: Objective, point: Point, radius: float) -> ModelStep:
        if self._spectrum is None or self._spectrum.point is not point:
            self._spectrum = Spectrum(objective, point)
        values, c = self._spectrum.values, self._spectrum.coefficients
        step, multiplier = trust_region_step(values, c, radius)
        length = float(np.linalg.norm(step))
        return ModelStep(self._spectrum.step(step), length, model_decrease(values, c, step), multiplier > 0)
