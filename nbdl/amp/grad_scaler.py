"""Loss scaling: gradients that would vanish in float16 are computed of a larger loss."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nbdl.autograd.modes import enable_grad, mode, no_grad
from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula, dtypes
from nbdl.formula import functions as f
from nbdl.ops.creation import full
from nbdl.ops.joining import stack
from nbdl.ops.reduction import Reduce
from nbdl.optim.optimizer import Optimizer, update
from nbdl.optim.skipping import skipped_if

_NOT_FINITE = Formula("not_finite", lambda x: f.logical_not(f.isfinite(x)), 1)


def _next_scale(scale: Any, found: Any, good: Any, growth: Any, backoff: Any, interval: Any) -> tuple:
    """The scale and the number of good steps since it grew, after a step that found overflow or not."""
    grows = good + 1 >= interval
    grown = f.where(f.isfinite(scale * growth), scale * growth, scale)
    after_good_step = f.where(grows, grown, scale)
    return (
        f.where(found, scale * backoff, after_good_step),
        f.where(found, 0, f.where(grows, 0, good + 1)),
    )


_NEXT_SCALE = Formula("next_scale", _next_scale, 6)


class _Stage:
    """How far an optimizer has come since the last :meth:`GradScaler.update`."""

    READY, UNSCALED, STEPPED = "ready", "unscaled", "stepped"

    def __init__(self) -> None:
        self.stage = self.READY
        self.found: list[Tensor] = []  # 0-d bools: overflow in a gradient


class GradScaler:
    """Scales losses so that float16 gradients keep their small values.

    Micikevicius et al., Mixed precision training (2018), section 3.2.

    A step whose gradients overflowed is skipped, and the scale is reduced; after ``growth_interval`` good
    steps in a row it grows. Scale and count stay on the device: one number a step is read, whether to step.
    :func:`nbdl.compile` may record ``step`` and ``update``, too: nothing is read then, and each formula of
    the optimizer chooses between new and old values on the device, which optimizers with ``can_skip`` allow:
    SGD, Adam and all others that update each element on its own.

    Args:
        device: where the scale is: ``cuda`` or ``cpu``.
        init_scale: the first scale.
        growth_factor: what it is multiplied by after good steps; more than 1.
        backoff_factor: what it is multiplied by after an overflow; less than 1.
        growth_interval: number of good steps before it grows.
        enabled: False makes all methods do nothing but step.

    Raises:
        AssertionError: a factor is out of range.

    Example:
        >>> import nbdl
        >>> w = nbdl.ones(3, requires_grad=True)
        >>> optimizer, scaler = nbdl.optim.SGD([w], lr=0.5), nbdl.amp.GradScaler("cpu", init_scale=8.0)
        >>> scaler.scale(w.sum()).backward()
        >>> w.grad
        tensor([8., 8., 8.])
        >>> scaler.step(optimizer)
        >>> scaler.update()
        >>> w
        tensor([0.5000, 0.5000, 0.5000], requires_grad=True)
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ):
        if enabled and not growth_factor > 1.0:
            raise AssertionError(f"GradScaler: The growth factor must be > 1.0, got {growth_factor}")
        if enabled and not backoff_factor < 1.0:
            raise AssertionError(f"GradScaler: The backoff factor must be < 1.0, got {backoff_factor}")
        self._device, self._enabled = device, bool(enabled)
        self._init_scale, self._init_growth_tracker = float(init_scale), 0
        # Arrays, so that a compiled step reads what is in them at each call.
        self._growth_factor, self._backoff_factor, self._growth_interval = (
            np.array(number, np.float64) for number in (growth_factor, backoff_factor, growth_interval)
        )
        self._scale: Tensor | None = None  # made at first use, when the device is needed
        self._good_steps: Tensor | None = None
        self._stages: dict[int, _Stage] = {}

    # ---------------------------------------------------------------------------------------- a training step
    def scale(self, outputs: Any) -> Any:
        """``outputs`` times the scale: a tensor, or a nest of lists and tuples of tensors.

        Raises:
            ValueError: there is something else among them.
        """
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            scale, _ = self._state()
            if scale.device.type != outputs.device.type:
                scale = scale.to(outputs.device)
            return outputs * scale
        if isinstance(outputs, (list, tuple)):
            return type(outputs)([self.scale(entry) for entry in outputs])
        raise ValueError(
            "GradScaler.scale: outputs must be a Tensor or an iterable of Tensors, "
            f"got {type(outputs).__name__}"
        )

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients of an optimizer's parameters by the scale, to clip or look at them.

        Raises:
            RuntimeError: it was done since the last update, or the step was taken.
            ValueError: a gradient is float16: parameters must be kept in float32.
        """
        if not self._enabled:
            return
        entry = self._stages.setdefault(id(optimizer), _Stage())
        if entry.stage == _Stage.UNSCALED:
            raise RuntimeError(
                "GradScaler.unscale_: unscale_() has already been called on this optimizer since the last "
                "update()."
            )
        if entry.stage == _Stage.STEPPED:
            raise RuntimeError("GradScaler.unscale_: unscale_() is being called after step().")
        entry.found += self._unscaled(optimizer)
        entry.stage = _Stage.UNSCALED

    def step(self, optimizer: Optimizer, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """``optimizer.step()``, unless a gradient overflowed.

        Args:
            optimizer: whose gradients are unscaled first if they were not.
            closure: computes ``scaler.scale(loss).backward()`` and returns the loss itself; its gradients are
                unscaled after each call. Where one of them overflows, parameters and state become what they
                were.
            kwargs: of the optimizer's step.

        Returns:
            What the optimizer's step returned; None if it was skipped.

        Raises:
            RuntimeError: the step was taken since the last update.
            AssertionError: no parameter has a gradient.
        """
        if not self._enabled:
            return optimizer.step(closure, **kwargs) if closure is not None else optimizer.step(**kwargs)
        entry = self._stages.setdefault(id(optimizer), _Stage())
        if entry.stage == _Stage.STEPPED:
            raise RuntimeError("GradScaler.step: step() has already been called since the last update().")
        if closure is not None:
            result = self._step_with_closure(optimizer, closure, entry, kwargs)
        else:
            if entry.stage == _Stage.READY:
                self.unscale_(optimizer)
            if not entry.found:
                raise AssertionError("GradScaler.step: No inf checks were recorded for this optimizer.")
            if mode.recorder is not None and optimizer.can_skip:
                result = _step_or_skip(optimizer, _merged(entry.found), kwargs)
            else:
                result = None if _any(entry.found) else optimizer.step(**kwargs)
        entry.stage = _Stage.STEPPED
        return result

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Adapt the scale to what the steps since the last update found; nothing is read from the device.

        Args:
            new_scale: take this instead.

        Raises:
            AssertionError: nothing was scaled or unscaled, or the new scale is no single number.
        """
        if not self._enabled:
            return
        if self._scale is None or self._good_steps is None:
            raise AssertionError(
                "GradScaler.update: Attempted update but the scale is None: scale() was not called."
            )
        with no_grad():
            if new_scale is not None:
                if isinstance(new_scale, Tensor) and (new_scale.numel() != 1 or new_scale.requires_grad):
                    raise AssertionError(
                        "GradScaler.update: new_scale should be a float or a 1-element tensor that requires "
                        f"no gradient, got one of shape {tuple(new_scale.shape)}"
                    )
                self._scale.copy_(full((), new_scale) if not isinstance(new_scale, Tensor) else new_scale)
            else:
                found = [flag for entry in self._stages.values() for flag in entry.found]
                if not found:
                    raise AssertionError("GradScaler.update: No inf checks were recorded prior to update.")
                update(
                    _NEXT_SCALE,
                    [self._scale],
                    [_merged(found).to(self._scale.device)],
                    [[self._good_steps]],
                    [self._growth_factor, self._backoff_factor, self._growth_interval],
                )
        self._stages.clear()

    def _step_with_closure(
        self, optimizer: Optimizer, closure: Callable[[], Any], entry: _Stage, kwargs: dict[str, Any]
    ) -> Any:
        """A step whose closure is called as often as the optimizer likes."""
        before: tuple[list[tuple[Tensor, Tensor]], dict[str, Any]] | None = None

        def evaluate() -> Any:
            with enable_grad():
                loss = closure()
            entry.found += self._unscaled(optimizer)
            return loss

        if entry.stage == _Stage.READY:
            first = [evaluate()]
        else:
            raise RuntimeError(
                "GradScaler.step: a step with a closure unscales by itself; do not call unscale_() before"
            )
        if _any(entry.found):
            return None
        tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
        with no_grad():
            before = [(tensor, tensor.clone()) for tensor in tensors], copy.deepcopy(optimizer.state_dict())
        # The first value and its gradients are there already: the optimizer asks at the same parameters.
        result = optimizer.step(lambda: first.pop() if first else evaluate(), **kwargs)
        if _any(entry.found):
            with no_grad():
                for tensor, value in before[0]:
                    tensor.copy_(value)
            optimizer.load_state_dict(before[1])
            return None
        return result

    def _unscaled(self, optimizer: Optimizer) -> list[Tensor]:
        """Unscale all gradients in place, and tell of each whether something in it is not finite."""
        scale, _ = self._state()
        found = []
        with no_grad():
            inverse = 1.0 / scale.double()
            for group in optimizer.param_groups:
                for tensor in group["params"]:
                    gradient = tensor.grad
                    if gradient is None:
                        continue
                    if gradient.array.dtype == dtypes.FLOAT16:
                        raise ValueError("GradScaler.unscale_: Attempting to unscale FP16 gradients.")
                    axes = tuple(range(gradient.array.ndim))
                    found.append(apply(Reduce.of(_NOT_FINITE, "any", axes), gradient))
                    here = (
                        inverse
                        if gradient.device.type == inverse.device.type
                        else inverse.to(gradient.device)
                    )
                    gradient.mul_(here)
        return found

    def _state(self) -> tuple[Tensor, Tensor]:
        """The scale and the number of good steps since it grew, 0-d float32 tensors on the device."""
        if self._scale is None or self._good_steps is None:
            self._scale = full((), self._init_scale, dtype=dtypes.FLOAT32, device=self._device)
            self._good_steps = full(
                (), float(self._init_growth_tracker), dtype=dtypes.FLOAT32, device=self._device
            )
        return self._scale, self._good_steps

    # ----------------------------------------------------------------------------------------------- settings
    def is_enabled(self) -> bool:
        """Whether losses are scaled."""
        return self._enabled

    def get_scale(self) -> float:
        """The scale, 1 if disabled; waits for the device."""
        if not self._enabled:
            return 1.0
        return self._init_scale if self._scale is None else float(self._scale.item())

    def get_growth_factor(self) -> float:
        """What the scale is multiplied by after good steps."""
        return float(self._growth_factor)

    def set_growth_factor(self, new_factor: float) -> None:
        """Replace the growth factor."""
        self._growth_factor[...] = new_factor

    def get_backoff_factor(self) -> float:
        """What the scale is multiplied by after an overflow."""
        return float(self._backoff_factor)

    def set_backoff_factor(self, new_factor: float) -> None:
        """Replace the backoff factor."""
        self._backoff_factor[...] = new_factor

    def get_growth_interval(self) -> int:
        """Number of good steps before the scale grows."""
        return int(self._growth_interval)

    def set_growth_interval(self, new_interval: int) -> None:
        """Replace the number of good steps."""
        self._growth_interval[...] = new_interval

    # -------------------------------------------------------------------------------------------------- state
    def state_dict(self) -> dict[str, Any]:
        """Scale, factors and counts, as PyTorch names them; empty if disabled. Waits for the device."""
        if not self._enabled:
            return {}
        tracker = self._init_growth_tracker if self._good_steps is None else int(self._good_steps.item())
        return {
            "scale": self.get_scale(),
            "growth_factor": self.get_growth_factor(),
            "backoff_factor": self.get_backoff_factor(),
            "growth_interval": self.get_growth_interval(),
            "_growth_tracker": tracker,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            RuntimeError: it is empty, since it comes of a scaler that was disabled.
        """
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError(
                "GradScaler.load_state_dict: The source state dict is empty, possibly because it was saved "
                "from a disabled instance of GradScaler."
            )
        self._init_scale = float(state_dict["scale"])
        self.set_growth_factor(state_dict["growth_factor"])
        self.set_backoff_factor(state_dict["backoff_factor"])
        self.set_growth_interval(state_dict["growth_interval"])
        self._init_growth_tracker = int(state_dict["_growth_tracker"])
        if self._scale is not None and self._good_steps is not None:  # where a compiled step finds them
            with no_grad():
                self._scale.fill_(self._init_scale)
                self._good_steps.fill_(float(self._init_growth_tracker))


def _step_or_skip(optimizer: Optimizer, skips: Tensor, kwargs: dict[str, Any]) -> Any:
    """A step that changes nothing if ``skips`` is true, which is not read."""
    for state in optimizer.state.values():
        for name in optimizer.counters:
            if name in state and state[name].device != skips.device:
                state[name] = state[name].to(skips.device)
    with skipped_if(skips):
        return optimizer.step(**kwargs)


def _merged(flags: list[Tensor]) -> Tensor:
    """Whether one of them is true, on the device of the first."""
    device = flags[0].device
    return stack([flag.to(device) for flag in flags]).any()


def _any(flags: list[Tensor]) -> bool:
    """Whether one of them is true: the one number a step that is read from the device."""
    return bool(_merged(flags).item())
