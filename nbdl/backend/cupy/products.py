"""Matrix products on the GPU: cuBLASLt, which does what follows on the way, or CuPy's cuBLAS without it.

A bias, an activation, its derivative and the gradient of a bias are epilogues of the product beside them (see
:mod:`nbdl.backend.cupy.lt`). Where there is none, or no algorithm for it, they follow as steps of their own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.backend.cupy.libraries import cublaslt, plan_of, state
from nbdl.backend.cupy.lt import KINDS, Matrices, Plan
from nbdl.backend.cupy.placing import overlap
from nbdl.backend.numpy.linalg import LinearAlgebra, length_of_bits
from nbdl.backend.numpy.results import delivered
from nbdl.formula import Formula, dtypes
from nbdl.formula.activations import GELU_TANH, RELU

_ADD = Formula("add", lambda x, y: x + y, 2)
_IDENTITY = Formula("identity", lambda x: x, 1)
# Addresses are aligned to a power of two; of more than this cuBLASLt makes no use.
_ALIGNMENT = 256
# What it knows by name; its GELU is the approximation by tanh.
ACTIVATIONS = {"RELU": RELU, "GELU": GELU_TANH}
# Rows of what GELU is given begin at multiples of so many elements.
_GELU_ROWS = 8


class CupyProducts(LinearAlgebra):
    """Products; see :class:`~nbdl.backend.numpy.linalg.LinearAlgebra`."""

    xp: Any
    cast: Any

    def matmul(
        self, a: Any, b: Any, *, transpose_a: bool = False, transpose_b: bool = False, out: Any = None
    ) -> Any:
        """``a @ b``; see :meth:`~nbdl.backend.numpy.NumpyBackend.matmul`."""
        if transpose_a:
            a = a.swapaxes(-1, -2)
        if transpose_b:
            b = b.swapaxes(-1, -2)
        if min(a.ndim, b.ndim) == 1:
            result = self._product_with_vector(a, b, out)
        else:
            result = self._product(a, b, out)
        return self._cupy_product(a, b, out) if result is None else result

    def _product_with_vector(self, a: Any, b: Any, out: Any) -> Any:
        """:meth:`_product` where a is a row or b a column, which the result has no axis for."""
        left = a[None] if a.ndim == 1 else a
        right = b[:, None] if b.ndim == 1 else b
        every = slice(None)
        added = (..., *[None if x.ndim == 1 else every for x in (a, b)])
        taken = (..., *[0 if x.ndim == 1 else every for x in (a, b)])
        result = self._product(left, right, None if out is None else out[added])
        return result if result is None else result[taken] if out is None else out

    def linear(self, x: Any, weight: Any, *bias: Any, out: Any = None) -> Any:
        """``x @ weight.T + bias``; see :meth:`~nbdl.backend.numpy.NumpyBackend.linear`."""
        result = self._product(x, weight.T, out, _epilogue("", bias), *bias)
        if result is not None:
            return result
        result = self.matmul(x, weight.T, out=out)  # there may be an algorithm without a bias
        return self.pointwise(result, bias[0], formula=_ADD, out=result) if bias else result

    def linear_gradients(self, gradient: Any, *operands: Any, needs: int, out: Any = None) -> Any:
        """The gradients of :meth:`linear`; that of the bias on the way to that of the weight."""
        is_apart = not any(overlap(x, place) for x in (gradient, *operands) for place in out or ())
        places = iter((out if is_apart else None) or (None,) * needs.bit_count())
        of_input, of_weight, of_bias = (next(places) if needs & bit else None for bit in (1, 2, 4))
        rows, results = gradient.reshape((-1, gradient.shape[-1])), []
        if needs & 1:
            results.append(self.matmul(gradient, operands[0], out=of_input))
        x = operands[-1].reshape((-1, operands[-1].shape[-1])) if needs & 2 else None
        both = self._weight_gradients(rows, x, of_weight, of_bias) if needs & 6 == 6 else None
        if both is not None:
            results += both
        else:
            if needs & 2:
                results.append(self.matmul(rows, x, transpose_a=True, out=of_weight))
            if needs & 4:
                options: dict[str, Any] = {"kind": "sum", "axes": (0,), "keepdims": False, "out": of_bias}
                results.append(self.reduce(rows, formula=_IDENTITY, **options))
        return delivered(tuple(results), out)

    def activated_linear_gradients(
        self, gradient: Any, result: Any, *operands: Any, activation: Formula, needs: int, out: Any = None
    ) -> Any:
        """The gradient before the activation, then :meth:`linear_gradients` of it."""
        (term,) = activation.vjp(1).terms
        assert term is not None
        place, *places = out or (None,) * (1 + needs.bit_count())
        slope = self._target(place, gradient.shape, gradient.dtype, *operands)
        sources = [gradient if kind == "g" else result for kind, _ in term.sources]
        self.pointwise(*sources, formula=term.formula, out=slope)
        following = tuple(places) if out is not None else None
        found = self.linear_gradients(slope, *operands, needs=needs, out=following)
        return delivered((slope, *found), out)

    def _weight_gradients(self, gradient: Any, x: Any, of_weight: Any, of_bias: Any) -> Any:
        """gradient^T @ x, and the sums of the gradient's columns; None where they are two steps."""
        if cublaslt() is None:
            return None
        vector = self._target(of_bias, gradient.shape[1:], gradient.dtype, gradient, x)
        product = self._product(gradient.T, x, of_weight, "BGRADB", vector)
        return None if product is None else (product, delivered(vector, of_bias))

    def activated_linear(self, x: Any, weight: Any, *bias: Any, activation: Formula, out: Any = None) -> Any:
        """``activation(x @ weight.T + bias)``; a rectifier and GELU in the same call.

        What that makes of NaN is up to the library: NaN or 0.
        """
        kind = _activation(activation)
        if kind:
            result = self._product(x, weight.T, out, _epilogue(kind, bias), *bias)
            if result is not None:
                return result
        return self.pointwise(self.linear(x, weight, *bias), formula=activation, out=out)

    def activated_linear_aux(
        self, x: Any, weight: Any, *bias: Any, activation: Formula, out: Any = None
    ) -> tuple[Any, Any]:
        """:meth:`activated_linear`, and what its derivative reads, in one call."""
        result, aux = out or (None, None)
        kind, columns = _activation(activation), weight.shape[0]
        if kind:
            shape, dtype = (*x.shape[:-1], columns), x.dtype
            if kind == "RELU":
                shape, dtype = (math.prod(x.shape[:-1]), length_of_bits(columns)), np.dtype(np.uint8)
            place = self._target(aux, shape, dtype, x, weight, *bias)
            epilogue = _epilogue(f"{kind}_AUX", bias)
            y = self._product(x, weight.T, result, epilogue, bias[0] if bias else None, place)
            if y is not None:
                return y, delivered(place, aux)
        return super().activated_linear_aux(x, weight, *bias, activation=activation, out=out)

    def sloped_product(
        self, g: Any, weight: Any, source: Any, *aux: Any, activation: Formula, has_sum: bool, out: Any = None
    ) -> Any:
        """``g @ weight`` times the derivative of an activation, and the sums of its columns, in one call."""
        kind = _activation(activation)
        shape = (*g.shape[:-1], weight.shape[-1])
        if (kind and aux) or (kind == "GELU" and source.flags.c_contiguous and source.shape == shape):
            slope, total = (out if has_sum else (out, None)) if out is not None else (None, None)
            vector = self._target(total, shape[-1:], g.dtype, g, weight, source, *aux) if has_sum else None
            epilogue = f"D{kind}_BGRAD" if has_sum else f"D{kind}"
            result = self._product(g, weight, slope, epilogue, vector, aux[0] if aux else source)
            if result is not None:
                if not has_sum:
                    return result
                return result, delivered(vector, total)
        return super().sloped_product(
            g, weight, source, *aux, activation=activation, has_sum=has_sum, out=out
        )

    def _target(self, out: Any, shape: Any, dtype: np.dtype, *operands: Any) -> Any:
        """``out`` where a library can write to it at once, else a new array."""
        if out is None or not out.flags.c_contiguous or any(overlap(x, out) for x in operands):
            return self.xp.empty(shape, dtype)
        return out

    def _cupy_product(self, a: Any, b: Any, out: Any) -> Any:
        """By CuPy, bfloat16 in float32."""
        if dtypes.is_bfloat16(a.dtype):
            product = self.xp.matmul(self.cast(a, dtype=dtypes.FLOAT32), self.cast(b, dtype=dtypes.FLOAT32))
            return self.cast(product, dtype=dtypes.bfloat16(), out=out)
        if out is None:
            return self.xp.matmul(a, b)
        if out.flags.c_contiguous and not overlap(a, out) and not overlap(b, out):
            return self.xp.matmul(a, b, out=out)
        out[...] = self.xp.matmul(a, b)
        return out

    def _product(
        self, a: Any, b: Any, out: Any, epilogue: str = "DEFAULT", vector: Any = None, aux: Any = None
    ) -> Any:
        """``a b`` with an epilogue by cuBLASLt; None where it cannot compute it."""
        if min(a.ndim, b.ndim) < 2 or a.dtype != b.dtype or a.shape[-1] != b.shape[-2]:
            return None  # vectors, or what is an error
        kind = a.dtype.name
        if kind not in KINDS or not a.size or not b.size or not _suits(epilogue, a, b, vector, aux):
            return None
        library = cublaslt()
        if library is None:
            return None
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        shape = (*batch, a.shape[-2], b.shape[-1])
        if b.ndim == 2:
            left, right = a.reshape(-1, a.shape[-1]), b
        else:
            left, right = (
                self.xp.broadcast_to(x, (*batch, *x.shape[-2:])).reshape(-1, *x.shape[-2:]) for x in (a, b)
            )
        result = self._target(out, shape, a.dtype, a, b, *[x for x in (vector, aux) if x is not None])
        left, left_matrices = self._matrices(left)
        right, right_matrices = self._matrices(right)
        if epilogue == "BGRADB" and not left_matrices.is_transposed:
            return None  # the library sums along rows as they lie
        stream = self.xp.cuda.get_current_stream()
        flat = result.reshape(*left.shape[:-1], b.shape[-1])
        _, product = self._matrices(flat)
        alignments = tuple([x if x is None else _alignment(x) for x in (vector, aux)])
        key = (
            "product", kind, left_matrices, right_matrices, product, left.shape[:-2], epilogue, alignments,
            state.tf32, int(a.device.id),
        )  # fmt: skip
        plan = plan_of(self, key, stream, lambda: Plan(library, self.xp, key, vector, aux))
        if plan.algorithm is None:
            return None
        plan(left, right, flat, stream, vector, aux)
        return delivered(result, out)

    def _matrices(self, x: Any) -> tuple[Any, Matrices]:
        """An array of matrices, copied if need be, and how cuBLASLt sees it."""
        *_, rows, columns = x.shape
        item, alignment = x.itemsize, _alignment(x)
        across, along = (step // item for step in x.strides[-2:])
        distance = x.strides[0] // item if x.ndim == 3 else 0
        if (along == 1 or columns == 1) and (across >= columns or rows == 1):
            return x, Matrices(columns, rows, max(columns, across), False, distance, alignment)
        if (across == 1 or rows == 1) and along >= rows:
            return x, Matrices(rows, columns, along, True, distance, alignment)
        return self._matrices(self.xp.ascontiguousarray(x))


def _alignment(x: Any) -> int:
    return min(_ALIGNMENT, x.data.ptr & -x.data.ptr or _ALIGNMENT)


def _activation(formula: Formula) -> str:
    """What cuBLASLt calls it; nothing where it has no such epilogue, or is missing."""
    if cublaslt() is None:
        return ""
    return next((name for name, known in ACTIVATIONS.items() if known.outputs == formula.outputs), "")


def _epilogue(kind: str, bias: tuple[Any, ...]) -> str:
    """The name of an activation behind an optional bias."""
    return "_".join(filter(None, (kind, "BIAS" if bias else ""))) or "DEFAULT"


def _suits(epilogue: str, a: Any, b: Any, vector: Any, aux: Any) -> bool:
    """Whether what stands beside the operands is as the library asks for it."""
    if epilogue == "DEFAULT":
        return True
    length = a.shape[-2] if epilogue == "BGRADB" else b.shape[-1]
    if vector is not None and not (
        vector.dtype == b.dtype and vector.shape == (length,) and vector.flags.c_contiguous
    ):
        return False
    if (epilogue == "BGRADB" or epilogue.startswith("D")) and a.shape[-1] == 1:
        return False  # gradients are not computed of products of a row and a column
    return aux is None or aux.dtype == np.uint8 or aux.shape[-1] % _GELU_ROWS == 0
