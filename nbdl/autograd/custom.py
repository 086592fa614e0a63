"""custom_op: an operation with kernels of one's own for NumPy, Numba and CUDA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes
from nbdl.ops.pointwise import operand
from nbdl.ops.primitive import EVERYTHING, Primitive, check_broadcast

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node

Kernel = Callable[..., Any]
Spec = tuple[tuple[int, ...], np.dtype]


def custom_op(
    name: str,
    *,
    numpy: Kernel,
    numba: Kernel | None = None,
    cupy: Kernel | None = None,
    shape: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    saves_inputs: Sequence[int] | None = None,
    saves_outputs: bool = False,
) -> CustomOp:
    """Make a differentiable operation of kernels.

    All kernels have one signature: ``kernel(*inputs, *outputs, **params)`` writes into ``outputs``, which
    have the shapes and dtypes that ``shape`` says. Inputs are contiguous (row-major). What a kernel returns
    is ignored.

    Args:
        name: what errors and graphs call it.
        numpy: the kernel for NumPy arrays; it specifies the others.
        numba: the kernel for the Numba backend, see :func:`nbdl.autograd.numba_kernel`; default: ``numpy``.
        cupy: the kernel for CuPy arrays, see :func:`nbdl.autograd.cuda_kernel`.
        shape: ``shape(*inputs, **params)`` looks at ``x.shape`` and ``x.dtype`` of its arguments only, raises
            an error if they do not fit, and returns (shape, dtype) of the output, or a list of such pairs for
            several outputs; default: one output with the broadcast shape and the promoted dtype.
        vjp: ``vjp(node, *gradients, **params)`` returns the gradient of every input (None: zero), a tuple if
            there are several, written with tensor operations, so that second derivatives need no more.
            ``node`` gives ``node.input(k)``, ``node.output(k)``, ``node.needs_grad(k)``. A gradient is None
            where an output was not used.
        jvp: ``jvp(inputs, outputs, tangents, **params)`` returns the tangent of every output; a tangent is
            None if it is zero.
        saves_inputs: which inputs ``vjp`` reads; default: all.
        saves_outputs: whether ``vjp`` reads the outputs.

    Returns:
        A function of tensors and, by keyword, of hashable parameters.

    Raises:
        TypeError: a kernel or rule is not callable.

    Example:
        >>> import nbdl
        >>> @nbdl.autograd.numba_kernel
        ... def cube_kernel(x, out):
        ...     source, target = x.reshape(-1), out.reshape(-1)
        ...     for i in range(source.size):
        ...         target[i] = source[i] * source[i] * source[i]
        >>> cube = nbdl.autograd.custom_op(
        ...     "cube",
        ...     numpy=lambda x, out: np.power(x, 3, out=out),
        ...     numba=cube_kernel,
        ...     vjp=lambda node, gradient: 3 * node.input(0) ** 2 * gradient,
        ...     jvp=lambda inputs, outputs, tangents: 3 * inputs[0] ** 2 * tangents[0],
        ... )
        >>> x = nbdl.tensor([1.0, 2.0], requires_grad=True)
        >>> cube(x).sum().backward()
        >>> x.grad
        tensor([ 3., 12.])
    """
    kernels = {"numpy": numpy, "numba": numba, "cupy": cupy}
    for key, value in {**kernels, "shape": shape, "vjp": vjp, "jvp": jvp}.items():
        if not callable(value) and (value is not None or key == "numpy"):
            raise TypeError(f"custom_op: {key} must be a function, got {type(value).__name__}")
    saved = EVERYTHING if saves_inputs is None else frozenset(saves_inputs)
    return CustomOp(
        name,
        {key: kernel for key, kernel in kernels.items() if kernel is not None},
        shape,
        vjp,
        jvp,
        saved,
        saves_outputs,
    )


class CustomOp:
    """What :func:`custom_op` makes."""

    def __init__(
        self,
        name: str,
        kernels: dict[str, Kernel],
        shape: Callable[..., Any] | None,
        vjp: Callable[..., Any] | None,
        jvp: Callable[..., Any] | None,
        saved: frozenset[int],
        saves_outputs: bool,
    ):
        self.name, self.kernels, self.shape, self.vjp, self.jvp = name, kernels, shape, vjp, jvp
        self.saved, self.saves_outputs = saved, saves_outputs

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        """Run it, and record it."""
        tensors = [operand(self.name, k, value)[0] for k, value in enumerate(inputs, 1)]
        try:
            primitive = _CustomPrimitive.of(self, tuple(sorted(params.items())))
        except TypeError:
            raise TypeError(f"{self.name}: parameters must be hashable, got {params!r}") from None
        return apply(primitive, *tensors)

    def kernel(self, backend: str) -> Kernel:
        """The kernel for a backend; the Numba backend takes NumPy's where it has none.

        Raises:
            RuntimeError: there is none.
        """
        found = self.kernels.get(backend) or (self.kernels["numpy"] if backend == "numba" else None)
        if found is None:
            raise RuntimeError(
                f"{self.name}: has no kernel for the backend {backend}, only for {', '.join(self.kernels)}"
            )
        return found

    def specs(self, inputs: Sequence[Any], params: dict[str, Any]) -> tuple[list[Spec], bool]:
        """(shape, dtype) of every output, and whether ``shape`` gave a single one.

        Raises:
            TypeError: ``shape`` returned something else.
        """
        if self.shape is None:
            ranks = dtypes.priorities(inputs, 0)
            dtype = dtypes.result_dtype(tuple(x.dtype for x in inputs), ranks)
            return [(check_broadcast(self.name, inputs), dtype)], True
        found = self.shape(*inputs, **params)
        single = isinstance(found, tuple)
        try:
            return [
                (tuple(shape), np.dtype(dtype)) for shape, dtype in ([found] if single else found)
            ], single
        except (TypeError, ValueError):
            raise TypeError(
                f"{self.name}: shape must return (shape, dtype), or a list of such pairs; got {found!r}"
            ) from None

    def __repr__(self) -> str:
        return f"<custom op {self.name}: {', '.join(self.kernels)}>"


class _CustomPrimitive(Primitive):
    """A custom operation with its parameters."""

    name = "custom_op"

    def __init__(self, op: CustomOp, static: tuple[tuple[str, Any], ...]):
        super().__init__(op=op, static=static)
        self.op, self.static = op, dict(static)
        self.label = op.name

    def check(self, *arrays: Any) -> None:
        """The shape rule raises its own errors."""
        self.op.specs(arrays, self.static)

    def saves(self, needs: int) -> tuple[frozenset[int] | None, bool]:
        """What the operation was declared to save."""
        return self.op.saved or None, self.op.saves_outputs

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The given rule, its result counted."""
        if self.op.vjp is None:
            raise RuntimeError(f"{self.label}: was made without vjp, so it has no gradient")
        return self._counted("vjp", self.op.vjp(node, *gradients, **self.static), len(node.edges))

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The given rule, its result counted."""
        if self.op.jvp is None:
            raise RuntimeError(f"{self.label}: was made without jvp, so it has no derivative in forward mode")
        return self._counted("jvp", self.op.jvp(inputs, outputs, tangents, **self.static), len(outputs))

    def _counted(self, rule: str, found: Any, expected: int) -> Sequence[Tensor | None]:
        results = tuple(found) if isinstance(found, (tuple, list)) else (found,)
        if len(results) != expected:
            raise RuntimeError(f"{self.label}: {rule} returned {len(results)} results (expected {expected})")
        return results
