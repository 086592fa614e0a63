"""The vocabulary of formulas: every elementary function with its derivative beside it.

An entry says how many operands a function takes, what it does to dtypes (``kind``) and its partial
derivatives as expressions of the result ``y`` and the operands. How a backend computes it is a matter of the
printers: NumPy code calls :mod:`nbdl.formula.numpy_functions`, Numba code ``nbdl.kernels.cpu.math``, CUDA
code ``kernels/cuda/math.cuh``, all under the name given here.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable

from nbdl.formula.expr import Expr, Number, const, intern, is_const, lift

Partial = Callable[..., "Expr | Number"]

FUNCTIONS: dict[str, Function] = {}

# What a function does to dtypes:
#   same   the promoted dtype of its operands (arithmetic)
#   float  integers and bools become the default floating dtype (exp, true division)
#   bool   a truth value of numbers (comparisons, isnan)
#   logic  a truth value of truth values: operands are taken as x != 0
#   bits   integers and bools only (bitwise operations, shifts)
KINDS = ("same", "float", "bool", "logic", "bits")


class Function:
    """An elementary function of scalars; calling it builds an expression.

    Args:
        name: its name in all backends.
        arity: number of operands.
        kind: what it does to dtypes, one of :data:`KINDS`.
        partials: one per operand, called as ``partial(y, *operands)``; None for a derivative that is zero
            wherever it exists. An empty tuple means that all are zero.
        fold: the value for constant operands, or None to leave them.
        commutative: operands may be swapped exactly.
        simplify: called with the operands; an equal, simpler expression or None.
    """

    __slots__ = ("arity", "commutative", "fold", "kind", "name", "partials", "simplify")

    def __init__(
        self,
        name: str,
        arity: int,
        kind: str,
        partials: tuple[Partial | None, ...] = (),
        *,
        fold: Callable[..., Number] | None = None,
        commutative: bool = False,
        simplify: Callable[..., Expr | None] | None = None,
    ):
        self.name, self.arity, self.kind = name, arity, kind
        self.partials = partials or (None,) * arity
        self.fold, self.commutative, self.simplify = fold, commutative, simplify
        FUNCTIONS[name] = self

    def __call__(self, *args: Expr | Number) -> Expr:
        if len(args) != self.arity:
            raise TypeError(f"{self.name} takes {self.arity} operands in a formula, got {len(args)}")
        operands = tuple(lift(arg) for arg in args)
        if self.fold is not None and all(op.value is not None for op in operands):
            folded = self._fold(operands)
            if folded is not None:
                return folded
        if self.simplify is not None:
            simpler = self.simplify(*operands)
            if simpler is not None:
                return simpler
        if self.commutative and operands[0].order > operands[1].order:
            operands = (operands[1], operands[0])
        return intern(self, operands)

    def _fold(self, operands: tuple[Expr, ...]) -> Expr | None:
        try:
            return const(self.fold(*[op.value for op in operands]))  # type: ignore[misc]
        except (ArithmeticError, ValueError):
            return None  # 1/0, log(-1): left to the backend, which knows IEEE

    def __repr__(self) -> str:
        return f"<formula function {self.name}>"


def _same(name: str, arity: int, *partials: Partial | None, **options) -> Function:
    return Function(name, arity, "same", partials, **options)


def _float(name: str, *partials: Partial | None, **options) -> Function:
    return Function(name, len(partials), "float", partials, **options)


def _first_if_one(x: Expr, y: Expr) -> Expr | None:
    return x if is_const(y, 1) else None


def _simplify_multiply(x: Expr, y: Expr) -> Expr | None:
    for a, b in ((x, y), (y, x)):
        if is_const(a, 1):
            return b
        if is_const(a, -1):
            return -b
    # c1 * (c2 * z): one multiplication
    for a, b in ((x, y), (y, x)):
        if a.value is None or b.function is not multiply:
            continue
        for c, z in (b.args, reversed(b.args)):
            if c.value is not None and _overflow_together(a.value, c.value):
                return const(a.value * c.value) * z
    return None


def _overflow_together(a: Number, b: Number) -> bool:
    """Whether a * (b * z) and (a * b) * z overflow for the same z: both factors grow, or both shrink."""
    return math.isfinite(a * b) and a * b != 0 and (builtins.abs(a) >= 1) == (builtins.abs(b) >= 1)


def _simplify_add(x: Expr, y: Expr) -> Expr | None:
    for a, b in ((x, y), (y, x)):
        if b.function is negative:
            return a - b.args[0]
    return None


def _simplify_subtract(x: Expr, y: Expr) -> Expr | None:
    return x + y.args[0] if y.function is negative else None


def _simplify_where(condition: Expr, x: Expr, y: Expr) -> Expr | None:
    if condition.value is not None:
        return x if condition.value else y
    return x if x is y else None


def _simplify_pow(x: Expr, y: Expr) -> Expr | None:
    if isinstance(y.value, bool):
        return None
    if is_const(y, 1):
        return x
    if is_const(y, 2):
        return square(x)
    if is_const(y, 3):
        return x * square(x)
    return reciprocal(x) if is_const(y, -1) else None  # 0.5 stays: sqrt keeps the sign of -0


def _larger(a: Expr, b: Expr) -> Expr:
    """1 where a is larger, and 1/2 at a tie, where both operands share the gradient as in PyTorch."""
    return where(a > b, 1, where(equal(a, b), 0.5, 0))


# ----------------------------------------------------------------------------------------------- arithmetic
add = _same(
    "add", 2, lambda y, a, b: 1, lambda y, a, b: 1,
    fold=lambda a, b: a + b, commutative=True, simplify=_simplify_add,
)  # fmt: skip
subtract = _same(
    "subtract", 2, lambda y, a, b: 1, lambda y, a, b: -1, fold=lambda a, b: a - b, simplify=_simplify_subtract
)
multiply = _same(
    "multiply", 2, lambda y, a, b: b, lambda y, a, b: a,
    fold=lambda a, b: a * b, commutative=True, simplify=_simplify_multiply,
)  # fmt: skip
divide = _float(
    "divide", lambda y, a, b: 1 / b, lambda y, a, b: -(y / b), fold=lambda a, b: a / b, simplify=_first_if_one
)
negative = _same(
    "negative", 1, lambda y, x: -1,
    fold=lambda x: -x, simplify=lambda x: x.args[0] if x.function is negative else None,
)  # fmt: skip
reciprocal = _float("reciprocal", lambda y, x: -square(y))
square = _same("square", 1, lambda y, x: 2 * x, fold=lambda x: x * x)
pow = _same(
    "pow", 2,
    # b * a^(b-1), and 0 at b = 0 even where a^(b-1) is infinite
    lambda y, a, b: where(equal(b, 0), 0, b * pow(a, b - 1)),
    # 0^b has slope 0 for b >= 0 although log 0 is infinite
    lambda y, a, b: where(logical_and(equal(a, 0), b >= 0), 0, y * log(a)),
    simplify=_simplify_pow,
)  # fmt: skip
float_power = _float("float_power", *pow.partials)
fmod = _same("fmod", 2, lambda y, a, b: 1, lambda y, a, b: -trunc(a / b))
remainder = _same("remainder", 2, lambda y, a, b: 1, lambda y, a, b: -floor(a / b))
floor_divide = _same("floor_divide", 2)
abs = _same("abs", 1, lambda y, x: sign(x), fold=lambda x: x if x >= 0 else -x)
sign = _same("sign", 1)
copysign = _float("copysign", lambda y, a, b: where(equal(a, 0), 0, copysign(1, a) * copysign(1, b)), None)
heaviside = _same("heaviside", 2, None, lambda y, x, v: where(equal(x, 0), 1, 0))
nextafter = _float("nextafter", lambda y, a, b: where(equal(a, b), 0, 1), None)
maximum = _same("maximum", 2, lambda y, a, b: _larger(a, b), lambda y, a, b: _larger(b, a))
minimum = _same("minimum", 2, lambda y, a, b: _larger(b, a), lambda y, a, b: _larger(a, b))
fmax = _same(
    "fmax", 2,
    lambda y, a, b: where(logical_or(a >= b, isnan(b)), 1, 0),
    lambda y, a, b: where(logical_or(a >= b, isnan(b)), 0, 1),
)  # fmt: skip
fmin = _same(
    "fmin", 2,
    lambda y, a, b: where(logical_or(a <= b, isnan(b)), 1, 0),
    lambda y, a, b: where(logical_or(a <= b, isnan(b)), 0, 1),
)  # fmt: skip
clip = _same(
    "clip", 3,
    lambda y, x, low, high: where(logical_and(x >= low, x <= high), 1, 0),
    lambda y, x, low, high: where(logical_and(x < low, low < high), 1, 0),
    lambda y, x, low, high: where(logical_or(x > high, low >= high), 1, 0),
)  # fmt: skip
relu = _same("relu", 1, lambda y, x: where(y > 0, 1, 0))  # of y, which the next layer keeps anyway
nan_to_num = _same(
    "nan_to_num", 4, lambda y, x, nan, posinf, neginf: where(isfinite(x), 1, 0), None, None, None
)

# ------------------------------------------------------------------------------------------------- rounding
floor = _same("floor", 1)
ceil = _same("ceil", 1)
trunc = _same("trunc", 1)
rint = _same("rint", 1)

# ------------------------------------------------------------------------------ exponentials and logarithms
exp = _float("exp", lambda y, x: y, fold=math.exp)
exp2 = _float("exp2", lambda y, x: math.log(2) * y)
expm1 = _float("expm1", lambda y, x: y + 1)
log = _float("log", lambda y, x: 1 / x, fold=math.log)
log2 = _float("log2", lambda y, x: 1 / (math.log(2) * x))
log10 = _float("log10", lambda y, x: 1 / (math.log(10) * x))
log1p = _float("log1p", lambda y, x: 1 / (1 + x))
sqrt = _float("sqrt", lambda y, x: 0.5 / y, fold=math.sqrt)
rsqrt = _float("rsqrt", lambda y, x: -0.5 * (y / x))
cbrt = _float("cbrt", lambda y, x: 1 / (3 * square(y)))
logaddexp = _float("logaddexp", lambda y, a, b: exp(a - y), lambda y, a, b: exp(b - y))
logaddexp2 = _float("logaddexp2", lambda y, a, b: exp2(a - y), lambda y, a, b: exp2(b - y))
expit = _float("expit", lambda y, x: y * (1 - y))
logit = _float("logit", lambda y, x: 1 / (x * (1 - x)))
# log(1 + e^x), its slope the logistic function at any x without overflow
softplus = _float("softplus", lambda y, x: expit(x))
# x * log(y), and 0 at x = 0 even where the logarithm is infinite
xlogy = _float(
    "xlogy", lambda y, a, b: where(logical_and(equal(a, 0), b <= 0), 0, log(b)), lambda y, a, b: a / b
)
xlog1py = _float(
    "xlog1py",
    lambda y, a, b: where(logical_and(equal(a, 0), b <= -1), 0, log1p(b)),
    lambda y, a, b: a / (1 + b),
)

# ----------------------------------------------------------------------------- trigonometric and hyperbolic
sin = _float("sin", lambda y, x: cos(x), fold=math.sin)
cos = _float("cos", lambda y, x: -sin(x), fold=math.cos)
tan = _float("tan", lambda y, x: 1 + square(y))
asin = _float("asin", lambda y, x: rsqrt(1 - square(x)))
acos = _float("acos", lambda y, x: -rsqrt(1 - square(x)))
atan = _float("atan", lambda y, x: 1 / (1 + square(x)))
atan2 = _float(
    "atan2", lambda y, a, b: b / (square(a) + square(b)), lambda y, a, b: -(a / (square(a) + square(b)))
)
sinh = _float("sinh", lambda y, x: cosh(x))
cosh = _float("cosh", lambda y, x: sinh(x))
tanh = _float("tanh", lambda y, x: 1 - square(y), fold=math.tanh)
asinh = _float("asinh", lambda y, x: rsqrt(square(x) + 1))
acosh = _float("acosh", lambda y, x: rsqrt(x - 1) * rsqrt(x + 1))
atanh = _float("atanh", lambda y, x: 1 / (1 - square(x)))
hypot = _float("hypot", lambda y, a, b: a / y, lambda y, a, b: b / y)
deg2rad = _float("deg2rad", lambda y, x: math.pi / 180)
rad2deg = _float("rad2deg", lambda y, x: 180 / math.pi)
# Normalised: sin(pi x) / (pi x), 1 at 0. The slope is the odd function below, whose value at 0 is 0; the
# second slope there is -pi^2/3.
sinc = _float("sinc", lambda y, x: sinc_slope(x, 1))
# n-th derivative of sinc; n is a literal
sinc_slope = _float("sinc_slope", lambda y, x, n: sinc_slope(x, n + 1), None)

# ---------------------------------------------------------------------------------------- special functions
erf = _float("erf", lambda y, x: (2 / math.sqrt(math.pi)) * exp(-square(x)), fold=math.erf)
erfc = _float("erfc", lambda y, x: (-2 / math.sqrt(math.pi)) * exp(-square(x)))
erfinv = _float("erfinv", lambda y, x: (math.sqrt(math.pi) / 2) * exp(square(y)))
lgamma = _float("lgamma", lambda y, x: digamma(x))
digamma = _float("digamma", lambda y, x: polygamma(1, x))
# n-th derivative of digamma; n is a literal
polygamma = _float("polygamma", None, lambda y, n, x: polygamma(n + 1, x))

# ---------------------------------------------------------------------------------- truth values and choice
where = _same(
    "where", 3, None, lambda y, c, a, b: where(c, 1, 0), lambda y, c, a, b: where(c, 0, 1),
    simplify=_simplify_where,
)  # fmt: skip
less = Function("less", 2, "bool")
less_equal = Function("less_equal", 2, "bool")
greater = Function("greater", 2, "bool")
greater_equal = Function("greater_equal", 2, "bool")
equal = Function("equal", 2, "bool", commutative=True)
not_equal = Function("not_equal", 2, "bool", commutative=True)
isnan = Function("isnan", 1, "bool")
isinf = Function("isinf", 1, "bool")
isfinite = Function("isfinite", 1, "bool")
signbit = Function("signbit", 1, "bool")
logical_and = Function("logical_and", 2, "logic", commutative=True)
logical_or = Function("logical_or", 2, "logic", commutative=True)
logical_xor = Function("logical_xor", 2, "logic", commutative=True)
logical_not = Function("logical_not", 1, "logic")

# ----------------------------------------------------------------------------------------- bits of integers
bitwise_and = Function("bitwise_and", 2, "bits", commutative=True)
bitwise_or = Function("bitwise_or", 2, "bits", commutative=True)
bitwise_xor = Function("bitwise_xor", 2, "bits", commutative=True)
bitwise_not = Function("bitwise_not", 1, "bits")
left_shift = Function("left_shift", 2, "bits")
right_shift = Function("right_shift", 2, "bits")
