"""The safetensors format: named arrays in a file that holds data and nothing to run.

A file is the length of the header (8 bytes, little endian), the header (JSON: for each name dtype, shape and
the range of bytes; texts of one's own under ``__metadata__``), and the bytes of all arrays without gaps.

Source: https://huggingface.co/docs/safetensors, "Format".
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from nbdl.formula.dtypes import bfloat16, is_bfloat16

METADATA = "__metadata__"
CHECKSUM = "crc32"  # over the header without this entry, then the data; files of other writers have none
MAX_HEADER = 100_000_000

_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # zipped, or plain

_DTYPES = {
    "BOOL": np.dtype(np.bool_), "U8": np.dtype(np.uint8), "I8": np.dtype(np.int8),
    "U16": np.dtype("<u2"), "I16": np.dtype("<i2"), "F16": np.dtype("<f2"),
    "U32": np.dtype("<u4"), "I32": np.dtype("<i4"), "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"), "I64": np.dtype("<i8"), "F64": np.dtype("<f8"), "C64": np.dtype("<c8"),
}  # fmt: skip
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


class FormatError(RuntimeError):
    """A file is not what the format says: truncated, corrupt, or something else."""


class Entry(NamedTuple):
    """Where an array is in a file, counted from the first byte after the header."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


class Header(NamedTuple):
    """What a file says of itself: its arrays by name, texts, and where the data begin."""

    entries: dict[str, Entry]
    metadata: dict[str, str]
    data_start: int


def code_of(dtype: np.dtype) -> str | None:
    """What the format calls a dtype; None if it has no name for it."""
    return "BF16" if is_bfloat16(dtype) else _CODES.get(dtype)


# ---------------------------------------------------------------------------------------------------- writing
def chunks(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """The content of a file, piece by piece.

    Args:
        arrays: by name; of dtypes that the format knows.
        metadata: texts by name.
    """
    # Wide elements first, so that every array is aligned; sorted() keeps the order of equals.
    names = sorted(arrays, key=lambda name: -arrays[name].itemsize)
    header: dict[str, Any] = {METADATA: dict(metadata)}
    position = 0
    for name in names:
        array = arrays[name]
        stop = position + array.nbytes
        code = code_of(array.dtype)
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [position, stop]}
        position = stop
    checksum = _checksum(header)
    for name in names:
        checksum = zlib.crc32(_bytes_of(arrays[name]), checksum)
    header[METADATA][CHECKSUM] = f"{checksum:08x}"
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    yield _LENGTH.pack(len(text)) + text
    for name in names:
        yield _bytes_of(arrays[name])


def _bytes_of(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _checksum(header: Mapping[str, Any]) -> int:
    """Of a header; where its texts stand, and what it is padded with, does not matter."""
    return zlib.crc32(json.dumps(header, separators=(",", ":"), sort_keys=True).encode())


# ---------------------------------------------------------------------------------------------------- reading
def read(file: BinaryIO, label: str, mmap: bool = False) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the texts of a file.

    Args:
        file: at its beginning.
        label: what errors call it.
        mmap: map the file into memory, private and copied on write, instead of reading it; needs a real file.

    Raises:
        FormatError: it is truncated, corrupt, or no file of this format.
    """
    size = file.seek(0, 2)
    file.seek(0)
    header, checksum = _read_header(file, size, label)
    if mmap:
        return _mapped(file, header, size), header.metadata
    arrays: dict[str, np.ndarray] = {}
    for name, entry in sorted(header.entries.items(), key=lambda item: item[1].start):
        arrays[name] = array = np.empty(entry.shape, entry.dtype)
        content = _bytes_of(array)
        if file.readinto(content) != len(content):  # type: ignore[attr-defined]
            raise FormatError(f"{label} is truncated: the data of {name!r} are incomplete")
        checksum = zlib.crc32(content, checksum)
    expected = header.metadata.pop(CHECKSUM, None)
    if expected is not None and expected != f"{checksum:08x}":
        raise FormatError(f"{label} is corrupt: its checksum is {checksum:08x}, it should be {expected}")
    return {name: arrays[name] for name in header.entries}, header.metadata


def _mapped(file: BinaryIO, header: Header, size: int) -> dict[str, np.ndarray]:
    """The arrays as windows on the file."""
    length = size - header.data_start
    data = np.memmap(file, np.uint8, "c", header.data_start, (length,)) if length else np.empty(0, np.uint8)
    return {
        name: np.asarray(data[entry.start : entry.stop]).view(entry.dtype).reshape(entry.shape)
        for name, entry in header.entries.items()
    }


def _read_header(file: BinaryIO, size: int, label: str) -> tuple[Header, int]:
    """The header, and the checksum up to here."""
    prefix = file.read(_LENGTH.size)
    if len(prefix) < _LENGTH.size:
        raise FormatError(f"{label} is truncated: it has {size} bytes, not even the length of the header")
    (length,) = _LENGTH.unpack(prefix)
    text = file.read(length) if length <= MAX_HEADER else b""
    if prefix.startswith(_PICKLES) and not text.startswith(b"{"):  # those bytes may be a length as well
        raise FormatError(
            f"{label} is a pickle, as torch.save writes it, and could run code when loaded; save it with "
            "safetensors.torch.save_file"
        )
    if length > MAX_HEADER:
        raise FormatError(f"{label} is no safetensors file: its header would have {length} bytes")
    if len(text) < length:
        raise FormatError(
            f"{label} is truncated: its header should have {length} bytes, there are {len(text)}"
        )
    content = _parse(text, label)
    metadata = content.get(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError(f"{label} is corrupt: {METADATA} is not a mapping of texts")
    entries = {name: _entry(name, value, label) for name, value in content.items() if name != METADATA}
    data_start = _LENGTH.size + length
    _check_ranges(entries, size - data_start, label)
    covered = {name: value for name, value in metadata.items() if name != CHECKSUM}
    return Header(entries, metadata, data_start), _checksum({**content, METADATA: covered})


def _parse(text: bytes, label: str) -> dict[str, Any]:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name occurs twice")
        return found

    try:
        content = json.loads(text.decode(), object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{label} is corrupt or no safetensors file: its header: {error}") from None
    if not isinstance(content, dict):
        raise FormatError(f"{label} is corrupt: its header is no JSON object")
    return content


def _entry(name: str, value: Any, label: str) -> Entry:
    try:
        code, shape, (start, stop) = value["dtype"], value["shape"], value["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise FormatError(f"{label} is corrupt: {name!r} lacks dtype, shape or data_offsets") from None
    numbers = [*shape, start, stop] if isinstance(shape, list) else [None]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise FormatError(f"{label} is corrupt: shape or data_offsets of {name!r} are no whole numbers")
    dtype = bfloat16() if code == "BF16" else _DTYPES.get(code) if isinstance(code, str) else None
    if dtype is None:
        raise FormatError(
            f"{label}: the dtype of {name!r} is {code!r}; known are {', '.join([*_DTYPES, 'BF16'])}"
        )
    if math.prod(n or 1 for n in shape) * dtype.itemsize >= 1 << 63:  # too large even where it is empty
        raise FormatError(f"{label} is corrupt: the shape of {name!r} is {shape}")
    if stop - start != math.prod(shape) * dtype.itemsize:
        raise FormatError(
            f"{label} is corrupt: {name!r} of shape {shape} and dtype {code} has {stop - start} bytes"
        )
    return Entry(dtype, tuple(shape), start, stop)


def _check_ranges(entries: Mapping[str, Entry], size: int, label: str) -> None:
    """The arrays must lie one after the other and fill the file."""
    position = 0
    for start, stop, name in sorted((entry.start, entry.stop, name) for name, entry in entries.items()):
        if start != position:
            raise FormatError(f"{label} is corrupt: {name!r} begins at byte {start}, expected {position}")
        position = stop
    if position > size:
        raise FormatError(f"{label} is truncated: its arrays take {position} bytes, there are {size}")
    if position < size:
        raise FormatError(f"{label} is corrupt: {size - position} bytes belong to no array")
