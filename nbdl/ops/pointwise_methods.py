"""The methods of tensors that are functions of one element at a time."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.ops import arithmetic, clamping, closeness, numbers, rectifiers


def _where(self: Tensor, condition: Any, other: Any) -> Tensor:
    """``self`` where ``condition`` holds, else ``other``."""
    return arithmetic.where(condition, self, other)


def _polygamma(self: Tensor, n: int) -> Tensor:
    """The n-th derivative of digamma."""
    return arithmetic.polygamma(n, self)


class PointwiseMethods:
    """What tensors can do element by element."""

    abs = arithmetic.abs
    absolute = arithmetic.absolute
    acos = arithmetic.acos
    acosh = arithmetic.acosh
    add = arithmetic.add
    addcdiv = arithmetic.addcdiv
    addcmul = arithmetic.addcmul
    allclose = closeness.allclose
    arccos = arithmetic.arccos
    arccosh = arithmetic.arccosh
    arcsin = arithmetic.arcsin
    arcsinh = arithmetic.arcsinh
    arctan = arithmetic.arctan
    arctan2 = arithmetic.arctan2
    arctanh = arithmetic.arctanh
    asin = arithmetic.asin
    asinh = arithmetic.asinh
    atan = arithmetic.atan
    atan2 = arithmetic.atan2
    atanh = arithmetic.atanh
    bitwise_and = arithmetic.bitwise_and
    bitwise_left_shift = arithmetic.bitwise_left_shift
    bitwise_not = arithmetic.bitwise_not
    bitwise_or = arithmetic.bitwise_or
    bitwise_right_shift = arithmetic.bitwise_right_shift
    bitwise_xor = arithmetic.bitwise_xor
    cbrt = arithmetic.cbrt
    ceil = arithmetic.ceil
    clamp = clamping.clamp
    clamp_max = clamping.clamp_max
    clamp_min = clamping.clamp_min
    clip = clamping.clip
    copysign = arithmetic.copysign
    cos = arithmetic.cos
    cosh = arithmetic.cosh
    deg2rad = arithmetic.deg2rad
    digamma = arithmetic.digamma
    div = arithmetic.div
    divide = arithmetic.divide
    eq = arithmetic.eq
    equal = closeness.equal
    erf = arithmetic.erf
    erfc = arithmetic.erfc
    erfinv = arithmetic.erfinv
    exp = arithmetic.exp
    exp2 = arithmetic.exp2
    expit = arithmetic.expit
    expm1 = arithmetic.expm1
    fix = arithmetic.fix
    float_power = arithmetic.float_power
    floor = arithmetic.floor
    floor_divide = arithmetic.floor_divide
    fmax = arithmetic.fmax
    fmin = arithmetic.fmin
    fmod = arithmetic.fmod
    frac = arithmetic.frac
    ge = arithmetic.ge
    greater = arithmetic.greater
    greater_equal = arithmetic.greater_equal
    gt = arithmetic.gt
    hardshrink = rectifiers.hardshrink
    heaviside = arithmetic.heaviside
    hypot = arithmetic.hypot
    isclose = closeness.isclose
    isfinite = arithmetic.isfinite
    isinf = arithmetic.isinf
    isnan = arithmetic.isnan
    isneginf = arithmetic.isneginf
    isposinf = arithmetic.isposinf
    le = arithmetic.le
    lerp = arithmetic.lerp
    less = arithmetic.less
    less_equal = arithmetic.less_equal
    lgamma = arithmetic.lgamma
    log = arithmetic.log
    log10 = arithmetic.log10
    log1p = arithmetic.log1p
    log2 = arithmetic.log2
    logaddexp = arithmetic.logaddexp
    logaddexp2 = arithmetic.logaddexp2
    logical_and = arithmetic.logical_and
    logical_not = arithmetic.logical_not
    logical_or = arithmetic.logical_or
    logical_xor = arithmetic.logical_xor
    logit = arithmetic.logit
    lt = arithmetic.lt
    maximum = arithmetic.maximum
    minimum = arithmetic.minimum
    mul = arithmetic.mul
    multiply = arithmetic.multiply
    nan_to_num = clamping.nan_to_num
    ne = arithmetic.ne
    neg = arithmetic.neg
    negative = arithmetic.negative
    nextafter = arithmetic.nextafter
    not_equal = arithmetic.not_equal
    positive = arithmetic.positive
    pow = arithmetic.pow
    rad2deg = arithmetic.rad2deg
    prelu = rectifiers.prelu
    reciprocal = arithmetic.reciprocal
    relu = arithmetic.relu
    remainder = arithmetic.remainder
    round = arithmetic.round
    rsqrt = arithmetic.rsqrt
    sigmoid = arithmetic.sigmoid
    sign = arithmetic.sign
    signbit = arithmetic.signbit
    sin = arithmetic.sin
    sinc = arithmetic.sinc
    sinh = arithmetic.sinh
    sqrt = arithmetic.sqrt
    square = arithmetic.square
    sub = arithmetic.sub
    subtract = arithmetic.subtract
    tan = arithmetic.tan
    tanh = arithmetic.tanh
    true_divide = arithmetic.true_divide
    trunc = arithmetic.trunc
    xlog1py = arithmetic.xlog1py
    xlogy = arithmetic.xlogy
    frexp = numbers.frexp
    gcd = numbers.gcd
    lcm = numbers.lcm
    ldexp = numbers.ldexp
    polygamma = _polygamma
    where = _where
