"""Counts what is bound anew: members and hooks of modules, and the memory of tensors.

A compiled function works on the memory that it saw, and looks whether that is still in use only if this
number has changed.
"""

from __future__ import annotations


class _Rebindings:
    count = 0


rebindings = _Rebindings()
