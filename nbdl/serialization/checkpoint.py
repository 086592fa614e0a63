"""save and load: what users call."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

import numpy as np

from nbdl.autograd.modes import mode
from nbdl.autograd.reading import before_reading
from nbdl.autograd.tensor import Tensor
from nbdl.backend.device import CPU, Device
from nbdl.serialization import safetensors
from nbdl.serialization.safetensors import FormatError
from nbdl.serialization.structure import Decoder, Encoder

_STRUCTURE = "nbdl"  # the entry of the metadata that says how the arrays are nested
_Path = str | os.PathLike


def save(obj: Any, f: _Path | BinaryIO) -> None:
    """Save tensors in nested containers to a safetensors file.

    Other programs read the file too: the entries of a ``state_dict`` keep their names, deeper ones are named
    by their keys with dots between. The file appears under its name when it is complete and on disk; until
    then what was there stays. Tensors that are the same memory are saved once, and share it when loaded.

    Args:
        obj: dicts, lists, tuples and sets of tensors, NumPy arrays, numbers, strings, dtypes and None, such
            as the ``state_dict`` of modules and optimizers.
        f: a path, or a binary file open for writing.

    Raises:
        TypeError: there is something else in ``obj``.

    Example:
        >>> import nbdl, tempfile, pathlib
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = pathlib.Path(folder.name) / "checkpoint.safetensors"
        >>> nbdl.save({"weight": nbdl.ones(2), "epoch": 3}, path)
        >>> nbdl.load(path)
        {'weight': tensor([1., 1.]), 'epoch': 3}
        >>> folder.cleanup()
    """
    encoder = Encoder()
    structure = json.dumps(encoder.encode(obj), separators=(",", ":"))
    _write(f, safetensors.chunks(encoder.arrays, {_STRUCTURE: structure}))


def load(
    f: _Path | BinaryIO,
    map_location: Any = None,
    *,
    weights_only: bool = True,
    mmap: bool | None = None,
) -> Any:
    """Load what :func:`save`, or another writer of safetensors files, has saved. No code is run.

    Args:
        f: a path, or a binary file open for reading that can seek.
        map_location: where the tensors go: a device, a dict from the devices they were on, or a function
            ``(tensor on the CPU, name of the device it was on) -> tensor or None``. Default: where they were.
        weights_only: accepted for compatibility; there is nothing else to load.
        mmap: map the file into memory instead of reading it: parts that are never looked at are never read,
            and the checksum is not verified. Changes of the tensors do not reach the file.

    Returns:
        What was saved; for files of other writers, a dict of tensors by name.

    Raises:
        RuntimeError: the file is truncated or corrupt, or of another format; or a tensor was on a device that
            is not here.
    """
    arrays, structure, label = _read(f, bool(mmap), "load")
    place = _placement(map_location, label)
    if structure is None:
        return {name: place(Tensor(array), "cpu") for name, array in arrays.items()}
    try:
        return Decoder(arrays, place).decode(json.loads(structure))
    except (ValueError, TypeError, KeyError, AttributeError, StopIteration, RecursionError) as error:
        raise FormatError(f"{label} is corrupt: its structure: {type(error).__name__}: {error}") from None


def save_file(
    tensors: Mapping[str, Tensor], filename: _Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Save named tensors, as ``safetensors.torch.save_file`` does.

    Args:
        tensors: by name.
        filename: the path; written as :func:`save` does it.
        metadata: texts by name.

    Raises:
        TypeError: something is no tensor, or has a dtype that the format lacks.
    """
    arrays = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"save_file: {name!r} must be a tensor, got {type(tensor).__name__}")
        if safetensors.code_of(tensor.dtype) is None:
            raise TypeError(f"save_file: {name!r} has dtype {tensor.dtype}, which the format lacks")
        if mode.recorder is not None:
            before_reading(tensor, "the content (save)")
        arrays[name] = tensor.detach().cpu().array
    _write(filename, safetensors.chunks(arrays, metadata or {}))


def load_file(filename: _Path, device: str | Device = "cpu") -> dict[str, Tensor]:
    """The named tensors of a safetensors file, as ``safetensors.torch.load_file`` does.

    Args:
        filename: the path.
        device: where the tensors go.

    Raises:
        RuntimeError: as :func:`load`.
    """
    arrays, _, label = _read(filename, False, "load_file")
    place = _placement(device, label)
    return {name: place(Tensor(array), "cpu") for name, array in arrays.items()}


# ------------------------------------------------------------------------------------------------------ files
def _write(f: _Path | BinaryIO, chunks: Iterable[bytes | memoryview]) -> None:
    if not isinstance(f, (str, os.PathLike)):
        for chunk in chunks:
            f.write(chunk)
        return
    path = os.path.realpath(f)  # a link goes on pointing to its file
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    """Have the new name on disk too, where folders can be opened for that."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read(f: _Path | BinaryIO, mmap: bool, caller: str) -> tuple[dict[str, np.ndarray], str | None, str]:
    """Arrays, structure if there is one, and what errors call the file."""
    if isinstance(f, (str, os.PathLike)):
        label = f"{caller}: '{os.fspath(f)}'"
        with open(f, "rb") as file:
            arrays, metadata = safetensors.read(file, label, mmap)
    else:
        label = f"{caller}: {getattr(f, 'name', None) or type(f).__name__}"
        arrays, metadata = safetensors.read(f, label, mmap)
    return arrays, metadata.get(_STRUCTURE), label


def _placement(map_location: Any, label: str) -> Callable[[Tensor, str], Tensor]:
    """What moves a loaded tensor to where it is wanted."""

    def place(tensor: Tensor, saved: str) -> Tensor:
        if callable(map_location):
            found = map_location(tensor, saved)
            if found is not None:
                return found
        elif isinstance(map_location, Mapping):
            saved = str(map_location.get(saved, saved))
        elif map_location is not None:
            saved = str(Device(map_location))
        if Device(saved) == CPU:
            return tensor
        try:
            return tensor.to(device=saved)
        except RuntimeError as error:
            raise RuntimeError(
                f"{label} has a tensor for {saved!r}: {error} (to load it elsewhere: map_location='cpu')"
            ) from None

    return place
