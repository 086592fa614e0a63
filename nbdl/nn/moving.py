"""Where the parameters of a module are, and of which dtype."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from nbdl.autograd.rebinding import rebindings
from nbdl.autograd.tensor import Tensor
from nbdl.formula.dtypes import is_floating
from nbdl.nn.parameter import Buffer, Parameter
from nbdl.ops.copying import as_dtype, target_of

if TYPE_CHECKING:
    from nbdl.nn.module import Module

Self = TypeVar("Self", bound="Movable")


class Movable:
    """The part of a module that moves its parameters and buffers to other devices and dtypes."""

    modules: Callable[[], Iterator[Module]]

    def _apply(self: Self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Replace the memory of all parameters, their gradients and buffers by ``function`` of it.

        Parameters stay the same objects, so an optimizer that holds them goes on working.
        """
        rebindings.count += 1
        for module in itertools.islice(self.modules(), None if recurse else 1):  # itself first
            for name in module._parameter_names:
                parameter = module.__dict__[name]
                if parameter is not None:
                    _convert_parameter(parameter, function)
            for name in module._buffer_names:
                buffer = module.__dict__[name]
                if buffer is not None:
                    module.__dict__[name] = _converted_buffer(buffer, function)
        return self

    def to(
        self: Self,
        *args: Any,
        dtype: Any = None,
        device: Any = None,
        non_blocking: bool = False,
        memory_format: Any = None,
    ) -> Self:
        """Move to a device, to a floating dtype, or both, in place; integers keep their dtype.

        Args:
            args: a dtype, a device, a tensor whose dtype and device are taken, or a device and a dtype.
            dtype: the dtype.
            device: the device.
            non_blocking: accepted; transfers are ordered by the stream.
            memory_format: accepted; kernels order filters as they need them.

        Raises:
            TypeError: the dtype is not a floating one.
            RuntimeError: there is no such device.
        """
        wanted, place = target_of(args, dtype, device)
        if wanted is not None and not is_floating(wanted):
            raise TypeError(
                f"nn.Module.to only accepts floating point dtypes, but got desired dtype={wanted}"
            )
        return self._apply(lambda x: x.to(dtype=wanted if x.is_floating_point() else None, device=place))

    def type(self: Self, dst_type: Any) -> Self:
        """Cast all parameters and buffers, integers too."""
        dtype = as_dtype(dst_type)
        return self._apply(lambda x: x.to(dtype=dtype))

    def cpu(self: Self) -> Self:
        """Move to the memory of the host."""
        return self.to(device="cpu")

    def cuda(self: Self, device: int | str | None = None) -> Self:
        """Move to a GPU.

        Raises:
            RuntimeError: there is no such device.
        """
        return self.to(device=f"cuda:{device}" if isinstance(device, int) else device or "cuda")

    def float(self: Self) -> Self:
        """Cast floating parameters and buffers to float32."""
        return self.to(dtype="float32")

    def to_empty(self: Self, *, device: Any, recurse: bool = True) -> Self:
        """Replace the memory of all parameters and buffers by uninitialised memory on a device.

        Args:
            device: where the new memory is.
            recurse: in submodules too.
        """
        return self._apply(lambda tensor: tensor.empty_like(device=device), recurse)

    def share_memory(self: Self) -> Self:
        """The module itself: data loaders put into shared memory what they pass on."""
        return self

    def double(self: Self) -> Self:
        """Cast floating parameters and buffers to float64."""
        return self.to(dtype="float64")

    def half(self: Self) -> Self:
        """Cast floating parameters and buffers to float16."""
        return self.to(dtype="float16")

    def bfloat16(self: Self) -> Self:
        """Cast floating parameters and buffers to bfloat16."""
        return self.to(dtype="bfloat16")


def _converted_buffer(buffer: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A new tensor; it stays a :class:`Buffer`, or what else it was."""
    converted = function(buffer)
    if not isinstance(buffer, Buffer) or converted is buffer:
        return converted
    kept = type(buffer).__new__(type(buffer))
    Buffer.__init__(kept, converted, persistent=buffer.persistent)
    return kept


def _convert_parameter(parameter: Parameter, function: Callable[[Tensor], Tensor]) -> None:
    converted = function(parameter.detach())
    if converted.array is not parameter.array:
        parameter.data = converted
        parameter.mark_changed()  # graphs that saved it hold the old memory no longer
    if parameter.grad is not None:
        parameter.grad = function(parameter.grad.detach())
