"""The views of PyTorch as copies: what ``view_copy`` and the like return has memory of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.ops.complex_numbers import view_as_complex, view_as_real
from nbdl.ops.keywords import written

_VIEWS = (
    "as_strided", "detach", "diagonal", "expand", "permute", "select", "split", "split_with_sizes", "squeeze",
    "t", "transpose", "unbind", "unfold", "unsqueeze", "view",
)  # fmt: skip

__all__ = [
    "alias_copy", "view_as_complex_copy", "view_as_real_copy", *(f"{name}_copy" for name in _VIEWS)
]  # fmt: skip


def alias_copy(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """A copy."""
    return input.clone() if out is None else written("alias_copy", input, out)


def _copying(name: str, view: Callable[..., Any]) -> Callable[..., Any]:
    def operation(input: Tensor, *args: Any, out: Any = None, **keywords: Any) -> Any:
        result = view(input, *args, **keywords)
        if out is not None:
            return written(operation.__name__, result, out)
        return tuple([x.clone() for x in result]) if isinstance(result, (tuple, list)) else result.clone()

    operation.__name__ = operation.__qualname__ = f"{name}_copy"
    operation.__doc__ = f"A copy of what ``{name}`` is a view of; a tuple where that is several."
    return operation


view_as_complex_copy = _copying("view_as_complex", view_as_complex)
view_as_real_copy = _copying("view_as_real", view_as_real)
globals().update({f"{name}_copy": _copying(name, getattr(Tensor, name)) for name in _VIEWS})
