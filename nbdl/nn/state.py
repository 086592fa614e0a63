"""State of a module as a flat dict of tensors: saving and loading."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from nbdl.autograd.hooks import Handle, Hooks
from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.nn.parameter import Parameter, is_lazy
from nbdl.ops.creation import from_numpy

EXTRA_STATE = "_extra_state"


class IncompatibleKeys(NamedTuple):
    """What ``load_state_dict`` did not find, and what it had no use for."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"_IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class StateHooks:
    """The hooks around saving and loading of one module."""

    def __init__(self) -> None:
        self.save_pre, self.save_post, self.load_pre, self.load_post = Hooks(), Hooks(), Hooks(), Hooks()


class Stateful:
    """The part of a module that saves and loads its parameters and persistent buffers."""

    _version: int = 1
    _state_hooks: StateHooks | None = None
    _parameter_names: dict[str, None]
    _buffer_names: dict[str, bool]
    _module_names: dict[str, None]

    # ------------------------------------------------------------------------------------------------ saving
    def state_dict(
        self, *, destination: dict[str, Any] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """Parameters and persistent buffers by dotted name. The tensors share memory with the module.

        Args:
            destination: where to put them; default: a new OrderedDict.
            prefix: put before all names.
            keep_vars: give the parameters themselves instead of detached tensors.
        """
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()  # type: ignore[attr-defined]
        metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = metadata
        for hook in self._hooks_of("save_pre"):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name in self._module_names:
            module = self.__dict__[name]
            if module is not None:
                module.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in self._hooks_of("save_post"):
            hook(self, destination, prefix, metadata)
        return destination

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Save what belongs to this module itself."""
        for name, tensor in self._own_state():
            destination[prefix + name] = tensor if keep_vars else tensor.detach()
        if _defines_extra_state(self, "get_extra_state"):
            destination[prefix + EXTRA_STATE] = self.get_extra_state()

    def _own_state(self) -> Iterator[tuple[str, Tensor]]:
        persistent = [name for name, is_persistent in self._buffer_names.items() if is_persistent]
        for name in itertools.chain(self._parameter_names, persistent):
            tensor = self.__dict__[name]
            if tensor is not None:
                yield name, tensor

    def get_extra_state(self) -> Any:
        """What else belongs into ``state_dict``; a module that defines it defines ``set_extra_state`` too."""
        raise RuntimeError("get_extra_state: this module defines no extra state")

    def set_extra_state(self, state: Any) -> None:
        """Take back what ``get_extra_state`` gave."""
        raise RuntimeError("set_extra_state: this module defines no extra state")

    # ----------------------------------------------------------------------------------------------- loading
    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Take parameters and buffers from a ``state_dict``.

        Args:
            state_dict: tensors by dotted name; NumPy arrays, and tensors of other libraries that NumPy can
                read, do too.
            strict: raise if names are missing or unexpected.
            assign: put the given tensors in place of the module's, instead of copying their values.

        Returns:
            (missing_keys, unexpected_keys)

        Raises:
            TypeError: it is no mapping.
            RuntimeError: names are missing or unexpected (``strict``), or sizes differ; all are listed.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"load_state_dict: expected state_dict to be dict-like, got {type(state_dict).__name__}."
            )
        metadata = getattr(state_dict, "_metadata", {})
        missing: list[str] = []
        unexpected: list[str] = []
        errors: list[str] = []
        _load(self, OrderedDict(state_dict), metadata, "", strict, assign, missing, unexpected, errors)
        if strict:
            if unexpected:
                errors.insert(0, f"Unexpected key(s) in state_dict: {_quoted(unexpected)}. ")
            if missing:
                errors.insert(0, f"Missing key(s) in state_dict: {_quoted(missing)}. ")
        if errors:
            raise RuntimeError(
                f"Error(s) in loading state_dict for {type(self).__name__}:\n\t" + "\n\t".join(errors)
            )
        return IncompatibleKeys(missing, unexpected)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Load what belongs to this module itself. What goes wrong is appended to the lists."""
        for hook in self._hooks_of("load_pre"):
            hook(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        own = dict(self._own_state())
        for name, tensor in own.items():
            key = prefix + name
            if key not in state_dict:
                missing_keys.append(key)
                continue
            error = _load_tensor(
                self, name, tensor, key, state_dict[key], local_metadata.get("assign", False)
            )
            if error:
                error_msgs.append(error)
        extra_key = prefix + EXTRA_STATE
        if _defines_extra_state(self, "set_extra_state"):
            if extra_key in state_dict:
                self.set_extra_state(state_dict[extra_key])
            else:
                missing_keys.append(extra_key)
        elif extra_key in state_dict:
            unexpected_keys.append(extra_key)
        for key in state_dict:
            if key.startswith(prefix) and key != extra_key:
                name, dot, _ = key[len(prefix) :].partition(".")
                if name not in (self._module_names if dot else own):
                    unexpected_keys.append(key)

    # ------------------------------------------------------------------------------------------------- hooks
    def _hooks_of(self, kind: str) -> list[Callable[..., Any]]:
        return [] if self._state_hooks is None else list(getattr(self._state_hooks, kind).values())

    def _register_state_hook(self, kind: str, hook: Callable[..., Any]) -> Handle:
        if self._state_hooks is None:
            self._state_hooks = StateHooks()
        return getattr(self._state_hooks, kind).add(hook)

    def register_state_dict_pre_hook(self, hook: Callable[..., None]) -> Handle:
        """Call ``hook(module, prefix, keep_vars)`` before the module is saved."""
        return self._register_state_hook("save_pre", hook)

    def register_state_dict_post_hook(self, hook: Callable[..., None]) -> Handle:
        """Call ``hook(module, state_dict, prefix, local_metadata)`` after the module was saved."""
        return self._register_state_hook("save_post", hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., None]) -> Handle:
        """Call the hook before the module is loaded; it may change the dict.

        It is called as ``hook(module, state_dict, prefix, local_metadata, strict, missing_keys,
        unexpected_keys, error_msgs)``.
        """
        return self._register_state_hook("load_pre", hook)

    def register_load_state_dict_post_hook(self, hook: Callable[..., None]) -> Handle:
        """Call ``hook(module, incompatible_keys)`` after the module was loaded; it may change the lists."""
        return self._register_state_hook("load_post", hook)


def _load(
    module: Any, state: dict, metadata: Mapping, prefix: str, strict: bool, assign: bool,
    missing: list[str], unexpected: list[str], errors: list[str],
) -> None:  # fmt: skip
    local_metadata = dict(metadata.get(prefix[:-1], {}))
    if assign:
        local_metadata["assign"] = True
    module._load_from_state_dict(state, prefix, local_metadata, strict, missing, unexpected, errors)
    for name in module._module_names:
        child, path = module.__dict__[name], f"{prefix}{name}."
        if child is not None:
            below = OrderedDict((key, value) for key, value in state.items() if key.startswith(path))
            _load(child, below, metadata, path, strict, assign, missing, unexpected, errors)
    keys = IncompatibleKeys(missing, unexpected)
    for hook in module._hooks_of("load_post"):
        if hook(module, keys) is not None:
            raise RuntimeError(
                "load_state_dict: a post hook must change the lists of keys in place and return None"
            )


def _load_tensor(module: Any, name: str, tensor: Tensor, key: str, value: Any, assign: bool) -> str | None:
    """Put ``value`` into ``tensor``, or in its place; what went wrong, if anything."""
    if not isinstance(value, Tensor):
        if not hasattr(value, "__array__"):
            return (
                f'While copying the parameter named "{key}", expected a Tensor or an array from checkpoint '
                f"but received {type(value).__name__}"
            )
        value = from_numpy(np.asarray(value))
    if is_lazy(tensor) and is_lazy(value):  # both wait for their first batch
        return None
    if value.shape != tensor.shape:
        return (
            f"size mismatch for {key}: copying a param with shape {value.shape} from checkpoint, "
            f"the shape in current model is {tensor.shape}."
        )
    if assign:
        if isinstance(tensor, Parameter):
            if isinstance(value, Parameter):
                value.requires_grad_(tensor.requires_grad)
            else:
                value = Parameter(value, requires_grad=tensor.requires_grad)
        setattr(module, name, value)
        return None
    with no_grad():
        tensor.copy_(value)
    return None


def _defines_extra_state(module: Any, method: str) -> bool:
    return getattr(type(module), method) is not getattr(Stateful, method)


def _quoted(keys: list[str]) -> str:
    return ", ".join(f'"{key}"' for key in keys)
