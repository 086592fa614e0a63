"""The modules in PyTorch."""

from __future__ import annotations

import os

import torch
from zoo_cases import build_programs

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

PROGRAMS = build_programs(torch)
