"""Whose code it is: the user's, or that of a library, which nobody changes while a program is in use."""

from __future__ import annotations

import functools
import site
import sys
import sysconfig
from typing import Any

FIXED = frozenset({"nbdl", "numpy", "numba", "cupy", "builtins"}) | sys.stdlib_module_names - {"__main__"}


def package_of(value: Any) -> str:
    """The package at the top level from which a function or class is."""
    return (value.__module__ or "builtins").partition(".")[0]


def is_library(package: str) -> bool:
    """Whether a package is Python's, nbdl's, one of those below nbdl, or installed like these.

    What is installed in place (`pip install -e`), and what a program finds beside it, is the user's.
    """
    if package in FIXED:
        return True
    module = sys.modules.get(package)
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return any(place and place.startswith(_folders()) for place in places)


@functools.cache
def _folders() -> tuple[str, ...]:
    """Where packages are installed."""
    paths = sysconfig.get_paths()
    users = site.getusersitepackages()
    folders = {paths["purelib"], paths["platlib"], *site.getsitepackages(), users}
    return tuple(sorted(folders))
