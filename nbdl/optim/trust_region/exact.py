"""The trust-region subproblem solved exactly."""

from __future__ import annotations

from nbdl import linalg
from nbdl.autograd.tensor import Tensor
from nbdl.optim.objective import NonFiniteError, Objective, Point
from nbdl.optim.trust_region.secular import model_decrease, trust_region_step
from nbdl.optim.trust_region.subproblem import ModelStep, Subproblem
from nbdl.optim.vectors import norm


class Spectrum:
    """The Hessian at a point by its eigenvalues and eigenvectors; nothing of it is read.

    Attributes:
        values: eigenvalues, ascending (n,).
        coefficients: of the gradient in the basis of the eigenvectors (n,).
        wrong: 0-d, whether the Hessian is not finite; eigenvalues are those of another matrix then.
    """

    def __init__(self, objective: Objective, point: Point):
        matrix, largest = objective.hessian(point)
        self.values, self._vectors = linalg.eigh(matrix)
        self.coefficients = self._vectors.T @ point.gradient
        self.wrong = largest.isfinite().logical_not()
        self.point = point

    def model_step(self, coefficients: Tensor, penalty: float = 0.0) -> ModelStep:
        """The vector with these coefficients, and what the model promises for it.

        Args:
            coefficients: of the step in the basis of the eigenvectors.
            penalty: of a third of the cube of its length.
        """
        length = norm(coefficients)
        decrease = model_decrease(self.values, self.coefficients, coefficients) - penalty * length**3 / 3
        step = self._vectors @ coefficients.to(dtype=self._vectors.dtype)
        return ModelStep(step, length, decrease, False, self.wrong)


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
        spectrum = self._spectrum
        step, multiplier = trust_region_step(spectrum.values, spectrum.coefficients, radius)
        return spectrum.model_step(step)._replace(at_boundary=multiplier > 0)

    def doubt(self) -> None:
        raise NonFiniteError
