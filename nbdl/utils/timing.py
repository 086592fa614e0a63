"""How long a function takes, measured as fairly as a busy machine allows."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nbdl.backend import registry
from nbdl.utils.text import with_unit

_SAMPLE = 1e-3  # seconds that one sample should take, so that the clock's own steps do not matter
_MIN_SAMPLES = 5


class Timing(NamedTuple):
    """What a call took.

    Attributes:
        name: of the function.
        samples: seconds a call, each the mean over ``loops`` calls.
        loops: how many calls make a sample.
    """

    name: str
    samples: list[float]
    loops: int

    @property
    def median(self) -> float:
        """The typical time."""
        return statistics.median(self.samples)

    @property
    def minimum(self) -> float:
        """The time when nothing else disturbed."""
        return min(self.samples)

    def __str__(self) -> str:
        lower, _, upper = statistics.quantiles(self.samples, n=4)
        return (
            f"{self.name}: {with_unit(self.median, 's')} (half of them {with_unit(lower, 's')} to "
            f"{with_unit(upper, 's')}, fastest {with_unit(self.minimum, 's')}; {len(self.samples)} samples "
            f"of {self.loops})"
        )


def bench(function: Callable[..., Any], *args: Any, seconds: float = 1.0, **kwargs: Any) -> Timing:
    """Time ``function(*args, **kwargs)``, after a call that lets it compile.

    Args:
        function: what to time.
        args: its arguments.
        seconds: how long to measure, roughly.
        kwargs: its arguments by name.

    Raises:
        ValueError: ``seconds`` is not positive.

    Example:
        >>> import nbdl
        >>> from nbdl.utils import bench
        >>> timing = bench(nbdl.sum, nbdl.ones(1000), seconds=0.01)
        >>> 0 < timing.minimum <= timing.median
        True
    """
    name = getattr(function, "__name__", type(function).__name__)
    return compare({name: lambda: function(*args, **kwargs)}, seconds)[0]


def compare(functions: Mapping[str, Callable[[], Any]], seconds: float = 1.0) -> list[Timing]:
    """Time several functions in turn, so that what disturbs one disturbs all.

    Args:
        functions: by name.
        seconds: how long to measure each, roughly.

    Raises:
        ValueError: ``seconds`` is not positive.
    """
    if not seconds > 0:
        raise ValueError(f"bench: seconds must be positive, got {seconds!r}")
    loops = {}
    for name, function in functions.items():
        function()
        loops[name] = max(1, round(_SAMPLE / max(_sample(function, 1), 1e-9)))
    timings = {name: Timing(name, [], loops[name]) for name in functions}
    end = time.perf_counter() + seconds * len(functions)
    enough = False
    while not enough:
        for name, function in functions.items():
            timings[name].samples.append(_sample(function, loops[name]))
        done = min(len(timing.samples) for timing in timings.values()) if timings else _MIN_SAMPLES
        enough = done >= _MIN_SAMPLES and time.perf_counter() >= end
    return list(timings.values())


def _sample(function: Callable[[], Any], loops: int) -> float:
    """Seconds a call, without the garbage collector; what a GPU was given to do is waited for."""
    collects = gc.isenabled()
    gc.disable()
    try:
        wait_for_gpu()
        start = time.perf_counter()
        for _ in range(loops):
            function()
        wait_for_gpu()
        return (time.perf_counter() - start) / loops
    finally:
        if collects:
            gc.enable()


def wait_for_gpu() -> None:
    """Wait until a GPU, if one is in use, has done what it was given to do."""
    if registry.is_loaded("cupy"):
        import cupy

        cupy.cuda.get_current_stream().synchronize()
