"""Matrix products on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.backend.numpy.precision import narrowed, widened
from nbdl.backend.numpy.results import delivered
from nbdl.formula import IDENTITY, Formula, dtypes
from nbdl.formula.activations import RELU


class LinearAlgebra:
    """Matrix primitives."""

    xp: Any
    # Of the classes Elementwise and Reduction.
    pointwise: Callable[..., Any]
    reduce: Callable[..., Any]

    def matmul(
        self, a: Any, b: Any, *, transpose_a: bool = False, transpose_b: bool = False, out: Any = None
    ) -> Any:
        """``a @ b``; batches broadcast, a vector is a row on the left and a column on the right.

        Args:
            a: (..., m, k) or (k,); (..., k, m) if transposed.
            b: (..., k, n) or (k,); (..., n, k) if transposed.
            transpose_a: take the last two axes of ``a`` exchanged.
            transpose_b: likewise.
            out: receives the result.
        """
        if a.dtype != b.dtype or a.dtype.kind == "b":
            raise TypeError(f"matmul: operands have dtypes {a.dtype} and {b.dtype}")
        if transpose_a:
            a = a.swapaxes(-1, -2)
        if transpose_b:
            b = b.swapaxes(-1, -2)
        with np.errstate(all="ignore"):
            if out is None or dtypes.arithmetic_dtype(a.dtype) != a.dtype:
                product = np.asarray(np.matmul(widened(a), widened(b)))
                return delivered(narrowed(product, a.dtype), out)
            return np.matmul(a, b, out=out)

    def linear(self, x: Any, weight: Any, *bias: Any, out: Any = None) -> Any:
        """``x @ weight.T + bias``.

        Args:
            x: (..., in).
            weight: (out, in).
            bias: (out,) or nothing.
            out: (..., out), receives the result.
        """
        result = self.matmul(x, weight.T, out=out)
        if bias:
            result += bias[0]
        return result

    def linear_gradients(self, gradient: Any, *operands: Any, needs: int, out: Any = None) -> Any:
        """The gradients of ``linear``'s operands, of those that are needed.

        Args:
            gradient: (..., out), of the result.
            operands: weight (out, in) if the input's gradient is needed, x (..., in) if the weight's is.
            needs: bit 0 is set where the gradient of x is needed, bit 1: weight, bit 2: bias.
            out: receives the results.
        """
        remaining = iter(operands)
        results, rows = [], gradient.reshape((-1, gradient.shape[-1]))
        if needs & 1:
            results.append(self.matmul(gradient, next(remaining)))
        if needs & 2:
            x = next(remaining)
            results.append(self.matmul(rows, x.reshape((-1, x.shape[-1])), transpose_a=True))
        if needs & 4:
            results.append(self.reduce(rows, formula=IDENTITY, kind="sum", axes=(0,), keepdims=False))
        return delivered(tuple(results), out)

    def activated_linear(self, x: Any, weight: Any, *bias: Any, activation: Formula, out: Any = None) -> Any:
        """``activation(linear(x, weight, *bias))``.

        Args:
            x: (..., in).
            weight: (out, in).
            bias: (out,) or nothing.
            activation: a formula of one operand.
            out: (..., out), receives the result.
        """
        return self.pointwise(self.linear(x, weight, *bias), formula=activation, out=out)

    def activated_linear_gradients(
        self, gradient: Any, result: Any, *operands: Any, activation: Formula, needs: int, out: Any = None
    ) -> Any:
        """The gradient before the activation, then what :meth:`linear_gradients` makes of it.

        Args:
            gradient: (rows, out), of the result.
            result: (rows, out).
            operands: as in :meth:`linear_gradients`.
            activation: a formula of one operand whose derivative is a function of its value.
            needs: as in :meth:`linear_gradients`.
            out: receives the results.
        """
        (term,) = activation.vjp(1).terms
        assert term is not None
        sources = [gradient if kind == "g" else result for kind, _ in term.sources]
        slope = self.pointwise(*sources, formula=term.formula)
        return delivered((slope, *self.linear_gradients(slope, *operands, needs=needs)), out)

    def activated_linear_aux(
        self, x: Any, weight: Any, *bias: Any, activation: Formula, out: Any = None
    ) -> tuple[Any, Any]:
        """:meth:`activated_linear`, and what its derivative reads: bits for a rectifier, else its operand.

        Args:
            x: (..., in).
            weight: (out, in).
            bias: (out,) or nothing.
            activation: a formula of one operand.
            out: receives the results, (..., out), and for a rectifier (rows, :func:`length_of_bits`) uint8.
        """
        layer = self.linear(x, weight, *bias)
        result = self.pointwise(layer, formula=activation)
        aux = self._bits(result > 0) if activation.outputs == RELU.outputs else layer
        return delivered((result, aux), out)

    def _bits(self, flags: Any) -> Any:
        """Rows of bools as rows of bits, the first one lowest, filled up with zeros."""
        rows = flags.reshape(-1, flags.shape[-1])
        padded = self.xp.zeros((rows.shape[0], 8 * length_of_bits(rows.shape[1])), dtypes.BOOL)
        padded[:, : rows.shape[1]] = rows
        return self.xp.packbits(padded.reshape(-1), bitorder="little").reshape(rows.shape[0], -1)

    def sloped_product(
        self, g: Any, weight: Any, source: Any, *aux: Any, activation: Formula, has_sum: bool, out: Any = None
    ) -> Any:
        """``g @ weight`` times the derivative of an activation, which is the gradient before it.

        Args:
            g: (..., m), the gradient of the layer that follows.
            weight: (m, n), of that layer.
            source: (..., n), what the derivative is a function of: the activation's result or its operand.
            aux: for a rectifier, the bits of :meth:`activated_linear_aux`, which say the same.
            activation: a formula of one operand.
            has_sum: also return the sums over all rows, the gradient of a bias.
            out: receives the results.
        """
        (term,) = activation.vjp(1).terms
        assert term is not None
        product = self.matmul(g, weight)
        operands = [product if kind == "g" else source for kind, _ in term.sources]
        slope = self.pointwise(*operands, formula=term.formula)
        if not has_sum:
            return delivered(slope, out)
        rows = slope.reshape(-1, slope.shape[-1])
        return delivered(
            (slope, self.reduce(rows, formula=IDENTITY, kind="sum", axes=(0,), keepdims=False)), out
        )


def length_of_bits(n: int) -> int:
    """Bytes of a row of bits for ``n`` elements: rows begin at multiples of 128 bits."""
    return -(-n // 128) * 16
