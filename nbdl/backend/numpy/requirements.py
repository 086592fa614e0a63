"""What elements have to fulfil, on the NumPy backend."""

from __future__ import annotations

from typing import Any

from nbdl.backend.numpy.results import delivered

__all__ = ["Requirements"]


class Requirements:
    """The method of `NumpyBackend` that fails."""

    def requirement(self, violations: Any, x: Any, *, out: Any = None) -> Any:
        """The number of elements of ``x`` that are not allowed, which is 0.

        Raises:
            ValueError: it is not 0.
        """
        if violations.any():
            raise ValueError(f"{violations} elements of {x.size} are not allowed")
        return delivered(violations.copy(), out)
