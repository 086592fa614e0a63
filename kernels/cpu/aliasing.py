"""Loops over rows that do not overlap, for which the vectoriser needs no checks at run time.

LLVM gives up where a loop would need more than a few such checks, as one with many operands does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

from nbdl.kernels.cpu.frontend import CodeLibrary, call_compiled, compile_function
from nbdl.kernels.cpu.memory import make_array

__all__ = ["Block", "over_blocks"]

Block = tuple[str, int]
"""The name of an address, and the number of the block of n elements from there."""


def over_blocks(
    function: Callable[..., None],
    blocks: Sequence[Block],
    addresses: Sequence[str],
    dtype: Any,
    fastmath: Collection[str],
) -> Any:
    """A function of arrays that do not overlap, for kernels to call with addresses.

    Args:
        function: Takes 1-D contiguous arrays of `dtype`.
        blocks: Where each of them is.
        addresses: Names of the addresses.
        dtype: Of all arrays.
        fastmath: LLVM's relaxations.

    Returns:
        An intrinsic of the addresses and n, all int64.
    """
    dtype = np.dtype(dtype)
    array = types.Array(from_dtype(dtype), 1, "C")
    library = CodeLibrary.new(function.__name__)
    arrays = (array,) * len(blocks)
    compiled = compile_function(function, arrays, types.void, library, fastmath, noalias=True)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        *bases, n = args
        operands = []
        for name, block in blocks:
            offset = builder.mul(n, ir.IntType(64)(block * dtype.itemsize))
            address = builder.add(bases[addresses.index(name)], offset)
            operands.append(make_array(context, builder, array, address, n))
        call_compiled(context, builder, compiled, operands)
        return context.get_dummy_value()

    def typer(typing_context: Any, *words: Any) -> Any:
        return types.void(*[types.int64] * (len(addresses) + 1)), codegen

    # Numba reads the arity off the signature.
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = ("typing_context", *addresses, "n")
    typer.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in names])  # type: ignore[attr-defined]
    return intrinsic(typer)
