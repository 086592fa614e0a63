"""The operators and methods of tensors: every operation under its name.

:class:`Operations` is the list, with the pointwise methods and those in place that it inherits. Type checkers
see it as a base of :class:`~nbdl.autograd.tensor.Tensor`, so that methods have the functions' signatures; at
run time :func:`attach` copies it, since the tape may not import what stands above it.
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
    extrema,
    index_writing,
    indexing,
    inplace,
    joining,
    layout,
    masks,
    matrix_aliases,
    memory_layout,
    new_like,
    products,
    quantiles,
    random,
    rearranging,
    reduction,
    scanning,
    scattering,
    searching,
    selecting,
    shape,
    short_time,
    sorting,
    special_functions,
    statistics,
    triangular,
    window_scattering,
)
from nbdl.ops.inplace_methods import InPlaceMethods
from nbdl.ops.keywords import offer
from nbdl.ops.matmul import bmm, dot, matmul, mm, mv
from nbdl.ops.pointwise_methods import PointwiseMethods
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


def _cast(dtype: str) -> Callable[[Tensor], Tensor]:
    def method(self: Tensor) -> Tensor:
        return copying.to(self, dtype)

    method.__doc__ = f"``self`` in {dtype}; itself if it has this dtype."
    return method


class Operations(PointwiseMethods, InPlaceMethods):
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
    max = extrema.max
    mean = reduction.mean
    min = extrema.min
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
    _base = property(memory_layout.base)
    _is_view = memory_layout.is_view
    const_data_ptr = Tensor.data_ptr
    untyped_storage = memory_layout.untyped_storage
    dim_order = attributes.dim_order
    get_device = attributes.get_device
    is_cpu = property(lambda self: not self.is_cuda, doc="Whether it lives in the memory of the host.")
    is_distributed = is_pinned = is_shared = attributes.never
    is_meta = is_quantized = is_sparse = property(attributes.never, doc="False.")
    is_inference = buffers.is_inference
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
    empty_like = new_like.empty_like
    full_like = new_like.full_like
    new = attributes.new
    new_empty = buffers.new_empty
    new_empty_strided = buffers.new_empty_strided
    new_full = new_like.new_full
    new_ones = new_like.new_ones
    new_tensor = new_like.new_tensor
    new_zeros = new_like.new_zeros
    ones_like = new_like.ones_like
    zeros_like = new_like.zeros_like

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

    # selecting, index_writing
    argwhere = selecting.argwhere
    index_add = index_writing.index_add
    index_add_ = index_writing.index_add_
    index_copy = index_writing.index_copy
    index_copy_ = index_writing.index_copy_
    index_fill = index_writing.index_fill
    index_fill_ = index_writing.index_fill_
    index_reduce = index_writing.index_reduce
    index_reduce_ = index_writing.index_reduce_
    index_select = selecting.index_select
    masked_fill = masks.masked_fill
    masked_fill_ = masks.masked_fill_
    masked_scatter = masks.masked_scatter
    masked_scatter_ = masks.masked_scatter_
    masked_select = masks.masked_select
    nonzero = selecting.nonzero
    nonzero_static = selecting.nonzero_static
    put = index_writing.put
    put_ = index_writing.put_
    take = selecting.take

    # scattering
    as_strided_scatter = window_scattering.as_strided_scatter
    diagonal_scatter = window_scattering.diagonal_scatter
    gather = scattering.gather
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
    median = sorting.median
    mode = sorting.mode
    msort = sorting.msort
    nanmedian = sorting.nanmedian
    sort = sorting.sort
    topk = sorting.topk
    unique = searching.unique
    unique_consecutive = searching.unique_consecutive

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

    # at the end, for it hides the module
    layout = property(lambda self: memory_layout.strided, doc="``nbdl.strided``: all tensors are dense.")


def attach() -> None:
    """Give :class:`Tensor` its operators and methods; what the class defines itself stays."""
    parts = reversed(Operations.mro()[:-1])
    operations = {name: value for part in parts for name, value in vars(part).items()}
    offer(operations, skip=1)
    for name, value in operations.items():
        if name not in vars(Tensor):
            setattr(Tensor, name, value)
