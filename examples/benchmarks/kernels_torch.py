"""The kernels in PyTorch."""

from __future__ import annotations

import os

import torch
from kernel_cases import build_programs
from kernels_tensors import Kernels

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

PROGRAMS = build_programs({dtype: Kernels(torch, dtype) for dtype in ("float32", "float64")})
