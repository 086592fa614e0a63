"""What all optimizers have: parameter groups, state, and the helper that runs their formula."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np

from nbdl.autograd.engine import reset_gradient
from nbdl.autograd.modes import enable_grad, mode
from nbdl.autograd.rebinding import rebindings
from nbdl.autograd.tape import mark_changed
from nbdl.autograd.tensor import Tensor
from nbdl.backend import registry
from nbdl.formula import Formula, dtypes
from nbdl.formula.dtypes import is_floating
from nbdl.ops.creation import from_numpy
from nbdl.ops.pointwise import Pointwise
from nbdl.optim.checks import check_kinds, real_of
from nbdl.optim.hooks import OptimizerHooks
from nbdl.optim.skipping import overwrite_arrays
from nbdl.optim.vectors import real_view

REQUIRED = object()  # the default of a hyperparameter that every group must give

COUNT = Formula("count", lambda step: step + 1, 1)
_COUNTING = Pointwise.of(COUNT)
_array_of, _grad_of = attrgetter("array"), attrgetter("_grad")


class Optimizer(OptimizerHooks):
    """The base of all optimizers.

    A subclass gives its update rule as a :class:`~nbdl.formula.Formula` with several outputs and calls
    :func:`update` in ``update_group``; nothing else is computed.

    Args:
        params: tensors, pairs of names and tensors, or dicts that describe groups: ``params`` and what
            differs from the defaults.
        defaults: hyperparameters of groups that do not give their own.

    Attributes:
        param_groups: the groups; their values may be changed at any time.
        state: what is remembered of each parameter, by parameter.
        counters: names of the state that is kept as a 0-d float64 tensor on the host (beside the parameters
            once a step was compiled with a :class:`~nbdl.amp.GradScaler`).
        accepts_complex: whether parameters may be complex; each is then two real ones, as in PyTorch.
        can_skip: whether all that a step changes is overwritten by rules, so that a flag on the device may
            say that it changes nothing (:mod:`nbdl.optim.skipping`).

    Raises:
        TypeError: something given is no tensor, ``params`` is a single tensor, or a hyperparameter no number.
        ValueError: there is no parameter, one is no leaf, or stands in several groups.
    """

    counters: ClassVar[tuple[str, ...]] = ("step",)
    accepts_complex: ClassVar[bool] = False
    can_skip: ClassVar[bool] = False

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        super().__init__()
        self._scalars: dict[int, tuple[dict[str, Any], dict[str, np.ndarray]]] = {}
        if isinstance(params, Tensor) or not isinstance(params, Iterable):
            raise TypeError(
                f"{type(self).__name__}: params argument given to the optimizer should be an iterable of "
                f"Tensors or dicts, but got {type(params).__name__}"
            )
        groups = list(params)
        if not groups:
            raise ValueError(f"{type(self).__name__}: optimizer got an empty parameter list")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    # --------------------------------------------------------------------------------------------- groups
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, with hyperparameters of their own.

        Args:
            param_group: ``params`` (a tensor or an iterable of tensors) and hyperparameters.

        Raises:
            TypeError: it is no dict, or something in it is no tensor.
            ValueError: a parameter is no leaf or stands in another group, or a required value is missing.
        """
        label = type(self).__name__
        if not isinstance(param_group, dict):
            raise TypeError(f"{label}: param_group must be a dict, but got {type(param_group).__name__}")
        group = dict(param_group)
        names, tensors = _named_tensors(label, group["params"], self.accepts_complex)
        group["params"] = tensors
        if names:
            group["param_names"] = names
        for tensor in tensors:
            if not tensor.is_leaf:
                raise ValueError(
                    f"{label}: can't optimize a non-leaf Tensor (one of shape {tuple(tensor.shape)} was "
                    f"computed by {tensor.grad_fn!r})"
                )
        for name, default in self.defaults.items():
            if default is REQUIRED and name not in group:
                raise ValueError(
                    f"{label}: parameter group didn't specify a value of required optimization parameter "
                    f"{name}"
                )
            group.setdefault(name, default)
        if len(set(map(id, tensors))) != len(tensors):
            warnings.warn(
                f"{label}: optimizer contains a parameter group with duplicate parameters, which are "
                "updated several times",
                stacklevel=3,
            )
        taken = {id(tensor) for other in self.param_groups for tensor in other["params"]}
        if any(id(tensor) in taken for tensor in tensors):
            raise ValueError(f"{label}: some parameters appear in more than one parameter group")
        self.check(group)
        self.param_groups.append(group)

    def check(self, group: dict[str, Any]) -> None:
        """Check hyperparameters: first whether numbers are numbers, then :meth:`check_group`.

        Raises:
            TypeError: something else stands where the default is a number, or a tuple of numbers.
            ValueError: a value is not allowed.
        """
        check_kinds(type(self), group)
        self.check_group(group)

    def check_group(self, group: dict[str, Any]) -> None:
        """Raise ValueError if a hyperparameter of ``group`` has a value that is not allowed."""

    # ----------------------------------------------------------------------------------------------- steps
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        forgets = set_to_none and mode.recorder is None
        for group in self.param_groups:
            for tensor in group["params"]:
                if forgets:
                    tensor._grad = None
                else:
                    reset_gradient(tensor, set_to_none)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient.

        Args:
            closure: computes the loss again, with its gradients, and returns it.

        Returns:
            What the closure returned.
        """
        args: tuple[Any, ...] = () if closure is None else (closure,)
        kwargs: dict[str, Any] = {}
        if not (self._step_pre_hooks or self._step_post_hooks):
            return self.take_step(*args)
        for hook in list(self._step_pre_hooks.values()):
            replaced = hook(self, args, kwargs)
            if replaced is not None:
                if not (isinstance(replaced, tuple) and len(replaced) == 2):
                    raise RuntimeError(
                        f"step: a pre-hook must return None or (new_args, new_kwargs), got {replaced!r}"
                    )
                args, kwargs = replaced
        loss = self.take_step(*args, **kwargs)
        for hook in list(self._step_post_hooks.values()):
            hook(self, args, kwargs)
        return loss

    def take_step(self, closure: Callable[[], Any] | None = None) -> Any:
        """The step itself: each group on its own. Methods that need several evaluations override this."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        recorder = mode.recorder
        for index, group in enumerate(self.param_groups):
            if recorder is not None:
                for tensor in group["params"]:
                    recorder.uses_gradient(tensor, resets=False)
            params = [tensor for tensor in group["params"] if tensor._grad is not None]
            if params:
                self.update_group(group, params, list(map(_grad_of, params)), self.scalars(index, group))
        return loss

    def update_group(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], scalars: dict[str, np.ndarray]
    ) -> None:
        """Update ``params``, the parameters of ``group`` that have a gradient.

        Args:
            group: the group.
            params: its parameters that have a gradient.
            grads: their gradients.
            scalars: the hyperparameters that are numbers, as 0-d float64 arrays.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no update_group")

    def scalars(self, index: int, group: dict[str, Any]) -> dict[str, np.ndarray]:
        """The hyperparameters of group ``index`` that the formula reads, as 0-d float64 arrays.

        The arrays stay the same and get the values of now, so that kernels may read them by address.
        """
        recorder = mode.recorder
        if recorder is not None:
            recorder.before_replay(functools.partial(self.scalars, index, group))
        values: dict[str, Any] = self.hyperparameters(group)
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        written, arrays = self._scalars.get(index, (None, {}))
        if tensors or written != values:
            if arrays.keys() != values.keys():
                arrays = {name: np.empty((), np.float64) for name in values}
            with contextlib.nullcontext() if recorder is None else recorder.paused():
                numbers = {name: float(value) for name, value in values.items()}
            for name, number in numbers.items():
                arrays[name][...] = number
            self._scalars[index] = (numbers, arrays)
        if recorder is not None:
            for name, tensor in tensors.items():  # a program reads it where it is, or computes it
                Tensor(arrays[name]).copy_(tensor.detach())
        return arrays

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        """The numbers that the formula reads, by name."""
        raise NotImplementedError(f"{type(self).__name__} defines no hyperparameters")

    # ----------------------------------------------------------------------------------------------- state
    def state_dict(self) -> dict[str, Any]:
        """State and groups, with parameters numbered in the order of the groups, as PyTorch lays them out."""
        for hook in self._save_pre_hooks.in_order():
            hook(self)
        numbers: dict[int, int] = {}
        for group in self.param_groups:
            for tensor in group["params"]:
                numbers.setdefault(id(tensor), len(numbers))
        groups = [
            {key: value for key, value in group.items() if key != "params"}
            | {"params": [numbers[id(tensor)] for tensor in group["params"]]}
            for group in self.param_groups
        ]
        state = {numbers[id(tensor)]: dict(entries) for tensor, entries in self.state.items()}
        return self._replaced(self._save_post_hooks, {"state": state, "param_groups": groups})

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over state and hyperparameters.

        Tensors are copied, in the dtype and on the device of their parameters.

        Raises:
            ValueError: the groups differ in number or size from this optimizer's.
        """
        state_dict = self._replaced(self._load_pre_hooks, dict(state_dict))
        saved_groups = state_dict["param_groups"]
        if len(saved_groups) != len(self.param_groups):
            raise ValueError(
                "load_state_dict: loaded state dict has a different number of parameter groups "
                f"({len(saved_groups)}, the optimizer has {len(self.param_groups)})"
            )
        for k, (group, saved) in enumerate(zip(self.param_groups, saved_groups, strict=True)):
            if len(group["params"]) != len(saved["params"]):
                raise ValueError(
                    "load_state_dict: loaded state dict contains a parameter group that doesn't match the "
                    f"size of optimizer's group (group {k}: {len(saved['params'])}, the optimizer has "
                    f"{len(group['params'])})"
                )
        numbers = itertools.chain.from_iterable(saved["params"] for saved in saved_groups)
        tensors = itertools.chain.from_iterable(group["params"] for group in self.param_groups)
        tensor_of = dict(zip(numbers, tensors, strict=True))
        rebindings.count += 1
        self.state = defaultdict(dict)
        for index, entries in state_dict["state"].items():
            if index in tensor_of:
                tensor = tensor_of[index]
                self.state[tensor] = {
                    name: _counter(value) if name in self.counters else _restored(value, tensor)
                    for name, value in entries.items()
                }
        for group, saved in zip(self.param_groups, saved_groups, strict=True):
            params = group["params"]
            group.update(copy.deepcopy({key: value for key, value in saved.items() if key != "params"}))
            group["params"] = params
        for hook in self._load_post_hooks.in_order():
            hook(self)

    def __repr__(self) -> str:
        groups = []
        for k, group in enumerate(self.param_groups):
            settings = [f"    {key}: {group[key]}\n" for key in sorted(group) if key != "params"]
            groups.append(f"Parameter Group {k}\n" + "".join(settings))
        return f"{type(self).__name__} (\n" + "\n".join(groups) + ")"


def update(
    rule: Formula,
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    states: Sequence[Sequence[Tensor]],
    scalars: Sequence[Any],
    steps: Sequence[Tensor] = (),
) -> None:
    """One step of ``rule`` for all parameters, in place.

    Args:
        rule: outputs (parameter, *state) of (parameter, gradient, *state, step if there are any, *scalars).
        params: the parameters.
        grads: their gradients, of the same shapes.
        states: for each parameter the state that is updated with it, of the same shape.
        scalars: 0-d float64 arrays.
        steps: for each parameter its 0-d step count, which is increased first.

    Raises:
        RuntimeError: a gradient has another shape than its parameter.
    """
    backend = mode.backend or registry.cpu or registry.select()
    rows, counts = [], []
    for k, (param, grad) in enumerate(zip(params, grads, strict=True)):
        row = [param.array, grad.array]
        if row[0].shape != row[1].shape:
            raise RuntimeError(
                f"{rule.name}: the gradient of a parameter of shape {tuple(param.shape)} has shape "
                f"{tuple(grad.shape)}"
            )
        if states:
            row += map(_array_of, states[k])
        if row[0].itemsize > 4 and row[0].dtype.kind == "c":  # the size is quick to tell
            row = list(map(real_view, row))
        if steps:
            row.append(steps[k].array)
            counts.append(row[-1:])
        row += scalars
        rows.append(row)
    overwrite = backend.overwrite if mode.skipped is None else functools.partial(overwrite_arrays, backend)
    if counts:
        overwrite(_COUNTING, counts, (0,))
    primitive, positions = _overwriting(rule)
    overwrite(primitive, rows, positions)
    mark_changed(params)


@functools.lru_cache(maxsize=256)
def _overwriting(rule: Formula) -> tuple[Pointwise, tuple[int, ...]]:
    """The primitive that computes an update rule, and the positions of what it overwrites."""
    # Parameter, gradient, state; the scalars after them do not decide the dtype.
    n_arrays = 1 + len(rule.outputs)
    return Pointwise.of(rule, (1 << rule.arity) - (1 << n_arrays)), (0, *range(2, n_arrays))


def check_at_least_zero(label: str, description: str, value: Any) -> None:
    """Raise unless ``value`` is 0 or more.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative or NaN.
    """
    real = real_of(value)
    if real is None:
        raise TypeError(f"{label}: {description} must be a number, got {value!r}")
    if not real >= 0.0:
        raise ValueError(f"{label}: Invalid {description}: {value} (must be 0 or more)")


def reject_differentiable(label: str, differentiable: bool) -> None:
    """Raise ValueError if steps that gradients flow through are asked for."""
    if differentiable:
        raise ValueError(
            f"{label}: differentiable=True is not supported, since parameters are updated in place; "
            "allowed: False"
        )


def _named_tensors(label: str, params: Any, accepts_complex: bool) -> tuple[list[str], list[Tensor]]:
    """The names (if there are any) and the tensors of a group.

    Raises:
        TypeError: something is no tensor, or the order is undefined.
        ValueError: only some have names.
    """
    if isinstance(params, (set, frozenset)):
        raise TypeError(
            f"{label}: optimizer parameters need to be organized in ordered collections, but the ordering "
            "of tensors in sets will change between runs. Please use a list instead."
        )
    entries = [params] if isinstance(params, Tensor) else list(params)
    names = [entry[0] for entry in entries if isinstance(entry, tuple) and len(entry) == 2]
    if names and len(names) != len(entries):
        raise ValueError(
            f"{label}: all optimizer params should be with/without names. Some param names are missing"
        )
    tensors = [entry[1] for entry in entries] if names else entries
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"{label}: optimizer can only optimize Tensors, but one of the params is "
                f"{type(tensor).__name__}"
            )
        if not (is_floating(tensor.dtype) or (accepts_complex and tensor.is_complex())):
            raise TypeError(
                f"{label}: optimizer can only optimize floating{' and complex' if accepts_complex else ''} "
                f"tensors, but one has dtype {tensor.dtype}"
            )
    return names, tensors


def _counter(value: Any) -> Tensor:
    """A copy of a step count, which may come as a number, as a 0-d float64 tensor on the host."""
    array = value.detach().cpu().array if isinstance(value, Tensor) else np.asarray(value)
    return Tensor(array.astype(np.float64))


def _restored(value: Any, param: Tensor) -> Any:
    """A copy of a state entry, in the parameter's dtype."""
    if not isinstance(value, Tensor) and not hasattr(value, "__array__"):
        return copy.deepcopy(value)
    tensor = value.detach() if isinstance(value, Tensor) else from_numpy(np.asarray(value))
    dtype = dtypes.real_of(param.dtype) if tensor.is_floating_point() else None
    return tensor.to(dtype=dtype, device=param.device, copy=True)
