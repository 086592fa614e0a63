"""Formulas: pointwise mathematics written once, as scalar expressions.

From one expression come the derivatives of any order and the code for NumPy, Numba and CUDA. The functions
below are the vocabulary; their meaning is NumPy's function of the same name.
"""

from __future__ import annotations

from nbdl.formula.expr import Expr, const, var
from nbdl.formula.formula import IDENTITY, Formula
from nbdl.formula.functions import FUNCTIONS, Function

__all__ = ["FUNCTIONS", "IDENTITY", "Expr", "Formula", "Function", "const", "var", *FUNCTIONS]


def __getattr__(name: str) -> Function:
    """The functions of the vocabulary by name: ``nbdl.formula.exp``."""
    try:
        return FUNCTIONS[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
