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
    attributes,
    buffers,
    complex_numbers,
    copying,
    counting,
    creation,
    extrema,
    indexing,
    inplace,
    joining,
    layout,
    masks,
    matrix_aliases,
    numbers,
    products,
    quantiles,
    random,
    rearranging,
    rectifiers,
    reduction,
    scanning,
    scattering,
    selecting,
    shape,
    short_time,
    sorting,
    special_functions,
    statistics,
    triangular,
    window_scattering,
)
from nbdl.ops.keywords import offer
from nbdl.ops.matmul import bmm, dot, matmul, mm, mv
from nbdl.ops.softmax import log_softmax, softmax


def _operator(function: Callable[..., Tensor]) -> Callable[[Tensor, Any], Tensor]:
    """``self @ other`` of ``function``: what is no tensor, array or number is left to the other operand."""
    primitive = getattr(function, "primitive", None)

    def method(self: Tensor, other: Any) -> Tensor:
        if primitive is not None and isinstance(other, Tensor):
            return apply(primitive, self, other)
        if not isinstance(other, (Tensor, int, float, complex)) and not hasattr(other, "__array__"):
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


def _polygamma(self: Tensor, n: int) -> Tensor:
    """The n-th derivative of digamma."""
    return arithmetic.polygamma(n, self)


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
    clamp_max = arithmetic.clamp_max
    clamp_min = arithmetic.clamp_min
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
    hardshrink = rectifiers.hardshrink
    heaviside = arithmetic.heaviside
    hypot = arithmetic.hypot
    isclose = arithmetic.isclose
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
    nan_to_num = arithmetic.nan_to_num
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

    # complex numbers
    adjoint = complex_numbers.adjoint
    angle = complex_numbers.angle
    conj = complex_numbers.conj
    conj_physical = complex_numbers.conj_physical
    imag = property(complex_numbers.imag, doc="The imaginary parts, a view.")
    is_conj = complex_numbers.is_conj
    isreal = complex_numbers.isreal
    real = property(complex_numbers.real, doc="The real parts, a view; itself if it is real.")
    resolve_conj = complex_numbers.resolve_conj
    sgn = complex_numbers.sgn
    H = property(complex_numbers.adjoint, doc="The conjugate of a matrix with its axes exchanged.")
    mH = property(complex_numbers.adjoint, doc="The conjugates of matrices with their two axes exchanged.")

    # reductions
    all = reduction.all
    amax = reduction.amax
    amin = reduction.amin
    any = reduction.any
    argmax = extrema.argmax
    argmin = extrema.argmin
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
    as_strided = layout.as_strided
    expand_as = layout.expand_as
    moveaxis = layout.moveaxis
    narrow_copy = layout.narrow_copy
    reshape_as = layout.reshape_as
    sum_to_size = layout.sum_to_size
    swapaxes = layout.swapaxes
    swapdims = layout.swapdims
    unfold = layout.unfold
    view_as = layout.view_as

    # copies, dtypes, devices
    clone = copying.clone
    cpu = copying.cpu
    cuda = copying.cuda
    to = copying.to
    type_as = copying.type_as
    float = _cast("float32")
    double = _cast("float64")
    cfloat = _cast("complex64")
    cdouble = _cast("complex128")
    half = _cast("float16")
    bfloat16 = _cast("bfloat16")
    long = _cast("int64")
    int = _cast("int32")
    short = _cast("int16")
    char = _cast("int8")
    byte = _cast("uint8")
    bool = _cast("bool")

    # what they are
    apply_ = attributes.apply_
    const_data_ptr = Tensor.data_ptr
    dim_order = attributes.dim_order
    get_device = attributes.get_device
    is_cpu = property(lambda self: not self.is_cuda, doc="Whether it lives in the memory of the host.")
    is_distributed = is_pinned = is_shared = attributes.never
    is_meta = is_quantized = is_sparse = property(attributes.never, doc="False.")
    is_neg = buffers.is_neg
    is_nonzero = buffers.is_nonzero
    is_same_size = buffers.is_same_size
    is_set_to = attributes.is_set_to
    is_signed = buffers.is_signed
    map2_ = attributes.map2_
    map_ = attributes.map_
    name = property(attributes.nothing, doc="None: tensors have no names.")
    is_contiguous = attributes.is_contiguous
    ndimension = attributes.ndimension
    nelement = attributes.nelement
    pin_memory = attributes.pin_memory
    resize_ = attributes.resize_
    resize_as_ = attributes.resize_as_
    resolve_neg = buffers.resolve_neg
    set_ = attributes.set_
    share_memory_ = attributes.share_memory_
    storage_offset = attributes.storage_offset
    type = attributes.type_

    # new tensors like this one
    empty_like = creation.empty_like
    full_like = creation.full_like
    new = attributes.new
    new_empty = buffers.new_empty
    new_empty_strided = buffers.new_empty_strided
    new_full = creation.new_full
    new_ones = creation.new_ones
    new_tensor = creation.new_tensor
    new_zeros = creation.new_zeros
    ones_like = creation.ones_like
    zeros_like = creation.zeros_like

    # joining
    chunk = joining.chunk
    split = joining.split
    split_with_sizes = joining.split_with_sizes
    tensor_split = joining.tensor_split
    dsplit = layout.dsplit
    hsplit = layout.hsplit
    vsplit = layout.vsplit
    unbind = joining.unbind
    unsafe_chunk = layout.unsafe_chunk
    unsafe_split = layout.unsafe_split
    unsafe_split_with_sizes = layout.unsafe_split_with_sizes

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
    masked_fill = masks.masked_fill
    masked_fill_ = masks.masked_fill_
    masked_scatter = masks.masked_scatter
    masked_scatter_ = masks.masked_scatter_
    masked_select = masks.masked_select
    nonzero = selecting.nonzero
    nonzero_static = selecting.nonzero_static
    take = selecting.take

    # scattering
    as_strided_scatter = window_scattering.as_strided_scatter
    diagonal_scatter = window_scattering.diagonal_scatter
    gather = scattering.gather
    index_reduce = scattering.index_reduce
    index_reduce_ = scattering.index_reduce_
    put = scattering.put
    put_ = scattering.put_
    scatter = scattering.scatter
    scatter_ = scattering.scatter_
    scatter_add = scattering.scatter_add
    scatter_add_ = scattering.scatter_add_
    scatter_reduce = scattering.scatter_reduce
    scatter_reduce_ = scattering.scatter_reduce_
    select_scatter = window_scattering.select_scatter
    slice_scatter = window_scattering.slice_scatter
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
    cumprod_ = scanning.cumprod_
    cumsum = scanning.cumsum
    cumsum_ = scanning.cumsum_
    diff = scanning.diff
    logcumsumexp = scanning.logcumsumexp

    # spectra of windows
    istft = short_time.istft
    stft = short_time.stft

    # softmax
    log_softmax = log_softmax
    softmax = softmax

    # sorting
    argsort = sorting.argsort
    bincount = counting.bincount
    histc = counting.histc
    histogram = counting.histogram
    isin = counting.isin
    kthvalue = sorting.kthvalue
    max = extrema.max
    median = sorting.median
    min = extrema.min
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
    corrcoef = statistics.corrcoef
    cov = statistics.cov
    nanquantile = quantiles.nanquantile
    quantile = quantiles.quantile
    renorm = statistics.renorm
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
    addbmm = products.addbmm
    addmm = products.addmm
    addmv = products.addmv
    addr = products.addr
    baddbmm = products.baddbmm
    cross = products.cross
    dist = products.dist
    ger = products.ger
    inner = products.inner
    kron = products.kron
    outer = products.outer
    trace = products.trace
    vdot = products.vdot

    # special functions
    i0 = special_functions.i0
    igamma = special_functions.igamma
    igammac = special_functions.igammac
    mvlgamma = special_functions.mvlgamma

    # linear algebra
    cholesky = matrix_aliases.cholesky
    cholesky_inverse = matrix_aliases.cholesky_inverse
    cholesky_solve = matrix_aliases.cholesky_solve
    det = matrix_aliases.det
    geqrf = matrix_aliases.geqrf
    inverse = matrix_aliases.inverse
    logdet = matrix_aliases.logdet
    lu = matrix_aliases.lu
    lu_solve = matrix_aliases.lu_solve
    matrix_exp = matrix_aliases.matrix_exp
    matrix_power = matrix_aliases.matrix_power
    orgqr = matrix_aliases.orgqr
    ormqr = matrix_aliases.ormqr
    pinverse = matrix_aliases.pinverse
    qr = matrix_aliases.qr
    slogdet = matrix_aliases.slogdet
    svd = matrix_aliases.svd
    triangular_solve = matrix_aliases.triangular_solve

    # in place
    abs_ = inplace.abs_
    absolute_ = inplace.absolute_
    acos_ = inplace.acos_
    acosh_ = inplace.acosh_
    add_ = inplace.add_
    addbmm_ = inplace.addbmm_
    addcdiv_ = inplace.addcdiv_
    addcmul_ = inplace.addcmul_
    addmm_ = inplace.addmm_
    addmv_ = inplace.addmv_
    addr_ = inplace.addr_
    arccos_ = inplace.arccos_
    arccosh_ = inplace.arccosh_
    arcsin_ = inplace.arcsin_
    arcsinh_ = inplace.arcsinh_
    arctan2_ = inplace.arctan2_
    arctan_ = inplace.arctan_
    arctanh_ = inplace.arctanh_
    as_strided_ = inplace.as_strided_
    asin_ = inplace.asin_
    asinh_ = inplace.asinh_
    atan2_ = inplace.atan2_
    atan_ = inplace.atan_
    atanh_ = inplace.atanh_
    baddbmm_ = inplace.baddbmm_
    bitwise_and_ = inplace.bitwise_and_
    bitwise_left_shift_ = inplace.bitwise_left_shift_
    bitwise_not_ = inplace.bitwise_not_
    bitwise_or_ = inplace.bitwise_or_
    bitwise_right_shift_ = inplace.bitwise_right_shift_
    bitwise_xor_ = inplace.bitwise_xor_
    ceil_ = inplace.ceil_
    clamp_ = inplace.clamp_
    clamp_max_ = inplace.clamp_max_
    clamp_min_ = inplace.clamp_min_
    clip_ = inplace.clip_
    conj_physical_ = inplace.conj_physical_
    copy_ = inplace.copy_
    copysign_ = inplace.copysign_
    cos_ = inplace.cos_
    cosh_ = inplace.cosh_
    deg2rad_ = inplace.deg2rad_
    digamma_ = inplace.digamma_
    div_ = inplace.div_
    divide_ = inplace.divide_
    eq_ = inplace.eq_
    erf_ = inplace.erf_
    erfc_ = inplace.erfc_
    erfinv_ = inplace.erfinv_
    exp2_ = inplace.exp2_
    exp_ = inplace.exp_
    expm1_ = inplace.expm1_
    fill_ = inplace.fill_
    fill_diagonal_ = inplace.fill_diagonal_
    fix_ = inplace.fix_
    float_power_ = inplace.float_power_
    floor_ = inplace.floor_
    floor_divide_ = inplace.floor_divide_
    fmod_ = inplace.fmod_
    frac_ = inplace.frac_
    gcd_ = inplace.gcd_
    ge_ = inplace.ge_
    greater_ = inplace.greater_
    greater_equal_ = inplace.greater_equal_
    gt_ = inplace.gt_
    heaviside_ = inplace.heaviside_
    hypot_ = inplace.hypot_
    i0_ = inplace.i0_
    igamma_ = inplace.igamma_
    igammac_ = inplace.igammac_
    lcm_ = inplace.lcm_
    ldexp_ = inplace.ldexp_
    le_ = inplace.le_
    lerp_ = inplace.lerp_
    less_ = inplace.less_
    less_equal_ = inplace.less_equal_
    lgamma_ = inplace.lgamma_
    log10_ = inplace.log10_
    log1p_ = inplace.log1p_
    log2_ = inplace.log2_
    log_ = inplace.log_
    logical_and_ = inplace.logical_and_
    logical_not_ = inplace.logical_not_
    logical_or_ = inplace.logical_or_
    logical_xor_ = inplace.logical_xor_
    logit_ = inplace.logit_
    lt_ = inplace.lt_
    mul_ = inplace.mul_
    multiply_ = inplace.multiply_
    mvlgamma_ = inplace.mvlgamma_
    nan_to_num_ = inplace.nan_to_num_
    ne_ = inplace.ne_
    neg_ = inplace.neg_
    negative_ = inplace.negative_
    nextafter_ = inplace.nextafter_
    not_equal_ = inplace.not_equal_
    polygamma_ = inplace.polygamma_
    pow_ = inplace.pow_
    rad2deg_ = inplace.rad2deg_
    reciprocal_ = inplace.reciprocal_
    relu_ = inplace.relu_
    remainder_ = inplace.remainder_
    renorm_ = inplace.renorm_
    round_ = inplace.round_
    rsqrt_ = inplace.rsqrt_
    sgn_ = inplace.sgn_
    sigmoid_ = inplace.sigmoid_
    sign_ = inplace.sign_
    sin_ = inplace.sin_
    sinc_ = inplace.sinc_
    sinh_ = inplace.sinh_
    sqrt_ = inplace.sqrt_
    square_ = inplace.square_
    squeeze_ = inplace.squeeze_
    sub_ = inplace.sub_
    subtract_ = inplace.subtract_
    swapaxes_ = inplace.swapaxes_
    swapdims_ = inplace.swapdims_
    t_ = inplace.t_
    tan_ = inplace.tan_
    tanh_ = inplace.tanh_
    transpose_ = inplace.transpose_
    true_divide_ = inplace.true_divide_
    trunc_ = inplace.trunc_
    unsqueeze_ = inplace.unsqueeze_
    xlogy_ = inplace.xlogy_
    zero_ = inplace.zero_


def attach() -> None:
    """Give :class:`Tensor` its operators and methods; what the class defines itself stays."""
    operations = dict(vars(Operations))
    offer(operations, skip=1)
    for name, value in operations.items():
        if name not in vars(Tensor):
            setattr(Tensor, name, value)
