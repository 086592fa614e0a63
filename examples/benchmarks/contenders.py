"""Who takes part in the benchmarks, and with what in the environment."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

# Where the first two are set, NumPy's OpenBLAS runs kernels of another CPU, at half speed; under the third,
# every process compiles the packages again that are not installed as wheels.
CLEARED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONDONTWRITEBYTECODE")
THREAD_COUNTS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NBDL_NUM_THREADS",
)


@dataclass(frozen=True)
class Contender:
    """A framework in one way of its use.

    Attributes:
        name: what the command line and the reports call it.
        programs: suffix of the modules with its programs, `workloads_<programs>` and `kernels_<programs>`.
        variant: handed to the programs.
        package: what must be installed.
        environment: variables that choose the variant.
        default: whether it takes part where nobody is named.
    """

    name: str
    programs: str
    variant: str
    package: str
    environment: dict[str, str] = field(default_factory=dict)
    default: bool = True

    @property
    def own(self) -> bool:
        """Whether this is nbdl; the others are its peers."""
        return self.package == "nbdl"

    @property
    def installed(self) -> bool:
        """Whether its package can be imported."""
        return importlib.util.find_spec(self.package) is not None


NBDL = Contender("nbdl", "nbdl", "eager", "nbdl", {"NBDL_BACKEND": "numba"})
NBDL_NUMPY = Contender("nbdl-numpy", "nbdl", "eager", "nbdl", {"NBDL_BACKEND": "numpy"})
TORCH = Contender("torch", "torch", "eager", "torch")

TRAINING = (
    NBDL,
    Contender("nbdl-compiled", "nbdl", "compiled", "nbdl", {"NBDL_BACKEND": "numba"}),
    Contender("nbdl-scan", "nbdl", "scan", "nbdl", {"NBDL_BACKEND": "numba"}),
    NBDL_NUMPY,
    TORCH,
    Contender("torch-fused", "torch", "fused", "torch"),
    Contender("torch-compile", "torch", "compile", "torch", default=False),  # compiles for half a minute
    Contender("torch-compile-step", "torch", "compile-step", "torch", default=False),  # for a minute
    Contender("jax", "jax", "step", "jax"),
    Contender("jax-scan", "jax", "scan", "jax"),
    # SciPy brings an OpenBLAS of its own: two pools of threads that spin cost more than one thread saves.
    Contender("scipy", "scipy", "numpy", "scipy", {"OPENBLAS_NUM_THREADS": "1"}),
    Contender("scipy-jax", "scipy", "jax", "jax", {"OPENBLAS_NUM_THREADS": "1"}),
    Contender("autograd", "autograd", "", "autograd"),
)
KERNELS = (NBDL, replace(NBDL_NUMPY, default=False), Contender("numpy", "numpy", "", "numpy"), TORCH)


def choose(table: Sequence[Contender], names: str | None) -> tuple[list[Contender], list[str]]:
    """The contenders that take part.

    Args:
        table: those of the benchmark.
        names: separated by commas; None for all that take part by default.

    Returns:
        The installed ones, and for each other one a line that says so.

    Raises:
        ValueError: a name is unknown.
    """
    by_name = {contender.name: contender for contender in table}
    wanted = [c.name for c in table if c.default] if names is None else names.split(",")
    for name in wanted:
        if name not in by_name:
            raise ValueError(f"unknown contender {name!r}; there are {', '.join(by_name)}")
    chosen = [by_name[name] for name in dict.fromkeys(wanted)]
    missing = [
        f"{c.name} is left out, since {c.package} is not installed: pip install {c.package}"
        for c in chosen
        if not c.installed
    ]
    return [c for c in chosen if c.installed], missing


def environment(contender: Contender, threads: int, **more: str) -> dict[str, str]:
    """The environment of a contender's process: equal thread counts, nothing that slows one of them down."""
    kept = {key: value for key, value in os.environ.items() if key not in CLEARED}
    counts = dict.fromkeys(THREAD_COUNTS, str(threads))
    return kept | counts | contender.environment | more
