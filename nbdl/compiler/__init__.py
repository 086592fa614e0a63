"""Recording functions below the tape, improving what was recorded, and replaying it."""

from __future__ import annotations

from nbdl.compiler.function import Compiled, compile
from nbdl.compiler.module import CompiledModule
from nbdl.compiler.passes import PASSES
from nbdl.compiler.recorder import RecordingError

__all__ = ["PASSES", "Compiled", "CompiledModule", "RecordingError", "compile"]
