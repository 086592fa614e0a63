"""Trust-region subproblems: the step that a quadratic model allows within a radius."""

from __future__ import annotations

from nbdl.optim.trust_region.cauchy import Cauchy
from nbdl.optim.trust_region.dogleg import Dogleg
from nbdl.optim.trust_region.exact import Exact
from nbdl.optim.trust_region.gltr import GLTR
from nbdl.optim.trust_region.secular import cubic_step, trust_region_step
from nbdl.optim.trust_region.steihaug import Steihaug
from nbdl.optim.trust_region.subproblem import ModelStep, Subproblem

__all__ = [
    "GLTR",
    "Cauchy",
    "Dogleg",
    "Exact",
    "ModelStep",
    "Steihaug",
    "Subproblem",
    "cubic_step",
    "trust_region_step",
]
