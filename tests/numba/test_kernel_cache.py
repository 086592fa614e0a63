"""Kernels: raw memory inside compiled code, compilation, the cache on disk."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba import types

from nbdl import config
from nbdl.backend.numba import compiler
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.kernels.cpu import memory
from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import array_at, int64_at, load_int64

CALL = ctypes.PYFUNCTYPE(None, *[ctypes.c_int64] * 4)


def make_constant(value: int) -> Callable[[], Callable[..., Any]]:
    def make():
        def constant(args, lo, hi, task):
            int64_at(args, 1)[0] = value

        return constant

    return make


def constant_of(address: int) -> int:
    result = np.zeros(1, np.int64)
    CALL(address)(result.ctypes.data, 0, 0, 0)
    return int(result[0])


def never() -> Any:
    raise AssertionError("compiled although the cache has it")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty kernel cache; `monkeypatch` brings the tables of this process back."""
    monkeypatch.setattr(compiler, "_addresses", {})
    monkeypatch.setattr(compiler, "_fallback", [])
    config.CACHE_DIR.set(tmp_path / "cache")
    yield tmp_path / "cache"
    config.CACHE_DIR.set(None)


# ---- memory.py ----


@pytest.mark.parametrize("name", [name for name in memory.__all__ if name.endswith("_at")])
def test_views_read_and_write(name):
    view = getattr(memory, name)
    dtype = np.dtype("int16" if name == "array_at" else name.removesuffix("_at"))
    data = np.array([0, 1, 1, 0], dtype)

    if name == "array_at":

        @numba.njit
        def reverse(address):
            array, same = array_at(address, 4, np.int16), array_at(address, 4, np.int16(0))
            array[0], array[1], array[2], array[3] = same[3], same[2], same[1], array[0] == array[1]
    else:

        @numba.njit
        def reverse(address):
            array = view(address, 4)
            array[0], array[1], array[2], array[3] = array[3], array[2], array[1], array[0] == array[1]

    data[3] = 1
    reverse(data.ctypes.data)
    assert data.tolist() == [1, 1, 1, 0]


def test_words_and_stack():
    @numba.njit
    def swap_words(address):
        stack = memory.stack_int64(2)
        memory.store_int64(stack, 1, load_int64(address, 0))
        memory.store_int64(address, 0, load_int64(address, 1))
        memory.store_int64(address, 1, load_int64(stack, 1))
        return memory.load_int32(address, 2)

    words = np.array([7, -(2**40) + 5], np.int64)
    assert swap_words(words.ctypes.data) == 7
    assert words.tolist() == [-(2**40) + 5, 7]


# ---- frontend.py ----


@pytest.mark.parametrize("options", [{}, {"inlined": True}, {"inlined": False}, {"noalias": True}], ids=str)
def test_subroutines_serve_kernels_and_numba_code(cache, options):
    @subroutine(**options)
    def half(x):
        return x // 2

    @subroutine
    def quarter(x):
        return half(half(x))

    def make():
        def kernel(args, lo, hi, task):
            int64_at(args, 1)[0] = quarter(37)

        return kernel

    @numba.njit
    def eighth(x):
        return half(quarter(x))

    assert constant_of(compile_kernel("quarter", make, f"quarter {options}")) == 9
    assert (eighth(80), eighth(-9.0)) == (10, -2.0)  # compiled for each types


def test_subroutines_divide_by_zero_without_an_exception(cache):
    @subroutine
    def quotient(x, y):
        return x / y

    def make():
        def kernel(args, lo, hi, task):
            int64_at(args, 1)[0] = 6 if quotient(1.0, 0.0) > 1e300 else 7

        return kernel

    assert constant_of(compile_kernel("quotient", make, "quotient")) == 6


def test_errors_of_subroutines_name_them(cache):
    @subroutine
    def wrong(x):
        return x.no_such_attribute

    def make():
        def kernel(args, lo, hi, task):
            wrong(args)

        return kernel

    with pytest.raises(numba.core.errors.TypingError, match="no_such_attribute"):
        compile_kernel("wrong", make, "wrong")


# ---- compiler.py ----


def test_cache_serves_the_next_process(cache, monkeypatch):
    assert constant_of(compile_kernel("seven", make_constant(7), "7")) == 7
    assert constant_of(compile_kernel("seven", never, "7")) == 7
    monkeypatch.setattr(compiler, "_addresses", {})  # as a new process has it
    assert constant_of(compile_kernel("seven", never, "7")) == 7


def test_key_tells_kernels_apart(cache):
    variants = [("a", "1", {}), ("a", "2", {}), ("b", "1", {}), ("a", "1", {"fastmath": {"contract"}})]
    for value, (name, source, options) in enumerate(variants):
        assert constant_of(compile_kernel(name, make_constant(value), source, **options)) == value
    assert len(list(cache.rglob("*.o"))) == len(variants)


def test_readable_text_beside_the_code(cache):
    compile_kernel("a name / with signs", make_constant(1), "for i in rows:\n    out[i] = 1")
    (text,) = cache.rglob("*.txt")
    assert "for i in rows:\n    out[i] = 1" in text.read_text()
    assert text.name.startswith("a_name_with_signs-")
    assert text.with_suffix(".o").exists()


def damage_nothing_left(data: bytes) -> bytes:
    return b""


def damage_truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def damage_one_bit(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


def damage_other_format(data: bytes) -> bytes:
    return b"\x7fELF" + data


def damage_no_object_code(data: bytes) -> bytes:
    payload = b"\nnot an object file"
    return compiler.MAGIC + compiler.hashlib.sha256(payload).digest() + payload


@pytest.mark.parametrize(
    "damage",
    [damage_nothing_left, damage_truncated, damage_one_bit, damage_other_format, damage_no_object_code],
)
def test_damaged_file_is_compiled_again(cache, monkeypatch, damage):
    compile_kernel("eight", make_constant(8), "8")
    (path,) = cache.rglob("*.o")
    good = path.read_bytes()
    path.write_bytes(damage(good))
    monkeypatch.setattr(compiler, "_addresses", {})
    assert constant_of(compile_kernel("eight", make_constant(8), "8")) == 8
    assert path.read_bytes()[: len(compiler.MAGIC)] == compiler.MAGIC
    monkeypatch.setattr(compiler, "_addresses", {})
    assert constant_of(compile_kernel("eight", never, "8")) == 8


@pytest.mark.parametrize("reason", ["no folder", "full"])
def test_unusable_folder_falls_back_with_one_warning(cache, monkeypatch, reason):
    if reason == "no folder":
        cache.write_text("a file stands where the folder should be")
    else:
        write = compiler._write_atomically

        def write_or_fail(path, data):
            if cache in path.parents:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(path, data)

        monkeypatch.setattr(compiler, "_write_atomically", write_or_fail)
    with pytest.warns(RuntimeWarning, match="NBDL_CACHE_DIR"):
        nine = compile_kernel("nine", make_constant(9), "9")
    ten = compile_kernel("ten", make_constant(10), "10")  # a second warning would be an error
    assert (constant_of(nine), constant_of(ten)) == (9, 10)
    monkeypatch.setattr(compiler, "_addresses", {})
    assert constant_of(compile_kernel("nine", never, "9")) == 9


def test_failed_write_leaves_no_file(tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(compiler.os, "replace", fail)
    with pytest.raises(OSError, match="Permission denied"):
        compiler._write_atomically(tmp_path / "kernel.o", b"code")
    assert list(tmp_path.iterdir()) == []


def test_unresolved_symbol_is_an_exception(cache):
    missing = types.ExternalFunction("nbdl_no_such_function", types.void(types.int64))

    def make():
        def kernel(args, lo, hi, task):
            missing(args)

        return kernel

    with pytest.raises(RuntimeError, match="nbdl_no_such_function"):
        compile_kernel("unresolved", make, "unresolved")


def test_imported_symbol_is_resolved_from_the_cache(cache, monkeypatch):
    runtime_free = types.ExternalFunction("NRT_Free", types.void(types.intp))  # known to Numba's linker only

    def make():
        def kernel(args, lo, hi, task):
            if lo == 1:
                runtime_free(args)
            int64_at(args, 1)[0] = 5

        return kernel

    assert constant_of(compile_kernel("imports", make, "imports")) == 5
    monkeypatch.setattr(compiler, "_addresses", {})
    assert constant_of(compile_kernel("imports", never, "imports")) == 5


def test_threads_compile_once(cache):
    made = []

    def make():
        made.append(threading.get_ident())
        return make_constant(3)()

    results: list[int] = []
    workers = [
        threading.Thread(target=lambda: results.append(compile_kernel("three", make, "3"))) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(made) == 1
    assert len(results) == 4
    assert len(set(results)) == 1


def test_processes_share_a_folder(tmp_path):
    code = "from nbdl.backend.numba.launch import launch; print(launch.__name__)"
    command = [
        sys.executable,
        "-W",
        "error",
        "-W",
        "ignore:Numba found neither OpenMP nor TBB:RuntimeWarning",
        "-c",
        code,
    ]
    environment = {**os.environ, "NBDL_CACHE_DIR": str(tmp_path)}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in both] == ["launch\n", "launch\n"]
    assert [process.returncode for process in both] == [0, 0]
    names = {suffix: sorted(path.stem for path in tmp_path.rglob(f"*{suffix}")) for suffix in (".o", ".txt")}
    assert names[".o"] == names[".txt"] != []
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 2 * len(names[".o"])


@pytest.mark.parametrize("days", [29, 31])
def test_a_new_folder_replaces_those_long_unused(cache, days):
    old, other = cache / "cpu-0123456789abcdef", cache / "settings"
    for folder in (old, other):
        folder.mkdir(parents=True)
        (folder / "file").touch()
        os.utime(folder, times=(time.time() - days * 86400,) * 2)
    compile_kernel("eleven", make_constant(11), "11")
    assert old.exists() == (days == 29)
    assert (other / "file").exists()


def test_use_keeps_a_folder(cache, monkeypatch):
    compile_kernel("twelve", make_constant(12), "12")
    (folder,) = cache.iterdir()
    os.utime(folder, times=(0, 0))
    monkeypatch.setattr(compiler, "_addresses", {})
    compiler._open_folder.cache_clear()
    compile_kernel("twelve", never, "12")
    assert time.time() - folder.stat().st_mtime < 86400
