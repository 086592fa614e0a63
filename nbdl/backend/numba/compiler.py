"""Compiles CPU kernels with Numba and keeps their machine code on disk.

Numba's own cache serves functions that stand in files; nbdl makes most kernels at run time, and to load one
must cost no more than reading a file. So the front end and the optimiser are Numba's, and the rest is here:

1. `compile_kernel` looks in the table of this process, then on disk;
2. on a miss Numba compiles the function into a code library that is not handed to Numba's own engine, a small
   entry function with a plain C signature is added, and LLVM emits the object code;
3. the object code is linked by LLVM's ORC just-in-time linker, each kernel as a library of its own: kernels
   cannot take each other's symbols, and an unresolved one is an exception (MCJIT would end the process).

A file of the cache is `MAGIC`, the SHA-256 of the rest, the names that the code imports, and the object code.
It is written under another name and moved into place, so that several processes can fill one folder. Beside
it stands a readable text: what was compiled. The names of folder and file hold hashes of all that determines
the code: sources, versions, CPU.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Collection
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba.core import types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from nbdl import config
from nbdl.collector import collector_paused
from nbdl.kernels import cpu as cpu_kernels
from nbdl.kernels.cpu.frontend import FASTMATH, FASTMATH_REASSOC, CodeLibrary, compile_function

__all__ = ["FASTMATH", "FASTMATH_REASSOC", "KERNEL", "Signature", "compile_kernel"]

MAGIC = b"nbdl kernel 1\n"
ENTRY = "nbdl_kernel"
_OPTIMIZATION = 2  # LLVM's level; 3 compiles longer and gained nothing
_UNUSED_SECONDS = 30 * 24 * 60 * 60  # after which a folder of the cache may go

_log = logging.getLogger("nbdl")


class Signature(NamedTuple):
    """C signature of an entry: `arguments` int64 arguments; int64 or nothing is returned."""

    arguments: int
    returns: bool


KERNEL = Signature(arguments=4, returns=False)
"""`void(int64 args, int64 lo, int64 hi, int64 task)`, see `nbdl.kernels.cpu`."""


class _Object(NamedTuple):
    """Machine code of one kernel and the external names that its linker must be told."""

    code: bytes
    imports: tuple[str, ...]


def compile_kernel(
    name: str,
    make: Callable[[], Callable[..., Any]],
    source: str,
    *,
    fastmath: Collection[str] = FASTMATH,
    signature: Signature = KERNEL,
) -> int:
    """Returns the address of a compiled kernel, from this process, from disk or from the compiler.

    Args:
        name: Short name for people; letters, digits and underscores are kept in the file's name.
        make: Builds the Python function; called on a cache miss only.
        source: Text that determines the code, beside the files of `nbdl.kernels.cpu`, which always count: the
            source of a generated kernel, or a description (`"gemm float32"`) of one in those files.
        fastmath: LLVM's relaxations for the function that `make` returns; its callees have their own.
        signature: Arguments and result of the function.

    Returns:
        Address of the machine code; it stays valid until the process ends.

    Raises:
        numba.core.errors.NumbaError: Numba cannot compile the function.
        RuntimeError: The code needs a symbol that this process does not have.
    """
    key = (name, source, tuple(sorted(fastmath)), signature)
    address = _addresses.get(key)
    if address is None:
        with global_compiler_lock:
            address = _addresses.get(key) or _load_or_compile(key, make)
            _addresses[key] = address
    return address


_Key = tuple[str, str, tuple[str, ...], Signature]
_addresses: dict[_Key, int] = {}


def _load_or_compile(key: _Key, make: Callable[[], Callable[..., Any]]) -> int:
    name, source, fastmath, signature = key
    file_name = _file_name(key)
    cached = _read(file_name)
    if cached is not None:
        try:
            return _link(name, cached)
        except RuntimeError as error:
            _log.warning("compiling kernel %s again, since its cached code does not link: %s", name, error)
    started = time.perf_counter()
    compiled = _compile(make(), fastmath, signature)
    _log.debug("compiled kernel %s in %.0f ms", name, 1e3 * (time.perf_counter() - started))
    address = _link(name, compiled)
    description = f"{name}\nfastmath: {', '.join(fastmath)}\nsignature: {signature}\n\n{source}\n"
    _write(file_name, compiled, description)
    return address


# ---- Numba and LLVM ----


class _KernelLibrary(CodeLibrary):
    """The code of a kernel, optimised together with all that it calls."""

    def finalize(self) -> None:
        for library in self._linking_libraries:
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        _hide_all_but_entry(self._final_module)
        options = llvm.create_pipeline_tuning_options(_OPTIMIZATION)
        options.loop_vectorization = bool(numba.config.LOOP_VECTORIZE)
        options.slp_vectorization = bool(numba.config.SLP_VECTORIZE)
        options.loop_unrolling = False  # of loops that are not vectors': a fifth of LLVM's time, and no gain
        builder = llvm.create_pass_builder(self._codegen._tm, options)
        builder.getModulePassManager().run(self._final_module, builder)
        self._finalized = True


def _compile(function: Callable[..., Any], fastmath: Collection[str], signature: Signature) -> _Object:
    library = _KernelLibrary.new(ENTRY)
    arguments = (types.int64,) * signature.arguments
    returns = types.int64 if signature.returns else types.void
    with collector_paused():
        result = compile_function(function, arguments, returns, library, fastmath)
        _add_entry(library, result, signature)
        library.finalize()
        module = library._final_module
        return _Object(library.codegen._tm.emit_object(module), _imports(module))


def _add_entry(library: CodeLibrary, result: Any, signature: Signature) -> None:
    """Adds the C entry, which calls the function."""
    module = library.create_ir_module(f"{ENTRY}.entry")
    word = ir.IntType(64)
    entry_type = ir.FunctionType(word if signature.returns else ir.VoidType(), [word] * signature.arguments)
    entry = ir.Function(module, entry_type, ENTRY)
    builder = ir.IRBuilder(entry.append_basic_block())
    value = result.target_context.call_conv.call(builder, result.fndesc, entry.args)
    if signature.returns:
        builder.ret(value)
    else:
        builder.ret_void()
    library.add_ir_module(module)


def _hide_all_but_entry(module: llvm.ModuleRef) -> None:
    """Makes all but the entry internal, so that the optimiser drops nearly all of Numba's support code.

    LLVM's own variables stay: `llvm.compiler.used` names what loops are vectorised with (`library_beyond`).
    """
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name != ENTRY and not value.name.startswith("llvm."):
            value.linkage = "internal"


def _imports(module: llvm.ModuleRef) -> tuple[str, ...]:
    declared = (v.name for v in (*module.functions, *module.global_variables) if v.is_declaration)
    return tuple(sorted(name for name in declared if not name.startswith("llvm.")))


_libraries = count()


@cache
def _linker() -> llvm.LLJIT:
    linker = llvm.create_lljit_compiler()
    linker._owned = (
        False  # never freed: code must outlive Python objects that call it while the interpreter shuts down
    )
    return linker


def _link(name: str, kernel: _Object) -> int:
    library = llvm.JITLibraryBuilder().add_object_img(kernel.code).add_current_process().export_symbol(ENTRY)
    for symbol in kernel.imports:
        address = llvm.address_of_symbol(symbol)
        if not address:
            raise RuntimeError(f"compile_kernel: kernel {name!r} needs {symbol!r}, unknown to this process")
        library.import_symbol(symbol, address)
    loaded = library.link(_linker(), f"{name}.{next(_libraries)}")
    loaded.detach()
    return loaded[ENTRY]


# ---- Files ----


def _file_name(key: _Key) -> str:
    name, *rest = key
    slug = re.sub(r"\W+", "_", name)[:60]
    return f"{slug}-{hashlib.sha256(repr(rest).encode()).hexdigest()[:20]}"


@cache
def _environment_name() -> str:
    """Folder name made of everything beside the kernel's own key that determines machine code."""
    codegen = cpu_target.target_context.codegen()
    digest = hashlib.sha256()
    digest.update(repr((MAGIC, numba.__version__, llvmlite.__version__, codegen.magic_tuple())).encode())
    digest.update(repr((numba.config.OPT, numba.config.LOOP_VECTORIZE, numba.config.SLP_VECTORIZE)).encode())
    digest.update(Path(__file__).read_bytes())
    for folder in cpu_kernels.__path__:
        for path in sorted(Path(folder).rglob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"cpu-{digest.hexdigest()[:16]}"


def _read(file_name: str) -> _Object | None:
    """The kernel in the cache, or None where there is none or the file is damaged."""
    for folder in _folders():
        _open_folder(folder)
        path = folder / f"{file_name}.o"
        try:
            data = path.read_bytes()
        except OSError:
            continue
        checksum, payload = data[len(MAGIC) : len(MAGIC) + 32], data[len(MAGIC) + 32 :]
        if data.startswith(MAGIC) and hashlib.sha256(payload).digest() == checksum:
            imports, _, code = payload.partition(b"\n")
            return _Object(code, tuple(imports.decode().split()))
        _log.warning("ignoring the damaged file %s of the kernel cache", path)
    return None


@cache
def _open_folder(folder: Path) -> None:
    """Marks a folder as used; where it is to be new, those of other versions that nobody uses are removed."""
    try:
        if folder.exists():
            os.utime(folder)
            return
        for other in folder.parent.glob("cpu-*"):
            if other.stat().st_mtime < time.time() - _UNUSED_SECONDS:
                shutil.rmtree(other, ignore_errors=True)  # another process may be removing it too
    except OSError as error:
        _log.debug("cannot tidy up the kernel cache: %s", error)


def _write(file_name: str, kernel: _Object, text: str) -> None:
    payload = " ".join(kernel.imports).encode() + b"\n" + kernel.code
    data = MAGIC + hashlib.sha256(payload).digest() + payload
    *_, folder = _folders()
    try:
        _write_atomically(folder / f"{file_name}.txt", text.encode())
        _write_atomically(folder / f"{file_name}.o", data)
    except OSError as error:
        if _fallback:
            _log.debug("the kernel cache keeps nothing: %s", error)
            return
        _use_temporary_folder(error)
        _write(file_name, kernel, text)


def _write_atomically(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


_fallback: list[Path] = []


def _folders() -> list[Path]:
    """Where to look for a kernel; the last one is written to."""
    return [folder / _environment_name() for folder in (config.cache_dir(), *_fallback)]


def _use_temporary_folder(error: OSError) -> None:
    folder = Path(tempfile.mkdtemp(prefix="nbdl-kernels-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _fallback.append(folder)
    warnings.warn(
        f"compiled kernels cannot be kept in {config.cache_dir()} ({error}), so the next process"
        " compiles them again. Set NBDL_CACHE_DIR to a folder that can be written.",
        RuntimeWarning,
        stacklevel=2,
    )
    _log.warning("kernel cache %s is not writable (%s); using %s", config.cache_dir(), error, folder)
