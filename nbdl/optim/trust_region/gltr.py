"""The trust-region subproblem in a growing Krylov subspace."""

from __future__ import annotations

from nbdl.autograd.tensor import Tensor
from nbdl.ops.joining import stack
from nbdl.optim.checks import count
from nbdl.optim.krylov import Lanczos, Watch
from nbdl.optim.objective import NonFiniteError, Objective, Point
from nbdl.optim.trust_region.secular import model_decrease, trust_region_step
from nbdl.optim.trust_region.subproblem import ModelStep, Subproblem
from nbdl.optim.vectors import fetch, norm


class GLTR(Subproblem):
    """The generalized Lanczos trust-region method: the exact minimizer in the Krylov space of the gradient.

    The space grows until the residual is small; unlike Steihaug's, the step goes on along the boundary.

    Source: Gould, Lucidi, Roma, Toint (1999), Solving the trust-region subproblem using the Lanczos method,
    algorithm 5.1 with the residual (5.2). On a device the space is as large as a
    :class:`~nbdl.optim.krylov.Watch` says.

    Args:
        max_iterations: the largest size of the space; default: n.
    """

    def __init__(self, max_iterations: int | None = None):
        if max_iterations is not None:
            count("GLTR", "max_iterations", max_iterations, 1)
        self._max_iterations, self._watch = max_iterations, Watch()

    def __call__(self, objective: Objective, point: Point, radius: float) -> ModelStep:
        lanczos = Lanczos(objective.hessian_operator(point), point.gradient)
        model, looks = None, self._watch.looks(point.gradient)
        for _ in lanczos.sizes(self._watch, self._max_iterations or point.x.numel()):
            if looks:
                model, rest = _minimized(lanczos, radius)
                if not fetch(rest)[0]:
                    break
        return model or _minimized(lanczos, radius)[0]

    def see(self, model: ModelStep) -> None:
        self._watch.learn(model.note)

    def doubt(self) -> None:
        raise NonFiniteError


def _minimized(lanczos: Lanczos, radius: float) -> tuple[ModelStep, Tensor]:
    """The minimizer in the present space; and 0-d, whether its residual is too large."""
    size = lanczos.start_norm
    values, vectors = lanczos.eigen()
    c = size * vectors[0]
    step, multiplier = trust_region_step(values, c, radius)
    coefficients = vectors @ step.to(dtype=vectors.dtype)
    # The last one is the residual, equation (5.2); the others what it was about in the smaller spaces.
    is_large = stack(lanczos.off_diagonal) * coefficients.abs() > size.sqrt().clamp(max=0.1) * size
    model = ModelStep(
        lanczos.combine(coefficients), norm(step), model_decrease(values, c, step), multiplier > 0,
        lanczos.wrong, 1 + is_large.sum(),
    )  # fmt: skip
    return model, is_large[-1]
