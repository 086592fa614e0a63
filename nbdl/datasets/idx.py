"""IDX, the format of MNIST: a magic number, the sizes of the axes, and the elements."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.ops.creation import from_numpy

_Path = str | os.PathLike

# The third byte of the magic number; elements are big-endian.
_DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(np.uint8), 0x09: np.dtype(np.int8), 0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"), 0x0D: np.dtype(">f4"), 0x0E: np.dtype(">f8"),
}  # fmt: skip


def read_bytes(path: _Path) -> bytes:
    """The content of a file, unpacked if it is gzip's.

    Raises:
        RuntimeError: the packed file is truncated or corrupt.
    """
    with open(path, "rb") as file:
        content = file.read()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise RuntimeError(f"'{os.fspath(path)}' is truncated or corrupt: {error}") from None


def read_idx(path: _Path) -> Tensor:
    """The tensor in an IDX file, packed by gzip or not.

    Source: http://yann.lecun.com/exdb/mnist, "The IDX file format".

    Args:
        path: of the file.

    Raises:
        RuntimeError: the file is truncated, too long, or no IDX file.
    """
    name, content = os.fspath(path), read_bytes(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _DTYPES:
        raise RuntimeError(
            f"read_idx: '{name}' is no IDX file: it begins with {content[:4].hex() or 'nothing'}"
        )
    dtype, ndim = _DTYPES[content[2]], content[3]
    start = 4 + 4 * ndim
    if len(content) < start:
        raise RuntimeError(f"read_idx: '{name}' is truncated: {len(content)} bytes, the header has {start}")
    shape = struct.unpack(f">{ndim}I", content[4:start])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        state = "truncated" if len(content) < expected else "corrupt"
        raise RuntimeError(
            f"read_idx: '{name}' is {state}: {len(content)} bytes, shape {shape} takes {expected}"
        )
    array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return from_numpy(array.astype(dtype.newbyteorder("=")))
