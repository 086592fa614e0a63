"""``nbdl.autograd.graph``: what nodes keep for the backward pass, and in which form."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nbdl.autograd import modes
from nbdl.autograd.batching import Batch
from nbdl.autograd.edges import GradientEdge, get_gradient_edge
from nbdl.autograd.hooks import Handle, Handles
from nbdl.autograd.modes import mode, recording
from nbdl.autograd.tape import Node, clock, mark_changed, wrap
from nbdl.autograd.tensor import Tensor

__all__ = [
    "GradientEdge",
    "Node",
    "disable_saved_tensors_hooks",
    "get_gradient_edge",
    "increment_version",
    "register_multi_grad_hook",
    "save_on_cpu",
    "saved_tensors_hooks",
]


class saved_tensors_hooks:
    """In this block what is saved for the backward pass is kept as ``pack_hook`` wants it.

    Of nested blocks the innermost counts. Where a value is first read ``unpack_hook`` makes a tensor of it
    again; a graph that is retained keeps that tensor. Changes in place of the saved memory are not noticed.
    Tensors that carry tangents, and those inside functions of :func:`nbdl.compile`, are saved as they are.

    Args:
        pack_hook: takes a tensor without history; returns anything.
        unpack_hook: takes that; returns a tensor of the same shape, dtype and device.

    Raises:
        RuntimeError: at the entry, inside :class:`disable_saved_tensors_hooks`.
        TypeError: in the backward pass, when ``unpack_hook`` returned no tensor.

    Example:
        >>> import nbdl
        >>> x = nbdl.tensor([1.0, 2.0], requires_grad=True)
        >>> with nbdl.autograd.graph.saved_tensors_hooks(lambda x: x.half(), lambda x: x.float()):
        ...     y = (x * x).sum()
        >>> nbdl.autograd.grad(y, x)
        (tensor([2., 4.]),)
    """

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]):
        self._hooks = (pack_hook, unpack_hook)
        self._outer: list[Any] = []

    def __enter__(self) -> None:
        if mode.packing_refused is not None:
            raise RuntimeError(mode.packing_refused)
        self._outer.append(mode.packing)
        mode.packing = self._hooks

    def __exit__(self, *exc_info: object) -> None:
        mode.packing = self._outer.pop()


class save_on_cpu(saved_tensors_hooks):
    """In this block tensors are saved in the memory of the host, and copied back for the backward pass.

    Args:
        pin_memory: accepted for compatibility; transfers do not need pinned memory.
        device_type: accepted for compatibility; tensors go back to the device from which they came.

    Example:
        >>> import nbdl
        >>> x = nbdl.tensor([1.0, 2.0], requires_grad=True)
        >>> with nbdl.autograd.graph.save_on_cpu():
        ...     y = x.exp().sum()
        >>> y.backward()
        >>> bool((x.grad == x.exp()).all())
        True
    """

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda"):
        super().__init__(lambda x: (x.device, x.cpu()), lambda packed: packed[1].to(packed[0]))


class disable_saved_tensors_hooks:
    """In this block :class:`saved_tensors_hooks` may not be entered.

    Args:
        error_message: of the RuntimeError that is raised then.
    """

    def __init__(self, error_message: str):
        self._message = error_message
        self._outer: list[str | None] = []

    def __enter__(self) -> None:
        self._outer.append(mode.packing_refused)
        mode.packing_refused = self._message

    def __exit__(self, *exc_info: object) -> None:
        mode.packing_refused = self._outer.pop()


def increment_version(tensor: Tensor | Iterable[Tensor]) -> None:
    """Note that the memory of tensors was changed in place by something that the tape does not see."""
    mark_changed([tensor] if isinstance(tensor, Tensor) else list(tensor))


def register_multi_grad_hook(
    tensors: Sequence[Tensor], fn: Callable[[Any], Any], *, mode: str = "all"
) -> Handle:
    """Call ``fn`` in every backward pass that reaches some of ``tensors``, once.

    Args:
        tensors: tensors that need gradients.
        fn: with ``mode="all"`` it takes the list of their gradients, with None for those that the pass does
            not reach, at the end of the pass, before gradients are accumulated; with ``mode="any"`` it takes
            the first gradient, as soon as it is there.
        mode: ``"all"`` or ``"any"``.

    Returns:
        A handle whose ``remove()`` takes the hook away.

    Raises:
        ValueError: an unknown mode.
        RuntimeError: a tensor needs no gradient.

    Example:
        >>> import nbdl
        >>> x, y = nbdl.ones(2, requires_grad=True), nbdl.ones(1, requires_grad=True)
        >>> hook = nbdl.autograd.graph.register_multi_grad_hook([x, y], print)
        >>> (3 * x).sum().backward()
        [tensor([3., 3.]), None]
    """
    if mode not in ("all", "any"):
        raise ValueError(f"register_multi_grad_hook: mode must be 'all' or 'any', got {mode!r}")

    def at_end(gradients: list[Tensor | None]) -> None:
        if mode == "all":
            fn(gradients)

    def seen(k: int) -> Callable[[Tensor], None]:
        def note(gradient: Tensor) -> None:
            gradients = modes.mode.endings.get(at_end)
            if gradients is None:
                gradients = modes.mode.endings[at_end] = [None] * len(tensors)
                if mode == "any":
                    fn(gradient)
            gradients[k] = gradient

        return note

    return Handles([tensor.register_hook(seen(k)) for k, tensor in enumerate(tensors)])


def pack_saved(node: Node) -> None:
    """Keep what ``node`` has saved as the hooks in force want it, until its rule asks for it."""
    assert mode.packing is not None
    pack, unpack = mode.packing
    edges = node.edges
    operands = [x if x is None else (x.requires_grad, _packed_by(pack, x.detach())) for x in node.saved or ()]
    outputs = node.saved_outputs and [_packed_by(pack, _tensor(array)) for array in node.saved_outputs]
    if not (any(operands) or outputs):
        return
    owner = weakref.ref(node)  # which holds this function

    def refill() -> None:
        node = owner()
        assert node is not None
        node.saved = tuple(
            x if x is None else _connected(_unpacked_by(unpack, x[1]), edges[k] if x[0] else None)
            for k, x in enumerate(operands)
        )
        if outputs:
            tensors = [_unpacked_by(unpack, y) for y in outputs]
            node.saved_outputs = tuple([tensor.batch or tensor.array for tensor in tensors])
        node.refill, node.restored = None, next(clock)

    node.saved = node.saved_outputs = node.output_storage = None
    node.refill = refill


def _packed_by(pack: Callable[[Tensor], Any], x: Tensor) -> Any:
    """What a hook makes of a tensor, which it must leave as it is."""
    version = x._version
    with recording(False):
        packed = pack(x)
    if x._version != version:
        raise RuntimeError("saved_tensors_hooks: a pack hook modified its input in place")
    return packed


def _unpacked_by(unpack: Callable[[Any], Tensor], packed: Any) -> Tensor:
    """The tensor that a hook makes of what was packed."""
    with recording(False):
        x = unpack(packed)
    if not isinstance(x, Tensor):
        raise TypeError(
            "saved_tensors_hooks: unpack_hook must return a Tensor, but got result of type "
            f"{type(x).__name__}"
        )
    return x


def _tensor(array: Any) -> Tensor:
    return array.tensor() if isinstance(array, Batch) else Tensor(array)


def _connected(x: Tensor, edge: Any) -> Tensor:
    """``x`` in the place of the value at an edge; a copy, for the hook may give the same tensor again."""
    x = x.detach()
    if isinstance(edge, Tensor):  # a leaf is known by its identity
        from nbdl.ops.views import Reshape

        with recording(True):
            return wrap(Reshape.of(tuple(x.array.shape)), (edge,), x.batch or x.array)
    if edge is not None:
        x.requires_grad, x.edge = True, edge
    return x
