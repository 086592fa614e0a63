"""What a benchmark ran on, for its report."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from contenders import Contender

VECTOR_EXTENSIONS = {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}


def describe(contenders: Iterable[Contender]) -> dict[str, str]:
    """The machine and the versions: label -> text."""
    cpu = _cpu_info()
    flags = (cpu.get("flags") or cpu.get("Features", "")).split()
    vectors = next((name for flag, name in VECTOR_EXTENSIONS.items() if flag in flags), "")
    family = f"family {cpu['cpu family']} model {cpu['model']}" if "cpu family" in cpu else ""
    model = cpu.get("model name") or platform.processor() or platform.machine()
    packages = dict.fromkeys(["numpy", "numba", *(contender.package for contender in contenders)])
    described = {
        "CPU": ", ".join(filter(None, (model, family, vectors))),
        "cores": str(_usable_cores()),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "Python": platform.python_version(),
        "versions": ", ".join(f"{name} {metadata.version(name)}" for name in packages),
    }
    if hasattr(os, "getloadavg"):
        described["load before the run"] = f"{os.getloadavg()[0]:.1f}"
    return described


def busy_seconds(path: Path = Path("/proc/stat")) -> float | None:
    """Processor time that all processes have used since the machine started; None where it is not told."""
    try:
        user, nice, system, _idle, _io_wait, *interrupts_and_stolen = path.read_text().split()[1:9]
    except OSError:
        return None
    ticks = sum(map(int, (user, nice, system, *interrupts_and_stolen)))
    return ticks / os.sysconf("SC_CLK_TCK")


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_info(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """What Linux says about the first core; empty elsewhere."""
    try:
        first_core = path.read_text().partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first_core.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
