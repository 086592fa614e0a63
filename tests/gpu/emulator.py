"""Compiles CUDA C with the C++ compiler and runs it on the CPU: see cuda_cpu.h."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nbdl import config

HERE = Path(__file__).resolve().parent
FLAGS = (
    "-std=c++17", "-O1", "-g1", "-fPIC", "-fwrapv", "-ffp-contract=off", "-fno-strict-aliasing",
    "-fno-gnu-unique", f"-I{HERE}", f"-I{HERE / 'include'}",
)  # fmt: skip
# Every access of a kernel calls the runtime, which knows a race when it sees one.
KERNEL_FLAGS = (
    "-fsanitize=thread,bounds,alignment,integer-divide-by-zero", "-fno-sanitize-recover=all",
    "-Wall", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-function", "-Wno-unused-variable",
    "-Wno-attributes", "-Wno-tsan", "-Wno-int-in-bool-context",
)  # fmt: skip
_KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(")
_DYNAMIC = re.compile(
    r"extern\s+__shared__\s+(?:__align__\(\d+\)\s*)?([\w:]+(?:\s+\w+)?)\s+(\w+)\s*\[\s*\]\s*;"
)


class KernelError(RuntimeError):
    """A kernel that does not compile, or did what no kernel may do."""


def missing_reason() -> str | None:
    """Why kernels cannot run here; None where they can."""
    return None if shutil.which("g++") else "kernels are emulated with g++, which is not installed"


def _folder() -> Path:
    folder = config.cache_dir() / "emulated"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _build(name: str, suffix: str, text: str, make: Callable[[Path], list[list[str]]]) -> Path:
    """A file made of ``text`` by commands, or found among those made before.

    Args:
        name: what it is.
        suffix: of its name.
        text: the source, which is written to ``{name}.cpp`` in a scratch folder.
        make: gives the commands for the path of the result.
    """
    parts = [text, *FLAGS, *KERNEL_FLAGS, *[(HERE / part).read_text() for part in _HEADERS]]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    target = _folder() / f"{name}-{digest}{suffix}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=_folder()) as scratch:
            Path(scratch, f"{name}.cpp").write_text(text)
            for command in make(Path(scratch, "made")):
                done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise KernelError(done.stderr)
            os.replace(Path(scratch, "made"), target)  # at once, whoever else makes it
    return target


_HEADERS = ("cuda_cpu.h", "include/cuda_fp16.h", "include/cuda_bf16.h")


@functools.cache
def _runtime() -> Path:
    """The library with the fibres; loaded so that modules find it."""
    text = (HERE / "cuda_cpu.cpp").read_text()
    path = _build(
        "runtime",
        ".so",
        text,
        lambda made: [["g++", *FLAGS, "-O2", "-Wall", "-shared", "runtime.cpp", "-o", str(made)]],
    )
    ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    return path


@functools.cache
def _precompiled_header() -> Path:
    """cuda_cpu.h as the compiler wants it: reading the text takes most of the time of a kernel."""

    def make(made: Path) -> list[list[str]]:
        return [["g++", *FLAGS, *KERNEL_FLAGS, "-x", "c++-header", "header.cpp", "-o", str(made)]]

    return _build("header", ".h.gch", '#include "cuda_cpu.h"\n', make)


def _kernel_commands(made: Path) -> list[list[str]]:
    header = _precompiled_header().with_suffix("")  # the compiler looks for it with .gch appended
    # Without libraries, lest those of the sanitizers come in: the runtime has their hooks.
    return [
        [
            "g++",
            *FLAGS,
            *KERNEL_FLAGS,
            "-include",
            str(header),
            "-shared",
            "-nostdlib",
            "-pipe",
            "kernel.cpp",
            "-o",
            str(made),
        ]
    ]


class Module:
    """The kernels of a source.

    Args:
        code: CUDA C.
    """

    def __init__(self, code: str):
        self.names = _KERNEL.findall(code)
        _runtime()
        body = _DYNAMIC.sub(r"\1* \2 = static_cast<\1*>(cuda_cpu_dynamic_shared());", code)
        body = body.replace('extern "C" __global__', "__global__")
        exports = "\n".join(f"CUDA_CPU_EXPORT({name})" for name in self.names)
        self._path = _build("kernel", ".so", f"{body}\n{exports}\n", _kernel_commands)
        self._library = ctypes.CDLL(str(self._path))

    def get_function(self, name: str) -> Kernel:
        """The kernel called ``name``."""
        if name not in self.names:
            raise KernelError(f"there is no kernel {name!r}, only {', '.join(self.names)}")
        return Kernel(name, self._library, self._path)


class _Parameter(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_char), ("size", ctypes.c_int))


class Kernel:
    """One kernel; called like a kernel of CuPy.

    Attributes:
        seed: the order in which threads get their turns: 0 forward, 1 backward, else shuffled.
        seconds: of processor time, after which a launch is ended.
    """

    seed = 0
    seconds = 20

    def __init__(self, name: str, library: ctypes.CDLL, path: Path):
        self.name, self._path = name, path
        self._launch = getattr(library, f"launch_{name}")
        self._launch.restype = ctypes.c_char_p
        list_parameters = getattr(library, f"parameters_{name}")
        list_parameters.restype = ctypes.POINTER(_Parameter)
        entries = list_parameters()
        self.parameters: list[tuple[str, int]] = []
        while entries[len(self.parameters)].size:
            entry = entries[len(self.parameters)]
            self.parameters.append((entry.kind.decode(), entry.size))

    def __call__(
        self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], shared_mem: int = 0
    ) -> None:
        """Run all blocks.

        Args:
            grid: numbers of blocks.
            block: numbers of threads.
            args: NumPy arrays for pointers, NumPy scalars or Python numbers for the rest.
            shared_mem: bytes of dynamic shared memory.

        Raises:
            KernelError: the arguments do not fit the parameters, or the kernel did what no kernel may do.
        """
        if len(args) != len(self.parameters):
            raise KernelError(
                f"{self.name} takes {len(self.parameters)} arguments but {len(args)} were given"
            )
        packed = [self._packed(k, value) for k, value in enumerate(args)]
        pointers = (ctypes.c_void_p * len(packed))(*[value.ctypes.data for value in packed])
        dims = (ctypes.c_uint * 6)(*[*grid, 1, 1][:3], *[*block, 1, 1][:3])
        error = self._launch(
            dims, ctypes.c_size_t(shared_mem), pointers, ctypes.c_uint(self.seed), self.seconds
        )
        if error:
            launch = f"{self.name}<<<{tuple(grid)}, {tuple(block)}, {shared_mem}>>>"
            raise KernelError(f"{launch}: {self._located(error.decode())}")

    def _packed(self, k: int, value: Any) -> np.ndarray:
        """An argument in memory, as CuPy packs it: Python integers are int64, floats are float64."""
        kind, size = self.parameters[k]
        if isinstance(value, np.ndarray):
            if kind != "p" or value.itemsize != size:
                raise KernelError(
                    f"{self.name}: argument {k} is an array of {value.dtype}, the parameter is {kind}{size}"
                )
            return np.array([value.ctypes.data], np.uint64)
        packed = np.atleast_1d(np.asarray(value))
        given = "f" if packed.dtype.kind == "f" else "i"
        if kind != given or packed.itemsize != size:
            raise KernelError(f"{self.name}: argument {k} is {packed.dtype}, the parameter is {kind}{size}")
        return packed

    def _located(self, message: str) -> str:
        """The message with the address of an access replaced by its line."""
        text, at, address = message.partition(" @")
        if not at:
            return text
        command = ["addr2line", "-i", "-e", str(self._path), f"0x{address}"]
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        lines = re.findall(r"kernel\.cpp:(\d+)", found)
        return f"{text} (line {lines[0]})" if lines else text
