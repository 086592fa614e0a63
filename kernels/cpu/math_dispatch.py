"""Functions of scalars that compiled code calls by one name for all dtypes.

A function is compiled by Numba once per dtype with fast-math off and inlined into the kernels that call it.
LLVM's fast-math flags belong to single instructions, so those of the function stay exact inside a kernel
that is compiled with fast-math on: compensated steps, signed zeros and NaN survive.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import as_dtype, from_dtype

from nbdl.kernels.cpu.frontend import CodeLibrary, compile_function, make_callable

# make(number) returns the implementation for a NumPy scalar type
Make = Callable[[Any], Callable]


def elementary(make: Make) -> Any:
    """Decorate ``make(real)``, which returns the function for real = numpy.float32 or numpy.float64.

    Compiled code calls the decorated name with scalars. The arithmetic is float32 if that is the widest
    floating dtype among the operands, and float64 otherwise, integers included. No branches remain in such
    a function after LLVM has turned its conditional expressions into selects, so a loop over it vectorises.
    """
    return _dispatched(make, lambda *operands: (common_real(operands),) * len(operands))


def elementary_double(make: Make) -> Any:
    """Like :func:`elementary`, for a function that is computed in float64 and rounded at the end."""
    return _rounded(make, _dispatched(make, lambda *operands: (types.float64,) * len(operands)))


def scalar_double(make: Make) -> Any:
    """Decorate ``make(real)`` for a float64 function with loops and branches, called instead of inlined."""
    return _dispatched(make, lambda *operands: (types.float64,) * len(operands), inlined=False)


def scalar(make: Make) -> Any:
    """Like :func:`scalar_double`, with the result rounded to float32 where that is the widest type."""
    return _rounded(make, scalar_double(make))


def arithmetic(make: Make) -> Any:
    """Decorate ``make(number)``, which returns the function for one NumPy floating or integer scalar type.

    Compiled code calls the decorated name with scalars; the type is the one that they promote to (a float
    beside integers keeps its width, bool counts as uint8), and the result has it too.
    """
    return _dispatched(make, lambda *operands: (common_number(operands),) * len(operands))


def by_operands(make: Make) -> Any:
    """Decorate ``make(number)`` for operands that keep their types; ``number`` is that of the last one."""
    return _dispatched(make, lambda *operands: tuple(types.unliteral(operand) for operand in operands))


def choice(make: Make) -> Any:
    """Like :func:`arithmetic` for a function whose first operand is a condition of any type."""

    def signature_of(condition: Any, *operands: Any) -> tuple:
        return (types.unliteral(condition), *(common_number(operands),) * len(operands))

    return _dispatched(make, signature_of)


def common_real(operands: tuple[Any, ...]) -> Any:
    """The Numba type that a floating function of ``operands`` is computed in."""
    single = types.float32 in operands and types.float64 not in operands
    return types.float32 if single else types.float64


def common_number(operands: tuple[Any, ...]) -> Any:
    """The Numba type that ``operands`` promote to."""
    if any(isinstance(operand, types.Float) for operand in operands):
        return common_real(operands)
    kind = np.result_type(*[as_dtype(types.unliteral(operand)) for operand in operands])
    return types.uint8 if kind == np.bool_ else from_dtype(kind)


def _rounded(make: Make, double: Any) -> Any:
    """The function ``double`` for float32 and float64 operands."""
    arity = len(inspect.signature(make(np.float64)).parameters)

    def make_rounded(real: Any) -> Callable:
        unary, binary = (lambda x: real(double(x))), (lambda x, y: real(double(x, y)))
        return unary if arity == 1 else binary

    return elementary(functools.update_wrapper(make_rounded, make))


def _dispatched(make: Make, signature_of: Callable[..., tuple], *, inlined: bool = True) -> Any:
    """An intrinsic that calls ``make(number)`` with operands cast to ``signature_of(*their types)``.

    ``number`` is the last type of that signature.
    """
    name = make.__name__
    compiled: dict[tuple, Any] = {}

    def compiled_for(*operands: Any) -> Any:
        signature = signature_of(*operands)
        if signature not in compiled:
            function = make(as_dtype(signature[-1]).type)
            library = CodeLibrary.new(name)
            compiled[signature] = compile_function(function, signature, None, library, (), inlined=inlined)
        return compiled[signature]

    parameters = inspect.signature(make(np.float64)).parameters
    return functools.update_wrapper(make_callable(name, parameters, compiled_for), make, updated=())
