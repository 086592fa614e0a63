"""What all pictures need: matplotlib when it is there, axes, and numbers out of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor


def pyplot() -> Any:
    """``matplotlib.pyplot``.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot as plt
    except ImportError:
        raise ImportError("nbdl.viz: matplotlib is missing: pip install matplotlib") from None
    return plt


def axes_or_new(ax: Any, **options: Any) -> Any:
    """``ax``, or the axes of a new figure with these options."""
    return pyplot().subplots(layout="constrained", **options)[1] if ax is None else ax


def numbers(values: Any) -> np.ndarray:
    """A tensor, on any device, or whatever NumPy takes, as an array of float64."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, np.float64)
