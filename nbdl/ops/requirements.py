"""What elements of operands have to fulfil, as an operation: so programs check it, too."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.autograd.modes import mode
from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.ops.pointwise import operand
from nbdl.ops.primitive import Primitive
from nbdl.ops.reduction import Reduce

__all__ = ["Requirement", "require"]


class Requirement(Primitive):
    """``requirement(violations, x)``: an error if the number of elements that violate it is not 0.

    A subclass may say which elements do by overriding `check_values`. The result is the number.

    Args:
        error: the class of the exception.
        message: its text.
    """

    name = "requirement"
    differentiable = False
    has_effect = True

    def __init__(self, error: type[Exception], message: str):
        super().__init__()
        self.error, self.message = error, message

    def check_values(self, *arrays: Any) -> None:
        """Nothing is violated."""
        if arrays[0].any():
            raise self.error(self.message)


def require(requirement: Requirement, violated: Formula, x: Tensor, *numbers: float) -> None:
    """Raise the error of a requirement if an element violates it, now or when a recorded program runs.

    Examples of a `vmap` are not looked at, nor what a program of a GPU computes, which would wait for it.

    Args:
        requirement: raises the error.
        violated: of an element and the numbers; 1 if the element is not allowed, else 0.
        x: the elements.
        numbers: further operands of the formula.
    """
    if x.batch is not None or (mode.recorder is not None and not isinstance(x.array, np.ndarray)):
        return
    operands = [x.detach(), *[operand(requirement.name, k, number)[0] for k, number in enumerate(numbers)]]
    weak = (1 << len(operands)) - 2
    count = Reduce.of(violated, "sum", tuple(range(x.array.ndim)), False, weak)
    violations = apply(count, *operands)
    apply(
        requirement, violations if violations.array.dtype.itemsize == 8 else violations.double(), operands[0]
    )
