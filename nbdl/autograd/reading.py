"""What reads the elements of a tensor: Python numbers and lists, NumPy, and libraries that share memory."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.autograd.modes import mode
from nbdl.backend.device import device_of
from nbdl.backend.dlpack import exported

if TYPE_CHECKING:
    from nbdl.autograd.tensor import Tensor


class Readable:
    """The part of a tensor that hands out its elements."""

    __slots__ = ()  # the attributes are those of a tensor
    if TYPE_CHECKING:
        array: Any
        requires_grad: bool
        detach: Callable[[], Tensor]

    def item(self) -> Any:
        """The only element as a Python number.

        Raises:
            RuntimeError: there is not exactly one element.
        """
        return self._only(RuntimeError)

    def _only(self, error: type[Exception]) -> Any:
        if self.array.size != 1:
            raise error(f"item: a tensor with {self.array.size} elements cannot be converted to a scalar")
        before_reading(self, "the value (item(), float(), int())")
        return self.array.item()

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        before_reading(self, "the elements (tolist())")
        return self.array.tolist()

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """The memory as a NumPy array, without a copy.

        Args:
            force: allow for a copy: detach, and fetch from the GPU.

        Raises:
            RuntimeError: the tensor requires grad.
            TypeError: it lives on a GPU.
        """
        before_reading(self, "the memory (numpy())")
        if force:
            return self.detach().cpu().array
        if self.requires_grad and mode.grad:
            raise RuntimeError(
                "numpy: can't call numpy() on a tensor that requires grad; use tensor.detach().numpy()"
            )
        if not isinstance(self.array, np.ndarray):
            raise TypeError(
                f"numpy: can't convert a {device_of(self.array)} tensor to NumPy; copy it to the host with "
                ".cpu() first"
            )
        return self.array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"__array__: {array.dtype} cannot become {np.dtype(dtype)} without a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        if self.requires_grad:
            raise BufferError("__dlpack__: can't export a tensor that requires gradient; use tensor.detach()")
        before_reading(self, "the memory (__dlpack__)")
        given = {"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy}
        return exported(self.array, **{name: value for name, value in given.items() if value is not None})

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def record_stream(self, stream: Any) -> None:
        """Keep the memory, when no tensor uses it any more, until a stream is done with it.

        That is needed where the tensor was made in another stream, which would get the memory at once.

        Args:
            stream: the :class:`nbdl.cuda.Stream`.

        Raises:
            NotImplementedError: the tensor is on the CPU.
            TypeError: it is no stream.
            RuntimeError: it is one of another device.
        """
        from nbdl.backend.cupy.availability import require_device
        from nbdl.backend.cupy.lending import lend

        place = device_of(self.array)
        if place.type == "cpu":
            raise NotImplementedError("record_stream: a tensor on the CPU is used by no streams")
        if not hasattr(stream, "cuda_stream"):
            raise TypeError(f"record_stream: stream must be an nbdl.cuda.Stream, got {type(stream).__name__}")
        if stream.device != place:
            raise RuntimeError(
                f"record_stream: the tensor is on {place}, the stream works on {stream.device}; move the "
                "tensor with .to() first"
            )
        lend(require_device(place.index), self.array, stream._stream)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if isinstance(self.array, np.ndarray):
            raise AttributeError("__cuda_array_interface__: the tensor lives on the CPU")
        return self.array.__cuda_array_interface__

    def __contains__(self, element: Any) -> bool:
        """Whether an element equals a number, or one of a tensor that is compared by broadcasting.

        Raises:
            RuntimeError: it is neither.
        """
        if not isinstance(element, (Readable, Number)):
            raise RuntimeError(
                f"Tensor.__contains__: element must be a Tensor or number, got {type(element).__name__}"
            )
        equal: Any = element == self
        return bool(equal.any())

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise RuntimeError(
                f"Boolean value of a tensor with {self.array.size} values is ambiguous; use any() or all()"
            )
        before_reading(self, "the truth value")
        return bool(self.array.item())

    def __float__(self) -> float:
        return float(self._only(ValueError))

    def __int__(self) -> int:
        return int(self._only(ValueError))

    def __complex__(self) -> complex:
        return complex(self._only(ValueError))

    def __index__(self) -> int:
        if self.array.dtype.kind not in "iu" or self.array.size != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        before_reading(self, "a Python index")
        return int(self.array.item())


def before_reading(x: Any, what: str) -> None:
    """Reading values into Python cannot be recorded, nor be done for all examples of a batch."""
    if x.batch is not None:
        from nbdl.autograd.batching import refuse_read

        refuse_read(x, what)
    if mode.recorder is not None:
        mode.recorder.refuse(f"{what} of a tensor", "return the tensor and read it from the result")
    if not isinstance(x.array, np.ndarray):
        from nbdl.backend.cupy.waiting import announce

        announce(f"{what} of a tensor")
