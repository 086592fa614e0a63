"""Tools around training."""

from __future__ import annotations

from nbdl.utils import data

__all__ = ["data"]
