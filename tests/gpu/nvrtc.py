"""NVIDIA's run-time compiler through ctypes: it needs neither a driver nor a GPU, only its wheel."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nbdl import config

REMEDY = "pip install nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12"


class Toolkit(NamedTuple):
    """A libnvrtc and the folder of CUDA's headers."""

    library: Path
    include: Path


class Compiled(NamedTuple):
    """What came of a source, and what the compiler said about it.

    Attributes:
        code: machine code for a real architecture (``sm_80``), PTX for a virtual one (``compute_80``).
        log: what the compiler said.
    """

    code: bytes
    log: str

    @property
    def spills(self) -> int:
        """Bytes of registers spilled to memory."""
        return sum(map(int, re.findall(r"(\d+) bytes spill", self.log)))


@functools.cache
def toolkits() -> tuple[Toolkit, ...]:
    """The compilers found: in the wheels for CUDA 12 and 13, or in a toolkit at its usual place."""
    return tuple(toolkit for toolkit in _candidates() if (toolkit.include / "cuda_fp16.h").exists())


def _candidates() -> Iterator[Toolkit]:
    for folder in map(Path, sys.path):
        for library in (folder / "nvidia" / "cuda_nvrtc" / "lib").glob("libnvrtc.so.*"):
            yield Toolkit(library, folder / "nvidia" / "cuda_runtime" / "include")
        for library in (folder / "nvidia" / "cu13" / "lib").glob("libnvrtc.so.*"):
            yield Toolkit(library, folder / "nvidia" / "cu13" / "include")
    for root in sorted(Path("/usr/local").glob("cuda-*")):
        for library in sorted(root.glob("lib64/libnvrtc.so.[0-9][0-9]")):
            yield Toolkit(library, root / "include")


@functools.cache
def _library(path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(path))


def compile_source(toolkit: Toolkit, source: str, architecture: str) -> Compiled:
    """Compile CUDA C, or find what came of the same text before.

    Args:
        toolkit: the compiler.
        source: the text.
        architecture: such as ``sm_80``, or ``compute_80`` for PTX.

    Raises:
        RuntimeError: the source is wrong; the message is the compiler's.
    """
    size = toolkit.library.stat().st_size  # another release of the compiler
    text = "\0".join([source, architecture, toolkit.library.name, str(size), Path(__file__).read_text()])
    folder = config.cache_dir() / "nvrtc"
    known = folder / hashlib.sha256(text.encode()).hexdigest()[:24]
    if known.exists():
        log, _, code = known.read_bytes().partition(b"\0")
        return Compiled(code, log.decode())
    made = _compile(toolkit, source, architecture)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        file.write(made.log.encode() + b"\0" + made.code)
    os.replace(file.name, known)  # at once, whoever else makes it
    return made


def _compile(toolkit: Toolkit, source: str, architecture: str) -> Compiled:
    library = _library(toolkit.library)
    program = ctypes.c_void_p()
    _check(library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None))
    options = [
        f"--gpu-architecture={architecture}", "--std=c++17", f"-I{toolkit.include}",
        "--ptxas-options=--verbose", "--ptxas-options=--warn-on-spills",
    ]  # fmt: skip
    array = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    status = library.nvrtcCompileProgram(program, len(options), array)
    log = _text(library, program, "ProgramLog").decode(errors="replace").rstrip("\0")
    code = b"" if status else _text(library, program, "CUBIN" if architecture[0] == "s" else "PTX")
    _check(library.nvrtcDestroyProgram(ctypes.byref(program)))
    if status:
        raise RuntimeError(f"NVRTC does not compile this for {architecture}:\n{log}")
    return Compiled(code, log)


def _text(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(library, f"nvrtcGet{what}")(program, buffer))
    return buffer.raw


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"NVRTC failed with status {status}")
