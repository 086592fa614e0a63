"""Numbers of the host in the memory of the device, so that kernels in a CUDA graph find those of now."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.backend.cupy.launch import Kernels, Launch

# Numbers that one launch takes along; the parameters of a kernel may take 4096 bytes.
_AT_ONCE = 64


class Numbers:
    """Places on the device for numbers, eight bytes each.

    They travel as arguments of a kernel, which the driver copies when the launch is issued: nothing waits,
    and the host may change them at once.

    Args:
        kernels: compiles.
        xp: the module ``cupy``.
        count: how many there are.

    Attributes:
        host: the numbers, as int64.
    """

    def __init__(self, kernels: Kernels, xp: Any, count: int):
        self.host = np.zeros(count, np.int64)
        self._device = xp.empty(count, np.int64)
        self._sent: bytes | None = None
        self._launches = []
        for start in range(0, count, _AT_ONCE):
            size = min(_AT_ONCE, count - start)
            kernel = kernels.get("nbdl_numbers", source_of(size), ())
            self._launches.append((Launch(kernel, (1,), (1,), ()), start, start + size))

    def place(self, k: int, dtype: np.dtype) -> Any:
        """Where number ``k`` is on the device: a 0-d array."""
        return self._device[k : k + 1].view(dtype)[:1].reshape(())

    def put(self, k: int, value: np.ndarray) -> None:
        """Note a 0-d array as number ``k``."""
        self.host[k : k + 1].view(value.dtype)[:1] = value

    def send(self) -> None:
        """Bring the numbers to the device, in the order of the current stream."""
        now = self.host.tobytes()
        if now == self._sent:
            return
        for launch, start, stop in self._launches:
            launch(self._device[start:stop], *self.host[start:stop])
        self._sent = now


def source_of(count: int) -> str:
    """The kernel that writes so many numbers."""
    names = [f"v{k}" for k in range(count)]
    parameters = ", ".join(f"long long {name}" for name in names)
    lines = "\n".join(f"    y[{k}] = {name};" for k, name in enumerate(names))
    return f'extern "C" __global__ void nbdl_numbers(long long* y, {parameters}) {{\n{lines}\n}}\n'
