"""Line searches: how far to go along a direction."""

from __future__ import annotations

from nbdl.optim.search.armijo import Armijo
from nbdl.optim.search.fixed import FixedStep
from nbdl.optim.search.goldstein import Goldstein
from nbdl.optim.search.hager_zhang import HagerZhang
from nbdl.optim.search.line import Found, Line, Sample, Search
from nbdl.optim.search.more_thuente import MoreThuente
from nbdl.optim.search.weak_wolfe import WeakWolfe
from nbdl.optim.search.wolfe import StrongWolfe

__all__ = [
    "Armijo",
    "FixedStep",
    "Found",
    "Goldstein",
    "HagerZhang",
    "Line",
    "MoreThuente",
    "Sample",
    "Search",
    "StrongWolfe",
    "WeakWolfe",
]
