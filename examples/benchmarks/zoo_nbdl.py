"""The modules in nbdl."""

from __future__ import annotations

from zoo_cases import build_programs

import nbdl

PROGRAMS = build_programs(nbdl)
