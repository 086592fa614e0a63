"""Formulas that passes make: equal ones are one object, so that their primitives are too."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from nbdl.compiler.program import Window
from nbdl.formula import Expr, Formula, dtypes


@functools.lru_cache(maxsize=4096)
def formula_of(name: str, outputs: tuple[Expr, ...], arity: int) -> Formula:
    """The one formula with these outputs."""
    return Formula.of(name, outputs, arity)


def dtypes_of(
    formula: Formula, windows: Sequence[Window], weak: int
) -> tuple[np.dtype, np.dtype, tuple[np.dtype, ...]]:
    """What :func:`nbdl.formula.dtypes.arithmetic` says of a formula on windows."""
    ranks = tuple(0 if weak >> k & 1 else 2 if window.shape else 1 for k, window in enumerate(windows))
    return dtypes.arithmetic(formula, tuple(window.dtype for window in windows), ranks)
