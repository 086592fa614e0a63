"""Event files for TensorBoard, written without any other package.

An event is a protocol buffer message (event.proto and summary.proto of TensorBoard), framed as a TFRecord:
its length, the length's checksum, the message, the message's checksum.
"""

from __future__ import annotations

import functools
import itertools
import os
import socket
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor

_numbers = itertools.count()


class SummaryWriter:
    """Writes an event file into a folder; the names of methods are PyTorch's.

    Args:
        log_dir: the folder, which is made if it is missing.

    Example:
        >>> import tempfile
        >>> from nbdl.utils.tensorboard import SummaryWriter
        >>> with tempfile.TemporaryDirectory() as folder, SummaryWriter(folder) as writer:
        ...     writer.add_scalar("loss", 0.5, 1)
    """

    def __init__(self, log_dir: str | os.PathLike):
        self.log_dir = Path(log_dir)
        self.log_dir.mkdir(parents=True, exist_ok=True)
        origin = f"{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        name = f"events.out.tfevents.{int(time.time()):010d}.{origin}"
        self._file = open(self.log_dir / name, "xb")  # noqa: SIM115  (closed by close)
        self._write(_text(3, "brain.Event:2"))

    def add_scalar(self, tag: str, scalar_value: Any, global_step: int = 0) -> None:
        """A point of the curve ``tag``."""
        self._summarize(tag, _field(2, 5, struct.pack("<f", float(scalar_value))), global_step)

    def add_histogram(self, tag: str, values: Any, global_step: int = 0, bins: int = 30) -> None:
        """How values are distributed.

        Raises:
            ValueError: there are none, or some are not finite.
        """
        numbers = _array(values).astype(np.float64).ravel()
        if not numbers.size or not np.isfinite(numbers).all():
            raise ValueError(f"add_histogram: {tag!r} needs finite values, at least one")
        counts, edges = np.histogram(numbers, bins)
        figures = (numbers.min(), numbers.max(), numbers.size, numbers.sum(), (numbers**2).sum())
        message = b"".join(_field(k, 1, struct.pack("<d", value)) for k, value in enumerate(figures, 1))
        message += _bytes(6, edges[1:].astype("<f8").tobytes()) + _bytes(7, counts.astype("<f8").tobytes())
        self._summarize(tag, _bytes(5, message), global_step)

    def add_text(self, tag: str, text_string: str, global_step: int = 0) -> None:
        """A text, in Markdown."""
        shape = _bytes(2, _varint_field(1, 1))
        tensor = _varint_field(1, 7) + _bytes(2, shape) + _text(8, text_string)  # 7: a tensor of strings
        metadata = _bytes(1, _text(1, "text"))
        self._summarize(f"{tag}/text_summary", _bytes(8, tensor) + _bytes(9, metadata), global_step)

    def add_image(self, tag: str, img_tensor: Any, global_step: int = 0) -> None:
        """An image (1 or 3 channels, height, width): bytes, or floats from 0 to 1.

        Raises:
            ValueError: it has another shape.
        """
        image = _array(img_tensor)
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            raise ValueError(f"add_image: expected (1 or 3, height, width), got shape {list(image.shape)}")
        if image.dtype != np.uint8:
            image = np.rint(np.clip(image.astype(np.float64), 0, 1) * 255).astype(np.uint8)
        channels, height, width = image.shape
        message = _varint_field(1, height) + _varint_field(2, width) + _varint_field(3, channels)
        self._summarize(tag, _bytes(4, message + _bytes(4, _png(image))), global_step)

    def flush(self) -> None:
        """Have everything in the file."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _summarize(self, tag: str, value: bytes, step: int) -> None:
        self._write(_varint_field(2, step) + _bytes(5, _bytes(1, _text(1, tag) + value)))

    def _write(self, event: bytes) -> None:
        event = _field(1, 1, struct.pack("<d", time.time())) + event
        length = struct.pack("<Q", len(event))
        self._file.write(length + _masked_checksum(length) + event + _masked_checksum(event))


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


# ------------------------------------------------------------------------------------------- protocol buffers
def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; negative numbers as 64 bits."""
    value &= (1 << 64) - 1
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _field(number: int, kind: int, content: bytes) -> bytes:
    return _varint(number << 3 | kind) + content


def _varint_field(number: int, value: int) -> bytes:
    return _field(number, 0, _varint(int(value)))


def _bytes(number: int, content: bytes) -> bytes:
    return _field(number, 2, _varint(len(content)) + content)


def _text(number: int, text: str) -> bytes:
    return _bytes(number, text.encode())


# ------------------------------------------------------------------------------------------------- checksums
@functools.cache
def _crc_table() -> list[int]:
    """CRC-32C (Castagnoli), reflected polynomial 0x82F63B78."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


def _masked_checksum(content: bytes) -> bytes:
    """The checksum of a TFRecord: CRC-32C, rotated and shifted."""
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


# ------------------------------------------------------------------------------------------------------- PNG
def _png(image: np.ndarray) -> bytes:
    """Bytes (1 or 3, height, width) as a PNG file (ISO/IEC 15948), rows unfiltered."""
    channels, height, width = image.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    rows = np.zeros((height, 1 + width * channels), np.uint8)  # the first byte of a row: no filter
    rows[:, 1:] = image.transpose(1, 2, 0).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows.tobytes()))
        + chunk(b"IEND", b"")
    )
