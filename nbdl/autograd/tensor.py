"""Tensor: an array that knows how it was made.

The class holds what every tensor has; operations are methods that :mod:`nbdl.ops` adds, each beside its rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.autograd.hooks import Hookable
from nbdl.autograd.modes import mode
from nbdl.autograd.reading import Readable, before_reading
from nbdl.autograd.rebinding import rebindings
from nbdl.backend.device import device_of

if TYPE_CHECKING:
    from nbdl.autograd.batching import Batch
    from nbdl.autograd.duals import Dual
    from nbdl.autograd.tape import Node, OutputEdge, Storage
    from nbdl.backend.device import Device
    from nbdl.ops.methods import Operations
else:
    Operations = object  # nbdl.ops adds the methods


class Size(tuple):
    """A shape: a tuple with ``numel``."""

    __slots__ = ()

    def numel(self) -> int:
        """Number of elements."""
        count = 1
        for n in self:
            count *= n
        return count

    def __repr__(self) -> str:
        return f"nbdl.Size({list(self)})"


class Tensor(Readable, Hookable, Operations):
    """An n-dimensional array on a device that takes part in automatic differentiation.

    Make one with :func:`nbdl.tensor`, :func:`nbdl.from_numpy`, :func:`nbdl.zeros` and the like. The class
    itself takes an array, whose memory it shares; or data or sizes, for a tensor of the default dtype.

    Attributes:
        array: the NumPy or CuPy array.
        requires_grad: whether gradients flow to it.
        edge: where it was made (a node, or one output of a node); None for a leaf.
        view_of: (base, primitives) if it is a view: the tensor that owns the memory, and the view operations
            that lead here.
        batch: what it stands for under vmap, where ``array`` has only the shape of one example.
        borrowed: whether the memory is that of an array or tensor outside of nbdl.
        storage: what it shares with its views and detached twins; None until something asks.
    """

    # Class attributes are the defaults: making a tensor sets only what differs.
    array: Any
    requires_grad: bool = False
    _grad: Tensor | None = None
    edge: Node | OutputEdge | None = None
    view_of: tuple[Tensor, tuple] | None = None
    view_time: int = 0
    storage: Storage | None = None
    dual: Dual | None = None
    batch: Batch | None = None
    borrowed: bool = False
    _inference: bool = False

    __array_priority__ = 1000  # NumPy arrays on the left leave binary operators to us

    def __init__(self, *data: Any, requires_grad: bool = False):
        if len(data) == 1 and hasattr(data[0], "flags"):  # an array
            self.array = data[0]
        else:
            from nbdl.ops.creation import constructed

            self.array = constructed("Tensor", data)
        if requires_grad:
            self.requires_grad_()

    # -------------------------------------------------------------------------------------- what it is
    @property
    def shape(self) -> Size:
        """Size of every axis."""
        return Size(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        """Type of the elements."""
        return self.array.dtype

    @property
    def device(self) -> Device:
        """Where the memory is."""
        return device_of(self.array)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.array.ndim

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.array.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.array.nbytes

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made it."""
        return self.edge is None

    @property
    def is_cuda(self) -> bool:
        """Whether it lives on a GPU."""
        return self.device.type == "cuda"

    @property
    def grad_fn(self) -> Node | None:
        """The node that made it."""
        from nbdl.autograd.tape import OutputEdge

        if self.view_of is not None:
            self.refresh_edge()
        return self.edge.node if type(self.edge) is OutputEdge else self.edge  # type: ignore[return-value]

    @property
    def output_nr(self) -> int:
        """Which output of ``grad_fn`` it is."""
        return getattr(self.edge, "index", 0)

    @property
    def data(self) -> Tensor:
        """The same memory without history; changes through it are not seen by the tape."""
        return Tensor(self.array) if self.batch is None else self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        rebindings.count += 1
        self.array = value.array

    def _get_grad(self) -> Tensor | None:
        if mode.recorder is not None and self.edge is None:
            mode.recorder.uses_gradient(self, resets=False)
        return self._grad

    def _set_grad(self, value: Tensor | None) -> None:
        if value is not None:
            self._check_grad(value)
        if mode.recorder is not None and self.edge is None:
            mode.recorder.uses_gradient(self, resets=True)
        self._grad = value

    def _check_grad(self, value: Any) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(
                "grad: assigned grad expected to be a Tensor or None but got grad of type "
                f"{type(value).__name__}"
            )
        if value is self:
            raise RuntimeError("grad: a tensor cannot be its own gradient")
        mine, given = self.array, value.array
        if given.dtype != mine.dtype:
            raise RuntimeError(
                f"grad: attempting to assign a gradient with dtype {given.dtype} to a tensor of dtype "
                f"{mine.dtype}"
            )
        if type(given) is not type(mine) or value.device != self.device:
            raise RuntimeError(
                f"grad: attempting to assign a gradient on {value.device} to a tensor on {self.device}"
            )
        if given.shape != mine.shape:
            raise RuntimeError(
                f"grad: attempting to assign a gradient of size {list(given.shape)} to a tensor of size "
                f"{list(mine.shape)}"
            )

    grad = property(
        _get_grad,
        _set_grad,
        lambda self: self._set_grad(None),
        "The gradient that ``backward`` accumulated, or None; one that is assigned must fit.",
    )

    def dim(self) -> int:
        """Number of axes."""
        return self.array.ndim

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one axis."""
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> int:
        """Number of elements."""
        return self.array.size

    def element_size(self) -> int:
        """Bytes of one element."""
        return self.array.itemsize

    def stride(self, dim: int | None = None) -> Any:
        """Steps between neighbours along the axes, in elements."""
        strides = tuple(s // self.array.itemsize for s in self.array.strides)
        return strides if dim is None else strides[dim]

    def data_ptr(self) -> int:
        """Address of the first element."""
        array = self.array
        return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr

    def is_floating_point(self) -> bool:
        """Whether the elements are floats."""
        from nbdl.formula.dtypes import is_floating

        return is_floating(self.array.dtype)

    def is_complex(self) -> bool:
        """Whether the elements are complex numbers."""
        return self.array.dtype.kind == "c"

    # -------------------------------------------------------------------------------------- gradients
    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set ``requires_grad`` in place.

        Raises:
            RuntimeError: the elements are neither floats nor complex numbers, the tensor is no leaf and would
                lose its gradient, or it was made in inference mode.
        """
        if requires_grad and not (self.is_floating_point() or self.array.dtype.kind == "c"):
            raise RuntimeError(
                "requires_grad_: only tensors of floating point and complex dtype can require gradients, got "
                f"{self.dtype}"
            )
        if not requires_grad and self.edge is not None:
            raise RuntimeError(
                "requires_grad_: you can only change requires_grad flags of leaf variables; use "
                "detach() for a tensor that is cut off from the graph"
            )
        if requires_grad and self._inference and not mode.inference:
            raise RuntimeError(
                "requires_grad_: setting requires_grad=True on an inference tensor outside inference_mode is "
                "not allowed; make a normal tensor of it with clone()"
            )
        self.requires_grad = requires_grad
        return self

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """Accumulate the gradient of this tensor into the ``grad`` of the leaves it was made of.

        Args:
            gradient: the gradient of a final scalar by this tensor; None if this is that scalar.
            retain_graph: keep the saved values for another pass; default: the value of ``create_graph``.
            create_graph: record the pass, for higher derivatives.
            inputs: only these leaves get a gradient; default: all.

        Raises:
            RuntimeError: as :func:`nbdl.autograd.backward`.
        """
        from nbdl.autograd.engine import backward

        backward(self, gradient, retain_graph, create_graph, inputs)

    def detach(self) -> Tensor:
        """The same memory as a leaf that needs no gradient."""
        tensor = Tensor(self.array)
        tensor.storage = self.shared_storage()
        if self.batch is not None:
            tensor.batch = self.batch.detached()
        return tensor

    def detach_(self) -> Tensor:
        """Cut this tensor off from the graph in place.

        Raises:
            RuntimeError: it is a view; views must stay connected to their base.
        """
        if self.view_of is not None:
            raise RuntimeError("detach_: can't detach views in-place; use detach()")
        self.edge, self.requires_grad = None, False
        return self

    # ---------------------------------------------------------------------------- sharing and changing memory
    def shared_storage(self) -> Storage:
        """The :class:`~nbdl.autograd.tape.Storage` that this tensor, its base and its views share."""
        from nbdl.autograd.tape import Storage

        if self.storage is None:
            owner = self if self.view_of is None else self.view_of[0]
            if owner.storage is None:
                owner.storage = Storage()
            self.storage = owner.storage
        return self.storage

    def mark_changed(self) -> None:
        """Note that the memory was changed in place: values saved before are stale."""
        from nbdl.autograd.tape import mark_changed

        mark_changed((self,))

    @property
    def _version(self) -> int:
        """How often the memory was changed in place."""
        return 0 if self.storage is None else self.storage.version

    def refresh_edge(self) -> None:
        """Connect a view to what its base has become, if the base was changed in place since."""
        base, primitives = self.view_of  # type: ignore[misc]
        storage = self.storage or base.storage
        if storage is None or storage.changed <= self.view_time or not (base.requires_grad or base.dual):
            return
        from nbdl.autograd.inplace import rebuilt_view

        view = rebuilt_view(base, primitives)
        self.edge, self.requires_grad, self.dual = view.edge, view.requires_grad, view.dual
        self.view_time = storage.changed

    # ------------------------------------------------------------------------------------------ as an object
    def __len__(self) -> int:
        if self.array.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self.array.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if self.array.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    # Comparison is elementwise, so tensors are hashed, and found in dicts, by identity.
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        from nbdl.autograd.printing import to_string

        if self.batch is not None:
            examples = f"examples={self.batch.level.size}, " if self.batch.is_batched else ""
            return f"BatchedTensor({examples}shape={tuple(self.shape)}, dtype={self.dtype})"
        before_reading(self, "the text")
        return to_string(self)

    def __format__(self, spec: str) -> str:
        if self.array.ndim == 0:
            return format(self.item(), spec)
        return object.__format__(self, spec)

    def __reversed__(self) -> Tensor:
        return self if self.array.ndim == 0 else self.flip(0)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self.edge is not None:
            raise RuntimeError(
                "only tensors created explicitly by the user (graph leaves) support deepcopy; detach() first"
            )
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(self.__dict__)
        twin.array = self.array.copy() if mode.recorder is None else _recorded_copy(self.array)
        twin.storage = twin.view_of = twin.hooks = None
        if self.grad is not None:
            twin._grad = self.grad.__deepcopy__(memo)
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        if mode.recorder is not None:
            mode.recorder.refuse("a tensor that is pickled", "use clone() or copy.deepcopy()")
        return _unpickle, self._parts()

    def __copy__(self) -> Tensor:
        return _unpickle(*self._parts())

    def _parts(self) -> tuple[type[Tensor], np.ndarray, bool]:
        """What a copy or a pickle is made of."""
        if self.edge is not None:
            raise RuntimeError("only graph leaves can be pickled; detach() first")
        return type(self), self.detach().cpu().array, self.requires_grad


def _recorded_copy(array: Any) -> Any:
    """The array in fresh memory, by an operation that a program repeats."""
    from nbdl.autograd.inplace import copied

    return copied(array)


def made(array: Any, requires_grad: bool = False) -> Tensor:
    """A tensor on an array that was just made of Python data; a recorder is told."""
    if mode.recorder is not None:
        mode.recorder.constant(array)
    tensor = Tensor(array, requires_grad=requires_grad)
    if mode.inference:
        tensor._inference = True
    return tensor


def _unpickle(kind: type[Tensor], array: np.ndarray, requires_grad: bool) -> Tensor:
    tensor = object.__new__(kind)
    tensor.array = array
    tensor.requires_grad = requires_grad
    return tensor
