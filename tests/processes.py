"""Programs under test in a Python of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_python(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs Python as a user does, on the default backend, with warnings as errors."""
    inherited = {name: value for name, value in os.environ.items() if name != "NBDL_BACKEND"}
    warnings = ("-W", "error", "-W", "ignore:Numba found neither OpenMP nor TBB:RuntimeWarning")
    return subprocess.run(
        [sys.executable, *warnings, *arguments],
        cwd=cwd, env=inherited | environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
