"""Settings that programs make when they begin, under PyTorch's names; some have no meaning here."""

from __future__ import annotations

import warnings
from typing import Any

from nbdl.autograd.modes import mode
from nbdl.autograd.tensor import Tensor
from nbdl.backend.cupy import libraries
from nbdl.backend.device import get_default_device, set_default_device
from nbdl.formula.dtypes import set_default_dtype

__all__ = [
    "are_deterministic_algorithms_enabled", "get_default_device", "get_deterministic_debug_mode",
    "get_device", "get_device_module", "get_float32_matmul_precision", "get_num_interop_threads",
    "is_anomaly_check_nan_enabled", "is_anomaly_enabled", "is_deterministic_algorithms_warn_only_enabled",
    "is_warn_always_enabled", "set_default_device", "set_default_tensor_type",
    "set_deterministic_debug_mode", "set_float32_matmul_precision", "set_flush_denormal",
    "set_num_interop_threads", "set_warn_always", "use_deterministic_algorithms",
]  # fmt: skip

_PRECISIONS = ("highest", "high", "medium")
_DEBUG_MODES = ("default", "warn", "error")
_TENSOR_TYPES = {"FloatTensor": "float32", "DoubleTensor": "float64", "HalfTensor": "float16"}


class _State:
    """What was set."""

    precision = "highest"
    debug_mode = 0
    warn_always = False


def get_device(input: Tensor) -> int:
    """The number of the GPU on which a tensor lives, -1 on the CPU."""
    return input.get_device()


def get_device_module(device: Any = None) -> Any:
    """:mod:`nbdl.cuda` of a GPU.

    Raises:
        RuntimeError: the CPU has none.
    """
    from nbdl import cuda
    from nbdl.backend.device import current_device

    if current_device(device).type != "cuda":
        raise RuntimeError("get_device_module: there is no module for the device 'cpu', only nbdl.cuda")
    return cuda


def set_default_tensor_type(t: Any) -> None:
    """Set the default dtype by the name of a tensor type.

    Raises:
        TypeError: it is no type of floating CPU tensors.
    """
    name = str(t).rpartition(".")[2]
    if name not in _TENSOR_TYPES:
        raise TypeError(
            f"set_default_tensor_type: only floating-point types are supported, got {t!r}; "
            f"expected one of {', '.join(f'torch.{known}' for known in _TENSOR_TYPES)}"
        )
    set_default_dtype(_TENSOR_TYPES[name])


def set_float32_matmul_precision(precision: str) -> None:
    """Say whether products of float32 on a GPU may be computed in TF32: unless it is ``highest``, they may.

    On the CPU float32 is float32. Programs that were compiled before stay as they are.

    Raises:
        RuntimeError: not ``highest``, ``high`` or ``medium``.
    """
    if precision not in _PRECISIONS:
        raise RuntimeError(
            f"set_float32_matmul_precision: {precision!r} is not one of {', '.join(_PRECISIONS)}"
        )
    _State.precision = precision
    libraries.state.tf32 = precision != "highest"


def get_float32_matmul_precision() -> str:
    """What :func:`set_float32_matmul_precision` was given; ``highest`` at first."""
    return _State.precision


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Make cuDNN add up the gradients of attention in the same order each time, which takes longer.

    All else gives the same numbers each time anyway, for a number of threads, but for atomic additions on a
    GPU (:doc:`numerics </numerics>`).
    """
    set_deterministic_debug_mode((1 if warn_only else 2) if mode else 0)


def are_deterministic_algorithms_enabled() -> bool:
    """What :func:`use_deterministic_algorithms` was given."""
    return _State.debug_mode > 0


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether it was given ``warn_only``."""
    return _State.debug_mode == 1


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """:func:`use_deterministic_algorithms` by number or name: ``default`` (0), ``warn`` (1), ``error`` (2).

    Raises:
        RuntimeError: another one.
    """
    if debug_mode not in (*_DEBUG_MODES, 0, 1, 2):
        raise RuntimeError(
            f"set_deterministic_debug_mode: expected one of {', '.join(_DEBUG_MODES)} or 0, 1, 2, "
            f"got {debug_mode!r}"
        )
    _State.debug_mode = _DEBUG_MODES.index(debug_mode) if isinstance(debug_mode, str) else int(debug_mode)
    libraries.state.is_deterministic = _State.debug_mode > 0


def get_deterministic_debug_mode() -> int:
    """The mode as a number."""
    return _State.debug_mode


def set_flush_denormal(mode: bool) -> bool:
    """False: the processor keeps numbers below the smallest normal one."""
    return False


def get_num_interop_threads() -> int:
    """1: operations run one after the other."""
    return 1


def set_num_interop_threads(num: int) -> None:
    """Does nothing: operations run one after the other.

    Raises:
        RuntimeError: the number is not positive.
    """
    if num <= 0:
        raise RuntimeError(f"set_num_interop_threads: expects a positive integer, got {num}")


def set_warn_always(b: bool, /) -> None:
    """Show warnings each time, and not only once a line."""
    _State.warn_always = bool(b)
    if b:
        warnings.simplefilter("always", append=True)


def is_warn_always_enabled() -> bool:
    """What :func:`set_warn_always` was given."""
    return _State.warn_always


def is_anomaly_enabled() -> bool:
    """Whether :class:`nbdl.autograd.detect_anomaly` is in force."""
    return mode.anomaly


def is_anomaly_check_nan_enabled() -> bool:
    """Whether it looks for NaN and infinities."""
    return mode.check_nan
