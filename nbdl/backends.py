"""``torch.backends``: switches of libraries that are not there. They can be set, and change nothing.

Example:
    >>> import nbdl
    >>> nbdl.backends.cudnn.benchmark = True
    >>> nbdl.backends.mps.is_available()
    False
"""

from __future__ import annotations

__all__ = ["cuda", "cudnn", "mkl", "mps"]


class _Library:
    """A library with switches.

    Args:
        switches: their first values.
    """

    def __init__(self, **switches: object):
        self.__dict__.update(switches)

    def is_available(self) -> bool:
        """False: it is not used."""
        return False

    def is_built(self) -> bool:
        """False."""
        return False


cudnn = _Library(allow_tf32=False, benchmark=False, deterministic=True, enabled=False)
cuda = _Library(matmul=_Library(allow_tf32=False))
mkl = _Library()
mps = _Library()
