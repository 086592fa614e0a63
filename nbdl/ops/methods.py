"""The operators and methods of tensors: every operation under its name.

:class:`Operations` is the list. Type checkers see it as the base of :class:`~nbdl.autograd.tensor.Tensor`,
so that methods have the signatures of the functions; at run time :func:`attach` copies it, since the
tape may not import what stands above it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.ops import (
    arithmetic,
    copying,
    creation,
    indexing,
    inplace,
    joining,
    random,
    rearranging,
    reduction,
    scanning,
    scattering,
    selecting,
    shape,
    sorting,
    statistics,
    triangular,
)
from nbdl.ops.matmul import bmm, dot, matmul, mm, mv


def _operator(function: Callable[..., Tensor]) -> Callable[[Tensor, Any], Tensor]:
    """``self @ other`` of ``function``: what is no tensor, array or number is left to the other operand."""
    primitive = getattr(function, "primitive", None)

    def method(self: Tensor, other: Any) -> Tensor:
        if primitive is not None and isinstance(other, Tensor):
            return apply(primitive, self, other)
        if not isinstance(other, (Tensor, int, float)) and not hasattr(other, "__array__"):
            return NotImplemented
        return function(self, other)

    return method


def _reflected(function: Callable[..., Tensor]) -> Callable[[Tensor, Any], Tensor]:
    """``other @ self`` of ``function``, where ``other`` is no tensor."""
    return lambda self, other: function(other, self)


def _itself(self: Tensor) -> Tensor:
    return self


def _rounded(self: Tensor, digits: int = 0) -> Tensor:
    return arithmetic.round(self, decimals=digits)


def _all_axes_reversed(self: Tensor) -> Tensor:
    """All axes in reverse order."""
    return shape.permute(self, tuple(reversed(range(self.array.ndim))))


def _where(self: Tensor, condition: Any, other: Any) -> Tensor:
    """``self`` where ``condition`` holds, else ``other``."""
    return arithmetic.where(condition, self, other)


def _cast(dtype: str) -> Callable[[Tensor], Tensor]:
    def method(self: Tensor) -> Tensor:
        return copying.to(self, dtype)

    method.__doc__ = f"``self`` in {dtype}; itself if it has this dtype."
    return method


class Operations:
    """What tensors can do."""

    # operators
    __add__, __radd__ = _operator(arithmetic.add), _reflected(arithmetic.add)
    __sub__, __rsub__ = _operator(arithmetic.subtract), _reflected(arithmetic.subtract)
    __mul__, __rmul__ = _operator(arithmetic.multiply), _reflected(arithmetic.multiply)
    __truediv__, __rtruediv__ = _operator(arithmetic.divide), _reflected(arithmetic.divide)
    __floordiv__, __rfloordiv__ = _operator(arithmetic.floor_divide), _reflected(arithmetic.floor_divide)
    __mod__, __rmod__ = _operator(arithmetic.remainder), _reflected(arithmetic.remainder)
    __pow__, __rpow__ = _operator(arithmetic.pow), _reflected(arithmetic.pow)
    __matmul__, __rmatmul__ = _operator(matmul), _reflected(matmul)
    __and__, __rand__ = _operator(arithmetic.bitwise_and), _reflected(arithmetic.bitwise_and)
    __or__, __ror__ = _operator(arithmetic.bitwise_or), _reflected(arithmetic.bitwise_or)
    __xor__, __rxor__ = _operator(arithmetic.bitwise_xor), _reflected(arithmetic.bitwise_xor)
    __lshift__ = _operator(arithmetic.bitwise_left_shift)
    __rlshift__ = _reflected(arithmetic.bitwise_left_shift)
    __rshift__ = _operator(arithmetic.bitwise_right_shift)
    __rrshift__ = _reflected(arithmetic.bitwise_right_shift)
    __eq__ = _operator(arithmetic.eq)  # type: ignore[assignment]  # element by element, unlike object's
    __ne__ = _operator(arithmetic.ne)  # type: ignore[assignment]
    __lt__, __le__ = _operator(arithmetic.lt), _operator(arithmetic.le)
    __gt__, __ge__ = _operator(arithmetic.gt), _operator(arithmetic.ge)
    __neg__ = arithmetic.negative
    __pos__ = _itself
    __abs__ = arithmetic.abs
    __invert__ = arithmetic.bitwise_not
    __round__ = _rounded
    __getitem__ = indexing.get_item
    __setitem__ = indexing.set_item
    __iadd__ = inplace.add_
    __isub__ = inplace.sub_
    __imul__ = inplace.mul_
    __itruediv__ = inplace.div_
    __ifloordiv__ = inplace.floor_divide_
    __imod__ = inplace.remainder_
    __ipow__ = inplace.pow_
    __iand__ = inplace.bitwise_and_
    __ior__ = inplace.bitwise_or_
    __ixor__ = inplace.bitwise_xor_
    T = property(_all_axes_reversed)
    mT = property(shape.matrix_transpose, doc="The last two axes exchanged.")

    # pointwise functions
    abs = arithmetic.abs
    absolute = arithmetic.absolute
    acos = arithmetic.acos
    acosh = arithmetic.acosh
    add = arithmetic.add
    addcdiv = arithmetic.addcdiv
    addcmul = arithmetic.addcmul
    allclose = arithmetic.allclose
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
    clamp = arithmetic.clamp
    clip = arithmetic.clip
    copysign = arithmetic.copysign
    cos = arithmetic.cos
    cosh = arithmetic.cosh
    deg2rad = arithmetic.deg2rad
    digamma = arithmetic.digamma
    div = arithmetic.div
    divide = arithmetic.divide
    eq = arithmetic.eq
    equal = arithmetic.equal
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
    heaviside = arithmetic.heaviside
    hypot = arithmetic.hypot
    isclose = arithmetic.isclose
    isfinite = arithmetic.isfinite
    isinf = arithmetic.isinf
    isnan = arithmetic.isnan
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
    nan_to_num = arithmetic.nan_to_num
    ne = arithmetic.ne
    neg = arithmetic.neg
    negative = arithmetic.negative
    nextafter = arithmetic.nextafter
    not_equal = arithmetic.not_equal
    pow = arithmetic.pow
    rad2deg = arithmetic.rad2deg
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
    where = _where

    # reductions
    all = reduction.all
    amax = reduction.amax
    amin = reduction.amin
    any = reduction.any
    argmax = reduction.argmax
    argmin = reduction.argmin
    mean = reduction.mean
    prod = reduction.prod
    sum = reduction.sum

    # views
    broadcast_to = shape.broadcast_to
    contiguous = shape.contiguous
    diagonal = shape.diagonal
    expand = shape.expand
    flatten = shape.flatten
    movedim = shape.movedim
    narrow = shape.narrow
    permute = shape.permute
    ravel = shape.ravel
    reshape = shape.reshape
    select = shape.select
    squeeze = shape.squeeze
    t = shape.t
    transpose = shape.transpose
    unflatten = shape.unflatten
    unsqueeze = shape.unsqueeze
    view = shape.view

    # copies, dtypes, devices
    clone = copying.clone
    cpu = copying.cpu
    cuda = copying.cuda
    to = copying.to
    type_as = copying.type_as
    float = _cast("float32")
    double = _cast("float64")
    half = _cast("float16")
    bfloat16 = _cast("bfloat16")
    long = _cast("int64")
    int = _cast("int32")
    short = _cast("int16")
    char = _cast("int8")
    byte = _cast("uint8")
    bool = _cast("bool")

    # new tensors like this one
    empty_like = creation.empty_like
    full_like = creation.full_like
    new_full = creation.new_full
    new_ones = creation.new_ones
    new_tensor = creation.new_tensor
    new_zeros = creation.new_zeros
    ones_like = creation.ones_like
    zeros_like = creation.zeros_like

    # joining
    chunk = joining.chunk
    split = joining.split
    tensor_split = joining.tensor_split
    unbind = joining.unbind

    # rearranging
    flip = rearranging.flip
    fliplr = rearranging.fliplr
    flipud = rearranging.flipud
    repeat = rearranging.repeat
    repeat_interleave = rearranging.repeat_interleave
    roll = rearranging.roll
    rot90 = rearranging.rot90
    tile = rearranging.tile

    # indexing
    index_put = indexing.index_put
    index_put_ = indexing.index_put_

    # selecting
    argwhere = selecting.argwhere
    index_add = selecting.index_add
    index_add_ = selecting.index_add_
    index_copy = selecting.index_copy
    index_copy_ = selecting.index_copy_
    index_fill = selecting.index_fill
    index_fill_ = selecting.index_fill_
    index_select = selecting.index_select
    masked_fill = selecting.masked_fill
    masked_fill_ = selecting.masked_fill_
    masked_scatter = selecting.masked_scatter
    masked_scatter_ = selecting.masked_scatter_
    masked_select = selecting.masked_select
    nonzero = selecting.nonzero
    take = selecting.take

    # scattering
    gather = scattering.gather
    scatter = scattering.scatter
    scatter_ = scattering.scatter_
    scatter_add = scattering.scatter_add
    scatter_add_ = scattering.scatter_add_
    scatter_reduce = scattering.scatter_reduce
    scatter_reduce_ = scattering.scatter_reduce_
    take_along_dim = scattering.take_along_dim

    # triangles and diagonals
    diag = triangular.diag
    diag_embed = triangular.diag_embed
    diagflat = triangular.diagflat
    tril = triangular.tril
    tril_ = triangular.tril_
    triu = triangular.triu
    triu_ = triangular.triu_

    # running sums and the like
    cummax = scanning.cummax
    cummin = scanning.cummin
    cumprod = scanning.cumprod
    cumsum = scanning.cumsum
    diff = scanning.diff
    logcumsumexp = scanning.logcumsumexp

    # sorting
    argsort = sorting.argsort
    kthvalue = sorting.kthvalue
    max = sorting.max
    median = sorting.median
    min = sorting.min
    mode = sorting.mode
    msort = sorting.msort
    nanmedian = sorting.nanmedian
    sort = sorting.sort
    topk = sorting.topk
    unique = sorting.unique
    unique_consecutive = sorting.unique_consecutive

    # statistics
    aminmax = statistics.aminmax
    count_nonzero = statistics.count_nonzero
    logsumexp = statistics.logsumexp
    nanmean = statistics.nanmean
    nansum = statistics.nansum
    norm = statistics.norm
    std = statistics.std
    var = statistics.var

    # random numbers
    bernoulli = random.bernoulli
    bernoulli_ = random.bernoulli_
    cauchy_ = random.cauchy_
    exponential_ = random.exponential_
    geometric_ = random.geometric_
    log_normal_ = random.log_normal_
    multinomial = random.multinomial
    normal_ = random.normal_
    random_ = random.random_
    uniform_ = random.uniform_

    # matrix products
    bmm = bmm
    dot = dot
    matmul = matmul
    mm = mm
    mv = mv

    # in place
    abs_ = inplace.abs_
    add_ = inplace.add_
    addcdiv_ = inplace.addcdiv_
    addcmul_ = inplace.addcmul_
    atan2_ = inplace.atan2_
    bitwise_and_ = inplace.bitwise_and_
    bitwise_or_ = inplace.bitwise_or_
    bitwise_xor_ = inplace.bitwise_xor_
    ceil_ = inplace.ceil_
    clamp_ = inplace.clamp_
    clip_ = inplace.clip_
    copy_ = inplace.copy_
    cos_ = inplace.cos_
    div_ = inplace.div_
    divide_ = inplace.divide_
    erf_ = inplace.erf_
    exp_ = inplace.exp_
    expm1_ = inplace.expm1_
    fill_ = inplace.fill_
    floor_ = inplace.floor_
    floor_divide_ = inplace.floor_divide_
    fmod_ = inplace.fmod_
    lerp_ = inplace.lerp_
    log1p_ = inplace.log1p_
    log_ = inplace.log_
    logical_not_ = inplace.logical_not_
    mul_ = inplace.mul_
    multiply_ = inplace.multiply_
    neg_ = inplace.neg_
    pow_ = inplace.pow_
    reciprocal_ = inplace.reciprocal_
    relu_ = inplace.relu_
    remainder_ = inplace.remainder_
    round_ = inplace.round_
    rsqrt_ = inplace.rsqrt_
    sigmoid_ = inplace.sigmoid_
    sign_ = inplace.sign_
    sin_ = inplace.sin_
    sqrt_ = inplace.sqrt_
    square_ = inplace.square_
    sub_ = inplace.sub_
    subtract_ = inplace.subtract_
    tan_ = inplace.tan_
    tanh_ = inplace.tanh_
    trunc_ = inplace.trunc_
    zero_ = inplace.zero_


def attach() -> None:
    """Give :class:`Tensor` its operators and methods; what the class defines itself stays."""
    for name, value in vars(Operations).items():
        if name not in vars(Tensor):
            setattr(Tensor, name, value)
