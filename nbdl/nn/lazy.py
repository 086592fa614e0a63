"""Layers that learn the number of their inputs from the first batch."""

from __future__ import annotations

from typing import Any, ClassVar

from nbdl.autograd.tensor import Tensor
from nbdl.nn.batch_normalization import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
)
from nbdl.nn.convolution import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from nbdl.nn.linear import Linear
from nbdl.nn.module import Module
from nbdl.nn.parameter import Uninitialized, UninitializedBuffer, UninitializedParameter, is_lazy


class _Lazy(Module):
    """A layer that becomes another class when it is first called.

    Until then it is that layer with 0 inputs, and its parameters are placeholders: they stay the same
    objects, so that an optimizer may hold them already.
    """

    cls_to_become: ClassVar[type[Module]]
    _axis: ClassVar[int] = 1  # of a batched input, that is counted
    _rank: ClassVar[int | None] = None  # of a batched input; without batch it has one axis less

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(0, *args, **kwargs)  # type: ignore[call-arg]
        self._arguments = (args, kwargs)
        for name in self._parameter_names:
            value = self.__dict__[name]
            if value is not None:
                self.__dict__[name] = UninitializedParameter(device=value.device, dtype=value.dtype)
        for name in self._buffer_names:
            value = self.__dict__[name]
            if value is not None and value.ndim:
                self.__dict__[name] = UninitializedBuffer(device=value.device, dtype=value.dtype)

    def _own_tensors(self) -> dict[str, Tensor | None]:
        return {name: self.__dict__[name] for name in (*self._parameter_names, *self._buffer_names)}

    def has_uninitialized_params(self) -> bool:
        """Whether shapes are not known yet."""
        return any(is_lazy(value) for value in self._own_tensors().values())

    def initialize_parameters(self, input: Tensor) -> None:
        """Give all parameters and buffers shapes and values, from the first input."""
        axis = self._axis
        if self._rank is not None and input.ndim not in (self._rank, self._rank - 1):
            raise RuntimeError(
                f"{type(self).__name__}: Expected {self._rank - 1}D (unbatched) or {self._rank}D (batched) "
                f"input, but got input of size: {list(input.shape)}"
            )
        if self._rank is not None and input.ndim == self._rank - 1:
            axis -= 1
        args, kwargs = self._arguments
        ready: Module = self.cls_to_become(input.shape[axis], *args, **kwargs)  # type: ignore[call-arg]
        for name, value in self._own_tensors().items():
            given = ready.__dict__[name]
            if isinstance(value, Uninitialized):
                given = given.detach().to(value.device).to(dtype=value.dtype)
                value.materialize(given.shape)
                value.data = given
            elif value is not None and value.shape != given.shape:
                raise RuntimeError(
                    f"{type(self).__name__}: the first input has shape {list(input.shape)}, but {name!r}, "
                    f"which was loaded, has shape {list(value.shape)}"
                )
        own = {*self._own_tensors(), *self._module_names, "training", "_arguments"}
        self.__dict__.update(
            {name: value for name, value in ready.__dict__.items() if name in self.__dict__ and name not in
             own and not name.startswith("_")}
        )  # fmt: skip

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The first call: become the other class, then compute."""
        self.initialize_parameters(args[0] if args else next(iter(kwargs.values())))
        del self._arguments
        self.__class__ = self.cls_to_become  # type: ignore[assignment]
        return self(*args, **kwargs)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, value in self._own_tensors().items():
            if is_lazy(value):
                destination[prefix + name] = value

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, value in self._own_tensors().items():
            given = state_dict.get(prefix + name)
            if isinstance(value, Uninitialized) and given is not None and not is_lazy(given):
                value.materialize(given.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class LazyLinear(_Lazy, Linear):
    """:class:`Linear` whose ``in_features`` are those of the first input.

    Example:
        >>> import nbdl
        >>> layer = nbdl.nn.LazyLinear(3)
        >>> layer.weight
        <UninitializedParameter>
        >>> layer(nbdl.zeros(5, 7)).shape
        nbdl.Size([5, 3])
        >>> layer
        Linear(in_features=7, out_features=3, bias=True)
    """

    cls_to_become = Linear
    _axis = -1


class LazyConv1d(_Lazy, Conv1d):
    """:class:`Conv1d` whose ``in_channels`` are those of the first input."""

    cls_to_become, _rank = Conv1d, 3


class LazyConv2d(_Lazy, Conv2d):
    """:class:`Conv2d` whose ``in_channels`` are those of the first input."""

    cls_to_become, _rank = Conv2d, 4


class LazyConv3d(_Lazy, Conv3d):
    """:class:`Conv3d` whose ``in_channels`` are those of the first input."""

    cls_to_become, _rank = Conv3d, 5


class LazyConvTranspose1d(_Lazy, ConvTranspose1d):
    """:class:`ConvTranspose1d` whose ``in_channels`` are those of the first input."""

    cls_to_become, _rank = ConvTranspose1d, 3


class LazyConvTranspose2d(_Lazy, ConvTranspose2d):
    """:class:`ConvTranspose2d` whose ``in_channels`` are those of the first input."""

    cls_to_become, _rank = ConvTranspose2d, 4


class LazyConvTranspose3d(_Lazy, ConvTranspose3d):
    """:class:`ConvTranspose3d` whose ``in_channels`` are those of the first input."""

    cls_to_become, _rank = ConvTranspose3d, 5


class LazyBatchNorm1d(_Lazy, BatchNorm1d):
    """:class:`BatchNorm1d` whose ``num_features`` are those of the first input."""

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_Lazy, BatchNorm2d):
    """:class:`BatchNorm2d` whose ``num_features`` are those of the first input."""

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_Lazy, BatchNorm3d):
    """:class:`BatchNorm3d` whose ``num_features`` are those of the first input."""

    cls_to_become = BatchNorm3d


class _LazyInstanceNorm(_Lazy):
    """With other defaults than the layers themselves, as in PyTorch."""

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        **options: Any,
    ):
        super().__init__(eps, momentum, affine, track_running_stats, **options)


class LazyInstanceNorm1d(_LazyInstanceNorm, InstanceNorm1d):
    """:class:`InstanceNorm1d` whose ``num_features`` are those of the first input; affine and tracking."""

    cls_to_become, _rank = InstanceNorm1d, 3


class LazyInstanceNorm2d(_LazyInstanceNorm, InstanceNorm2d):
    """:class:`InstanceNorm2d` whose ``num_features`` are those of the first input; affine and tracking."""

    cls_to_become, _rank = InstanceNorm2d, 4


class LazyInstanceNorm3d(_LazyInstanceNorm, InstanceNorm3d):
    """:class:`InstanceNorm3d` whose ``num_features`` are those of the first input; affine and tracking."""

    cls_to_become, _rank = InstanceNorm3d, 5
