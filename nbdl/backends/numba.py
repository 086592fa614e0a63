"""Switches of the Numba backend, set as attributes of this module.

Attributes:
    winograd (bool): Whether convolutions of 3x3 taps in float32 may be computed by the method of Winograd
        where that is faster. It rounds a little more than the direct method: see
        :mod:`nbdl.backend.numba.winograd` for how much. The default is True, or what the environment
        variable ``NBDL_WINOGRAD`` says.

Example:
    >>> import nbdl
    >>> nbdl.backends.numba.winograd = False  # every convolution directly
    >>> nbdl.backends.numba.winograd = True
"""

from __future__ import annotations

import sys
import types

from nbdl import config
from nbdl.backend import registry

__all__ = ["winograd"]

winograd: bool


class _Switches(types.ModuleType):
    """The class of this module: what is planned or compiled must be made anew when a switch changes."""

    @property
    def winograd(self) -> bool:
        return config.WINOGRAD.value

    @winograd.setter
    def winograd(self, value: bool) -> None:
        config.WINOGRAD.set(_checked("winograd", value))
        _make_plans_anew()


def _make_plans_anew() -> None:
    if registry.is_loaded("numba"):
        from nbdl.backend.numba import threads

        threads.forget_plans()


def _checked(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"nbdl.backends.numba.{name}: expected True or False, got {type(value).__name__}")
    return value


sys.modules[__name__].__class__ = _Switches
