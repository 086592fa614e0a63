"""The kernels in nbdl."""

from __future__ import annotations

from kernel_cases import build_programs
from kernels_tensors import Kernels

import nbdl

PROGRAMS = build_programs({dtype: Kernels(nbdl, dtype) for dtype in ("float32", "float64")})
