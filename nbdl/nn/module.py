"""Module: the base of all layers and networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from nbdl.autograd.engine import reset_gradient
from nbdl.autograd.rebinding import rebindings
from nbdl.autograd.tensor import Tensor
from nbdl.nn.hooks import Hooked
from nbdl.nn.moving import Movable
from nbdl.nn.parameter import Buffer, Parameter
from nbdl.nn.state import Stateful

Self = TypeVar("Self", bound="Module")


class Module(Hooked, Stateful, Movable):
    """A function with parameters, buffers and submodules.

    A subclass assigns them to attributes in ``__init__`` and computes in ``forward``; the module is then
    called like a function. Parameters, buffers and submodules are ordinary instance attributes, so reading
    one costs no more than reading any attribute; beside them the module keeps only their names.

    Attributes:
        training: whether layers such as dropout behave as in training.

    Example:
        >>> import nbdl
        >>> from nbdl import nn
        >>> class Classifier(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.hidden = nn.Linear(64, 32)
        ...         self.out = nn.Linear(32, 10)
        ...     def forward(self, x):
        ...         return self.out(self.hidden(x).relu())
        >>> model = Classifier()
        >>> model(nbdl.zeros(5, 64)).shape
        nbdl.Size([5, 10])
        >>> [name for name, _ in model.named_parameters()]
        ['hidden.weight', 'hidden.bias', 'out.weight', 'out.bias']
    """

    training: bool = True
    # The names in order of registration; a buffer's value says whether it is persistent.
    _parameter_names: dict[str, None]
    _buffer_names: dict[str, bool]
    _module_names: dict[str, None]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Names are kept from here on, so that a subclass may assign before ``super().__init__()``."""
        module = super().__new__(cls)
        module.__dict__.update(_parameter_names={}, _buffer_names={}, _module_names={})
        return module

    def __init__(self) -> None:
        super().__init__()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every subclass defines it."""
        raise NotImplementedError(
            f'Module [{type(self).__name__}] is missing the required "forward" function'
        )

    # ------------------------------------------------------------------------------------------ registration
    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter; None keeps the name for a parameter that is switched off.

        Raises:
            TypeError: ``name`` is no string, or ``param`` no parameter.
            KeyError: the name is empty, contains a dot, or is taken by another attribute.
            ValueError: ``param`` was computed from other tensors.
        """
        self._check_name("register_parameter", "parameter", name, self._parameter_names)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"register_parameter: cannot assign {type(param).__name__!r} object to parameter {name!r} "
                "(nbdl.nn.Parameter or None required)"
            )
        if param is not None and param.edge is not None:
            raise ValueError(
                f"register_parameter: cannot assign non-leaf Tensor to parameter {name!r}. "
                "Model parameters must be created explicitly. To express it as a function of another Tensor, "
                "compute it in forward()."
            )
        rebindings.count += 1
        self._parameter_names[name] = None
        self.__dict__[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that belongs to the state but is not trained.

        Args:
            name: the attribute.
            tensor: the value; None keeps the name, and is not saved.
            persistent: whether it is a part of ``state_dict``.

        Raises:
            TypeError: ``name`` is no string, or ``tensor`` no tensor.
            KeyError: the name is empty, contains a dot, or is taken by another attribute.
        """
        self._check_name("register_buffer", "buffer", name, self._buffer_names)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"register_buffer: cannot assign {type(tensor).__name__!r} object to buffer {name!r} "
                "(Tensor or None required)"
            )
        rebindings.count += 1
        self._buffer_names[name] = persistent
        self.__dict__[name] = tensor

    def register_module(self, name: str, module: Module | None) -> None:
        """Add a submodule.

        Raises:
            TypeError: ``name`` is no string, or ``module`` no module.
            KeyError: the name is empty, contains a dot, or is taken by another attribute.
        """
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"register_module: {type(module).__name__} is not a Module subclass")
        self._check_name("register_module", "module", name, self._module_names)
        rebindings.count += 1
        self._module_names[name] = None
        self.__dict__[name] = module

    add_module = register_module

    def _check_name(self, caller: str, kind: str, name: str, registry: dict) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{caller}: {kind} name should be a string. Got {type(name).__name__}")
        if "." in name:
            raise KeyError(f'{caller}: {kind} name can\'t contain ".", got: {name}')
        if name == "":
            raise KeyError(f'{caller}: {kind} name can\'t be empty string ""')
        if name not in registry and (name in self.__dict__ or hasattr(type(self), name)):
            raise KeyError(f"{caller}: attribute {name!r} already exists")

    def __setattr__(self, name: str, value: Any) -> None:
        rebindings.count += 1
        if isinstance(value, Parameter):
            self._forget(name, keep=self._parameter_names)
            self.register_parameter(name, value)
        elif name in self._parameter_names:
            self._must_be_none(name, value, "parameter", "nbdl.nn.Parameter or None")
        elif isinstance(value, Module):
            self._forget(name, keep=self._module_names)
            self.register_module(name, value)
        elif name in self._module_names:
            self._must_be_none(name, value, "child module", "nbdl.nn.Module or None")
        elif isinstance(value, Buffer):
            self._forget(name, keep=self._buffer_names)
            self.register_buffer(name, value, value.persistent)
        elif name in self._buffer_names:
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    f"cannot assign {type(value).__name__!r} object as buffer {name!r} (nbdl.Tensor or None "
                    "expected)"
                )
            self.__dict__[name] = value
        else:
            object.__setattr__(self, name, value)

    def _forget(self, name: str, keep: dict) -> None:
        """Make way for a member of another kind under ``name``."""
        if name not in keep:
            for registry in (self._parameter_names, self._buffer_names, self._module_names, self.__dict__):
                registry.pop(name, None)

    def _must_be_none(self, name: str, value: Any, kind: str, expected: str) -> None:
        if value is not None:
            raise TypeError(
                f"cannot assign {type(value).__name__!r} object as {kind} {name!r} ({expected} expected)"
            )
        self.__dict__[name] = None

    def __delattr__(self, name: str) -> None:
        rebindings.count += 1
        object.__delattr__(self, name)
        for registry in (self._parameter_names, self._buffer_names, self._module_names):
            registry.pop(name, None)

    def __getattr__(self, name: str) -> Any:
        """Reached only when there is no such attribute: says what there is."""
        members = [
            f"{kind}: {', '.join(names)}"
            for kind, names in (
                ("parameters", self.__dict__.get("_parameter_names")),
                ("buffers", self.__dict__.get("_buffer_names")),
                ("submodules", self.__dict__.get("_module_names")),
            )
            if names
        ]
        there = f" (it has {'; '.join(members)})" if members else ""
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}{there}", name=name, obj=self
        )

    def compile(self, **options: Any) -> None:
        """Have ``forward`` recorded and replayed from now on; hooks run around it.

        Args:
            options: of :func:`nbdl.compile`.

        Example:
            >>> import nbdl
            >>> model = nbdl.nn.Linear(3, 1)
            >>> model.compile()
            >>> model(nbdl.ones(2, 3)).shape
            nbdl.Size([2, 1])
        """
        from nbdl.compiler import compile

        object.__setattr__(self, "forward", compile(self.forward, **options))

    # --------------------------------------------------------------------------------------------- members
    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their names, each once unless ``remove_duplicate`` is False.

        Args:
            prefix: put before all names.
            recurse: those of submodules too.
            remove_duplicate: list a shared parameter only under its first name.
        """
        return self._named_members("_parameter_names", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """All buffers with their names; arguments as in :meth:`named_parameters`."""
        return self._named_members("_buffer_names", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _named_members(self, registry: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator:
        seen: set[int] = set()
        owners = (
            self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
            if recurse
            else [(prefix, self)]
        )
        for path, module in owners:
            for name in getattr(module, registry):
                value = module.__dict__[name]
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield (f"{path}.{name}" if path else name), value

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The submodules that are attributes of this one, with their names, each once."""
        seen: set[int] = set()
        for name in self._module_names:
            module = self.__dict__[name]
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The submodules that are attributes of this one, each once."""
        return (module for _, module in self.named_children())

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it, with their dotted names.

        Args:
            memo: modules that are left out.
            prefix: put before all names.
            remove_duplicate: list a shared module only under its first name.
        """
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name in self._module_names:
            module = self.__dict__[name]
            if module is not None:
                yield from module.named_modules(
                    memo, f"{prefix}.{name}" if prefix else name, remove_duplicate
                )

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def get_submodule(self, target: str) -> Module:
        """The submodule with a dotted name; the empty name is this module.

        Raises:
            AttributeError: there is none.
        """
        module: Any = self
        for name in target.split(".") if target else ():
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"get_submodule: {name!r} in {target!r} is not an nn.Module")
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with a dotted name.

        Raises:
            AttributeError: there is none.
        """
        return self._member("get_parameter", "_parameter_names", "an nn.Parameter", target)

    def get_buffer(self, target: str) -> Tensor:
        """The buffer with a dotted name.

        Raises:
            AttributeError: there is none.
        """
        return self._member("get_buffer", "_buffer_names", "a buffer", target)

    def _member(self, caller: str, registry: str, kind: str, target: str) -> Any:
        path, _, name = target.rpartition(".")
        owner = self.get_submodule(path)
        value = getattr(owner, name)
        if name not in getattr(owner, registry):
            raise AttributeError(f"{caller}: {name!r} in {target!r} is not {kind}")
        return value

    def set_submodule(self, target: str, module: Module) -> None:
        """Replace, or add, the submodule with a dotted name.

        Raises:
            ValueError: the name is empty.
            AttributeError: there is no module that could hold it.
        """
        if not target:
            raise ValueError("set_submodule: cannot set the submodule without a target name")
        path, _, name = target.rpartition(".")
        setattr(self.get_submodule(path), name, module)

    # -------------------------------------------------------------------------------------------------- modes
    def apply(self: Self, fn: Callable[[Module], Any]) -> Self:
        """Call ``fn`` on every module below this one, children before parents, and on this one."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self: Self, mode: bool = True) -> Self:
        """Set ``training`` here and in all submodules.

        Raises:
            ValueError: ``mode`` is no bool.
        """
        if not isinstance(mode, bool):
            raise ValueError(f"train: training mode is expected to be boolean, got {type(mode).__name__}")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self: Self) -> Self:
        """``train(False)``."""
        return self.train(False)

    def requires_grad_(self: Self, requires_grad: bool = True) -> Self:
        """Set ``requires_grad`` of all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        for parameter in self.parameters():
            reset_gradient(parameter, set_to_none)

    # --------------------------------------------------------------------------------------------- printing
    def extra_repr(self) -> str:
        """What stands in the parentheses of ``repr``: the settings of a layer."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def _described_members(self) -> Iterator[tuple[str, str]]:
        """For ``repr``: names of members, and what is said of them."""
        for name in self._module_names:
            yield name, repr(self.__dict__[name])

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        lines += [f"({label}): " + text.replace("\n", "\n  ") for label, text in self._described_members()]
        if not self._module_names and len(lines) <= 1:
            return f"{self._get_name()}({extra})"
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"
