"""Pointwise functions of PyTorch's and NumPy's names, every one a formula."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.ops.complex_numbers import complex_logaddexp, complex_sinc, modulus
from nbdl.ops.keywords import written
from nbdl.ops.pointwise import Pointwise, call
from nbdl.ops.type_rules import result_type

__all__ = [
    "abs", "absolute", "acos", "acosh", "add", "addcdiv", "addcmul", "arccos", "arccosh", "arcsin",
    "arcsinh", "arctan", "arctan2", "arctanh", "asin", "asinh", "atan", "atan2", "atanh", "bitwise_and",
    "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "cbrt", "ceil",
    "copysign", "cos", "cosh", "deg2rad", "digamma", "div", "divide", "eq", "erf", "erfc", "erfinv", "exp",
    "exp2", "expit", "expm1", "fill", "fix", "float_power", "floor", "floor_divide", "fmax", "fmin", "fmod",
    "frac", "ge", "greater", "greater_equal", "gt", "heaviside", "hypot", "isfinite", "isinf", "isnan",
    "isneginf", "isposinf", "le", "lerp", "less", "less_equal", "lgamma", "log", "log1p", "log2", "log10",
    "logaddexp", "logaddexp2", "logical_and", "logical_not", "logical_or", "logical_xor", "logit", "lt",
    "maximum", "minimum", "mul", "multiply", "ne", "neg", "negative", "nextafter", "not_equal", "polygamma",
    "positive", "pow", "rad2deg", "reciprocal", "relu", "remainder", "round", "rsqrt", "rsub", "sigmoid",
    "sign", "signbit", "sin", "sinc", "sinh", "sqrt", "square", "sub", "subtract", "tan", "tanh",
    "true_divide", "trunc", "where", "xlog1py", "xlogy",
]  # fmt: skip

_FORMULAS: dict[str, Formula] = {}


def formula_of(name: str) -> Formula:
    """The formula that applies one function of the vocabulary."""
    formula = _FORMULAS.get(name)
    if formula is None:
        function = f.FUNCTIONS[name]
        formula = _FORMULAS[name] = Formula(name, function, function.arity)
    return formula


def _unary(name: str, doc: str) -> Callable[[Any], Tensor]:
    """The operation that applies a function of one operand of the vocabulary."""
    formula = formula_of(name)
    plain = Pointwise.of(formula, 0)

    def operation(input: Any, *, out: Tensor | None = None) -> Tensor:
        result = apply(plain, input) if isinstance(input, Tensor) else call(formula, input)
        return result if out is None else written(name, result, out, (input,))

    return _described(operation, name, doc, plain)


def _binary(name: str, doc: str) -> Callable[[Any, Any], Tensor]:
    """The operation that applies a function of two operands of the vocabulary."""
    formula = formula_of(name)
    plain = Pointwise.of(formula, 0)

    def operation(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
        both = isinstance(input, Tensor) and isinstance(other, Tensor)
        result = apply(plain, input, other) if both else call(formula, input, other)
        return result if out is None else written(name, result, out, (input, other))

    return _described(operation, name, doc, plain)


def _described(operation: Any, name: str, doc: str, plain: Pointwise) -> Any:
    """``operation`` with a name, a docstring, and the primitive that operators run at once on two tensors."""
    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    operation.primitive = plain
    return operation


exp = _unary("exp", "e to the power x.")
exp2 = _unary("exp2", "2 to the power x.")
expm1 = _unary("expm1", "exp(x) - 1, accurate near 0.")
log = _unary("log", "Natural logarithm.")
log2 = _unary("log2", "Logarithm to base 2.")
log10 = _unary("log10", "Logarithm to base 10.")
log1p = _unary("log1p", "log(1 + x), accurate near 0.")
sqrt = _unary("sqrt", "Square root.")
rsqrt = _unary("rsqrt", "1 / sqrt(x).")
cbrt = _unary("cbrt", "Cube root.")
square = _unary("square", "x * x.")
reciprocal = _unary("reciprocal", "1 / x.")
negative = neg = _unary("negative", "-x.")
_real_abs = _unary("abs", "Absolute value; slope 0 at 0.")
sign = _unary("sign", "-1, 0 or 1.")
floor = _unary("floor", "The largest integer not above x.")
ceil = _unary("ceil", "The smallest integer not below x.")
trunc = fix = _unary("trunc", "The integer part, towards 0.")
sin = _unary("sin", "Sine of an angle in radians.")
cos = _unary("cos", "Cosine of an angle in radians.")
tan = _unary("tan", "Tangent of an angle in radians.")
asin = arcsin = _unary("asin", "Inverse sine, in radians.")
acos = arccos = _unary("acos", "Inverse cosine, in radians.")
atan = arctan = _unary("atan", "Inverse tangent, in radians.")
sinh = _unary("sinh", "Hyperbolic sine.")
cosh = _unary("cosh", "Hyperbolic cosine.")
tanh = _unary("tanh", "Hyperbolic tangent.")
asinh = arcsinh = _unary("asinh", "Inverse hyperbolic sine.")
acosh = arccosh = _unary("acosh", "Inverse hyperbolic cosine.")
atanh = arctanh = _unary("atanh", "Inverse hyperbolic tangent.")
deg2rad = _unary("deg2rad", "Degrees to radians.")
rad2deg = _unary("rad2deg", "Radians to degrees.")
_real_sinc = _unary("sinc", "sin(pi x) / (pi x), 1 at 0.")
erf = _unary("erf", "The error function.")
erfc = _unary("erfc", "1 - erf(x), accurate for large x.")
erfinv = _unary("erfinv", "Inverse of the error function.")
lgamma = _unary("lgamma", "Logarithm of the absolute value of the gamma function.")
digamma = _unary("digamma", "Derivative of lgamma.")
sigmoid = expit = _unary("expit", "1 / (1 + exp(-x)).")
_logit = _unary("logit", "log(x / (1 - x)).")
relu = _unary("relu", "max(x, 0); slope 0 at 0.")
signbit = _unary("signbit", "Whether the sign bit is set (-0.0 and NaN with a sign too).")
isnan = _unary("isnan", "Whether x is NaN.")
isinf = _unary("isinf", "Whether x is infinite.")
isfinite = _unary("isfinite", "Whether x is neither infinite nor NaN.")
logical_not = _unary("logical_not", "Whether x is 0.")
bitwise_not = _unary("bitwise_not", "All bits flipped.")

multiply = mul = _binary("multiply", "x * y.")
true_divide = _binary("divide", "x / y, in floats.")
floor_divide = _binary("floor_divide", "floor(x / y); 0 for integers divided by 0.")
remainder = _binary("remainder", "x - y * floor(x / y): the sign of y.")
fmod = _binary("fmod", "x - y * trunc(x / y): the sign of x.")
atan2 = arctan2 = _binary("atan2", "The angle of the point (y, x), called as atan2(y, x).")
hypot = _binary("hypot", "sqrt(x^2 + y^2) without overflow.")
_real_logaddexp = _binary("logaddexp", "log(exp(x) + exp(y)) without overflow.")
logaddexp2 = _binary("logaddexp2", "log2(2^x + 2^y) without overflow.")
xlogy = _binary("xlogy", "x * log(y), 0 where x is 0.")
xlog1py = _binary("xlog1py", "x * log1p(y), 0 where x is 0.")
copysign = _binary("copysign", "The absolute value of x with the sign of y.")
nextafter = _binary("nextafter", "The next float after x towards y.")
heaviside = _binary("heaviside", "0 for x < 0, 1 for x > 0, the second operand at 0.")
maximum = _binary("maximum", "The larger one; NaN wins; half the gradient each at a tie.")
minimum = _binary("minimum", "The smaller one; NaN wins; half the gradient each at a tie.")
fmax = _binary("fmax", "The larger one; NaN loses.")
fmin = _binary("fmin", "The smaller one; NaN loses.")
eq = _binary("equal", "x == y.")
ne = not_equal = _binary("not_equal", "x != y.")
lt = less = _binary("less", "x < y.")
le = less_equal = _binary("less_equal", "x <= y.")
gt = greater = _binary("greater", "x > y.")
ge = greater_equal = _binary("greater_equal", "x >= y.")
logical_and = _binary("logical_and", "Whether both are not 0.")
logical_or = _binary("logical_or", "Whether one is not 0.")
logical_xor = _binary("logical_xor", "Whether exactly one is not 0.")
bitwise_and = _binary("bitwise_and", "x & y.")
bitwise_or = _binary("bitwise_or", "x | y.")
bitwise_xor = _binary("bitwise_xor", "x ^ y.")
bitwise_left_shift = _binary("left_shift", "x << y.")
bitwise_right_shift = _binary("right_shift", "x >> y.")


def abs(input: Any) -> Tensor:
    """Absolute value; slope 0 at 0. Of complex numbers the modulus, a real tensor."""
    return modulus(input) if isinstance(input, Tensor) and input.is_complex() else _real_abs(input)


absolute = abs


def sinc(input: Any, *, out: Tensor | None = None) -> Tensor:
    """sin(pi x) / (pi x), 1 at 0."""
    result = complex_sinc(input) if _is_complex(input) else _real_sinc(input)
    return result if out is None else written("sinc", result, out, (input,))


def logaddexp(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """log(exp(x) + exp(y)) without overflow."""
    is_complex = _is_complex(input) or _is_complex(other)
    result = complex_logaddexp(input, other) if is_complex else _real_logaddexp(input, other)
    return result if out is None else written("logaddexp", result, out, (input, other))


_POW = formula_of("pow")
_POWERS = {n: Formula("pow", lambda x, n=n: x**n, 1) for n in (2, 3, -1)}  # which are products or a quotient


def pow(input: Any, exponent: Any, *, out: Tensor | None = None) -> Tensor:
    """``input`` to the power ``exponent``."""
    if isinstance(exponent, Tensor) and (_is_complex(exponent) or _is_complex(input)):
        result = _complex_power(input, exponent)
    elif type(exponent) in (int, float) and exponent in _POWERS and _is_real(input):
        result = call(_POWERS[exponent], input)
    else:
        result = call(_POW, input, exponent)
    return result if out is None else written("pow", result, out, (input, exponent))


def _is_real(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _is_complex(value: Any) -> bool:
    return value.is_complex() if isinstance(value, Tensor) else np.iscomplexobj(value)


def _complex_power(input: Any, exponent: Tensor) -> Tensor:
    """exp(exponent * log(input)), whose derivative by the exponent asks for no order; 0 by itself."""
    dtype = result_type(input, exponent)
    base = input.to(dtype) if isinstance(input, Tensor) else exponent.new_tensor(input, dtype=dtype)
    is_zero = eq(base, 0)
    power = exp(exponent * log(where(is_zero, 1, base)))
    return where(is_zero, call(_POW, base, exponent.detach()), power)


def float_power(input: Any, exponent: Any, *, out: Tensor | None = None) -> Tensor:
    """``input`` to the power ``exponent`` in float64, or complex128."""
    is_complex = result_type(input, exponent).kind == "c"
    wide = np.dtype(np.complex128 if is_complex else np.float64)
    base, power = (x.to(wide) if isinstance(x, Tensor) else x for x in (input, exponent))
    return pow(base, power, out=out)


_add, _subtract, _divide = formula_of("add"), formula_of("subtract"), formula_of("divide")
SCALED_ADD = Formula("add", lambda x, y, alpha: x + alpha * y, 3)
SCALED_SUBTRACT = Formula("subtract", lambda x, y, alpha: x - alpha * y, 3)
_ADD, _SUBTRACT = Pointwise.of(_add, 0), Pointwise.of(_subtract, 0)


def add(input: Any, other: Any, *, alpha: float = 1, out: Tensor | None = None) -> Tensor:
    """``input + alpha * other``."""
    if alpha != 1:
        result = call(SCALED_ADD, input, other, alpha)
    elif isinstance(input, Tensor) and isinstance(other, Tensor):
        result = apply(_ADD, input, other)
    else:
        result = call(_add, input, other)
    return result if out is None else written("add", result, out, (input, other))


def subtract(input: Any, other: Any, *, alpha: float = 1, out: Tensor | None = None) -> Tensor:
    """``input - alpha * other``.

    Raises:
        RuntimeError: both are bools, or the shapes do not broadcast.
    """
    if alpha != 1:
        result = call(SCALED_SUBTRACT, input, other, alpha)
    elif isinstance(input, Tensor) and isinstance(other, Tensor):
        result = apply(_SUBTRACT, input, other)
    else:
        result = call(_subtract, input, other)
    return result if out is None else written("subtract", result, out, (input, other))


sub = subtract
add.primitive, subtract.primitive = _ADD, _SUBTRACT  # type: ignore[attr-defined]


def divide(input: Any, other: Any, *, rounding_mode: str | None = None, out: Tensor | None = None) -> Tensor:
    """``input / other``, rounded to ``floor`` or ``trunc`` if asked.

    Raises:
        ValueError: another rounding mode.
    """
    if out is not None:
        return written("divide", divide(input, other, rounding_mode=rounding_mode), out, (input, other))
    if rounding_mode is None:
        return call(_divide, input, other)
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode == "trunc":
        integers = result_type(input, other).kind in "biu"
        return call(_TRUNC_DIVIDE_INTEGERS if integers else _TRUNC_DIVIDE, input, other)
    raise ValueError(f"divide: rounding_mode must be None, 'floor' or 'trunc', got {rounding_mode!r}")


div = divide
divide.primitive = Pointwise.of(_divide, 0)  # type: ignore[attr-defined]
_TRUNC_DIVIDE = Formula("trunc_divide", lambda x, y: f.trunc(x / y), 2)
# The remainder with the dividend's sign is subtracted first, so that the division is exact.
_TRUNC_DIVIDE_INTEGERS = Formula("trunc_divide", lambda x, y: f.floor_divide(x - f.fmod(x, y), y), 2)


_ROUND_SCALED = Formula("round", lambda x, scale: f.rint(x * scale) / scale, 2)


def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """To the nearest integer (or multiple of 10^-decimals), halves to even."""
    if decimals:
        return call(_ROUND_SCALED, input, 10.0**decimals)
    return call(formula_of("rint"), input)


_LOGIT_CLAMPED = Formula("logit", lambda x, eps: f.logit(f.clip(x, eps, 1 - eps)), 2)


def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """log(x / (1 - x)), x being clamped to [eps, 1 - eps] if eps is given."""
    return _logit(input) if eps is None else call(_LOGIT_CLAMPED, input, eps)


def frac(input: Tensor) -> Tensor:
    """The fractional part, with the sign of x."""
    return call(_FRAC, input)


_FRAC = Formula("frac", lambda x: x - f.trunc(x), 1)


def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """``input`` where ``condition`` holds, ``other`` elsewhere.

    Args:
        condition: bool tensor.
        input: tensor or number.
        other: tensor or number.

    Returns:
        A tensor; with the condition alone a tuple of index tensors, one an axis: the places where it holds.

    Raises:
        RuntimeError: the condition is not of dtype bool (uint8 is taken, with a warning).

    Example:
        >>> import nbdl
        >>> x = nbdl.tensor([1.0, -2.0, 3.0])
        >>> nbdl.where(x > 0, x, 0.0)
        tensor([1., 0., 3.])
    """
    if input is None and other is None:
        from nbdl.ops.indexing import nonzero

        return nonzero(condition, as_tuple=True)
    kind = getattr(condition, "dtype", None)
    if kind is not None and kind != np.bool_:
        if kind != np.uint8:
            raise RuntimeError(
                f"where: expected condition to be a boolean tensor, but got a tensor with dtype {kind}"
            )
        warnings.warn("where: a uint8 condition is deprecated; use a boolean one", stacklevel=2)
    return call(formula_of("where"), condition, input, other)


def positive(input: Tensor) -> Tensor:
    """The tensor itself.

    Raises:
        RuntimeError: it is of bools.
    """
    if input.dtype.kind == "b":
        raise RuntimeError("positive: not implemented for bool tensors")
    return input


def rsub(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """``other - alpha * input``."""
    return subtract(other, input, alpha=alpha)


def fill(input: Tensor, value: Any) -> Tensor:
    """A tensor like ``input`` with all elements ``value``."""
    return input.clone().fill_(value)


_ISPOSINF = Formula("isposinf", lambda x: f.logical_and(f.isinf(x), x > 0), 1)
_ISNEGINF = Formula("isneginf", lambda x: f.logical_and(f.isinf(x), x < 0), 1)


def isposinf(input: Tensor) -> Tensor:
    """Whether x is +infinity."""
    return call(_ISPOSINF, input)


def isneginf(input: Tensor) -> Tensor:
    """Whether x is -infinity."""
    return call(_ISNEGINF, input)


LERP = Formula("lerp", lambda start, end, weight: start + weight * (end - start), 3)


def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """``input + weight * (end - input)``."""
    return call(LERP, input, end, weight)


ADDCMUL = Formula("addcmul", lambda x, a, b, value: x + value * (a * b), 4)
ADDCDIV = Formula("addcdiv", lambda x, a, b, value: x + value * (a / b), 4)


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """``input + value * tensor1 * tensor2``."""
    return call(ADDCMUL, input, tensor1, tensor2, value)


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """``input + value * tensor1 / tensor2``."""
    return call(ADDCDIV, input, tensor1, tensor2, value)


_POLYGAMMA = formula_of("polygamma")


def polygamma(n: int, input: Tensor) -> Tensor:
    """The n-th derivative of digamma.

    Raises:
        ValueError: n is negative.
    """
    if n < 0:
        raise ValueError(f"polygamma: n must not be negative, got {n}")
    return digamma(input) if n == 0 else call(_POLYGAMMA, n, input)
