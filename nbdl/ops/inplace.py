"""Methods that end in an underscore: the operation with its first operand as output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbdl.autograd.inplace import apply_in_place, check_target, frozen, twin
from nbdl.autograd.modes import mode
from nbdl.autograd.rebinding import rebindings
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula, dtypes
from nbdl.formula import functions as f
from nbdl.ops import (
    arithmetic,
    clamping,
    complex_numbers,
    layout,
    numbers,
    products,
    shape,
    special_functions,
    statistics,
)
from nbdl.ops.pointwise import Pointwise, operand

_ASSIGN = Formula("copy", lambda x, value: value, 2)


def call_in_place(formula: Formula, x: Tensor, *values: Any, any_cast: bool = False) -> Tensor:
    """Apply a formula to a tensor and other operands, the result replacing the tensor's elements."""
    weak, tensors = 0, []
    for k, value in enumerate(values, 1):
        tensor, is_number = operand(f"{formula.name}_", k + 1, value)
        tensors.append(tensor)
        weak |= is_number << k
    return apply_in_place(Pointwise.of(formula, weak), x, *tensors, any_cast=any_cast)


def _method(name: str, function: str | None = None) -> Callable[..., Tensor]:
    """The method called ``name`` + ``_``, applying ``function`` (default: ``name``) of the vocabulary."""
    formula = arithmetic.formula_of(function or name)

    def method(self: Tensor, *values: Any) -> Tensor:
        if len(values) != formula.arity - 1:
            raise TypeError(f"{name}_() takes {formula.arity - 1} operands but {len(values)} were given")
        return call_in_place(formula, self, *values)

    method.__name__ = method.__qualname__ = f"{name}_"
    method.__doc__ = f"``{name}`` in place."
    return method


def _truth(name: str, function: str) -> Callable[..., Tensor]:
    """The method that stores 1 where a comparison or a logical function holds, and 0 elsewhere."""
    condition = f.FUNCTIONS[function]
    formula = Formula(name, lambda *operands: f.where(condition(*operands), 1, 0), condition.arity)

    def method(self: Tensor, *values: Any) -> Tensor:
        if len(values) != formula.arity - 1:
            raise TypeError(f"{name}_() takes {formula.arity - 1} operands but {len(values)} were given")
        return call_in_place(formula, self, *values, any_cast=True)

    method.__name__ = method.__qualname__ = f"{name}_"
    method.__doc__ = f"1 where ``{name}`` holds and 0 elsewhere, in place."
    return method


def _by_copy(function: Callable[..., Tensor], name: str | None = None) -> Callable[..., Tensor]:
    """The method that overwrites a tensor with what ``function`` made of it."""
    name = name or function.__name__

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        # What the function saves of its operand must outlive it.
        operand = frozen(self) if mode.grad and self.requires_grad else self
        result = function(operand, *args, **kwargs)
        if result.array.shape != self.array.shape:
            raise RuntimeError(
                f"{name}_: output with shape {list(self.array.shape)} doesn't match the broadcast shape "
                f"{list(result.array.shape)}"
            )
        if dtypes.category(result.dtype) > dtypes.category(self.dtype):
            raise RuntimeError(
                f"{name}_: result type {result.dtype} can't be cast to the desired output type {self.dtype}"
            )
        return copy_(self, result)

    method.__name__ = method.__qualname__ = f"{name}_"
    method.__doc__ = f"``{name}`` in place."
    return method


def _as_view(function: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    """The method that makes a tensor the view that ``function`` gives, of the memory that it had."""

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        check_target(f"{name}_", self)
        source = self
        if self.view_of is None:  # the owner of the memory goes on under another name
            source = twin(self)
            source.storage = self.shared_storage()
        view = function(source, *args, **kwargs)
        rebindings.count += 1
        self.array, self.view_of, self.storage = view.array, view.view_of, view.storage
        self.view_time, self.edge, self.dual = view.view_time, view.edge, view.dual
        return self

    method.__name__ = method.__qualname__ = f"{name}_"
    method.__doc__ = f"``{name}`` in place: the tensor becomes the view."
    return method


def add_(self: Tensor, other: Any, *, alpha: float = 1) -> Tensor:
    """``self += alpha * other``."""
    if alpha != 1:
        return call_in_place(arithmetic.SCALED_ADD, self, other, alpha)
    return call_in_place(arithmetic.formula_of("add"), self, other)


def sub_(self: Tensor, other: Any, *, alpha: float = 1) -> Tensor:
    """``self -= alpha * other``."""
    if alpha != 1:
        return call_in_place(arithmetic.SCALED_SUBTRACT, self, other, alpha)
    return call_in_place(arithmetic.formula_of("subtract"), self, other)


def copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Overwrite with ``src``, broadcast and cast to this tensor's shape and dtype."""
    if isinstance(src, Tensor) and src.device != self.device:
        src = src.to(device=self.device)
    return call_in_place(_ASSIGN, self, src, any_cast=True)


def fill_(self: Tensor, value: Any) -> Tensor:
    """Overwrite all elements with one value."""
    return call_in_place(_ASSIGN, self, value, any_cast=True)


def zero_(self: Tensor) -> Tensor:
    """Overwrite all elements with 0."""
    return call_in_place(_ASSIGN, self, 0, any_cast=True)


def clamp_(self: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Limit to [min, max] in place.

    Raises:
        RuntimeError: both bounds are None.
    """
    if min is None and max is None:
        raise RuntimeError("clamp_: at least one of min or max must not be None")
    if max is None:
        return call_in_place(clamping.CLAMP_MIN, self, min)
    if min is None:
        return call_in_place(clamping.CLAMP_MAX, self, max)
    return call_in_place(arithmetic.formula_of("clip"), self, min, max)


def clamp_min_(self: Tensor, min: Any) -> Tensor:
    """Limit from below in place."""
    return call_in_place(clamping.CLAMP_MIN, self, min)


def clamp_max_(self: Tensor, max: Any) -> Tensor:
    """Limit from above in place."""
    return call_in_place(clamping.CLAMP_MAX, self, max)


def addcmul_(self: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """``self += value * tensor1 * tensor2``."""
    return call_in_place(arithmetic.ADDCMUL, self, tensor1, tensor2, value)


def addcdiv_(self: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """``self += value * tensor1 / tensor2``."""
    return call_in_place(arithmetic.ADDCDIV, self, tensor1, tensor2, value)


def lerp_(self: Tensor, end: Tensor, weight: Any) -> Tensor:
    """``self += weight * (end - self)``."""
    return call_in_place(arithmetic.LERP, self, end, weight)


def div_(self: Tensor, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """``self /= other``, rounded to ``floor`` or ``trunc`` if asked.

    Raises:
        ValueError: another rounding mode.
    """
    if rounding_mode is None:
        return call_in_place(arithmetic.formula_of("divide"), self, other)
    return copy_(self, arithmetic.divide(self, other, rounding_mode=rounding_mode))


def round_(self: Tensor, *, decimals: int = 0) -> Tensor:
    """To the nearest integer (or multiple of 10^-decimals), halves to even, in place."""
    if decimals:
        return copy_(self, arithmetic.round(self, decimals=decimals))
    return call_in_place(arithmetic.formula_of("rint"), self)


def fill_diagonal_(self: Tensor, fill_value: float, wrap: bool = False) -> Tensor:
    """Overwrite the main diagonal: of a matrix, or of a cube of any dimension.

    Args:
        self: at least 2 axes; of equal lengths if there are more.
        fill_value: the number.
        wrap: of a tall matrix go on, one row below the end.

    Raises:
        RuntimeError: fewer than 2 axes, or axes of different lengths.
    """
    sizes = self.array.shape
    if len(sizes) < 2 or (len(sizes) > 2 and len(set(sizes)) > 1):
        raise RuntimeError(
            f"fill_diagonal_: needs a matrix, or axes of equal lengths, got shape {tuple(sizes)}"
        )
    if len(sizes) > 2:
        window = self
        for _ in sizes[1:]:
            window = window.diagonal(0, 0, 1) if window.array.ndim == 2 else _first_diagonal(window)
        window.fill_(fill_value)
        return self
    rows, columns = sizes
    for start in range(0, rows if wrap else 1, columns + 1):
        self[start:].diagonal().fill_(fill_value)
    return self


def _first_diagonal(x: Tensor) -> Tensor:
    """The diagonal of the first two axes as the first axis."""
    return x.diagonal(0, 0, 1).movedim(-1, 0)


subtract_, clip_ = sub_, clamp_
abs_ = absolute_ = _method("abs")
acos_ = arccos_ = _method("acos")
acosh_ = arccosh_ = _method("acosh")
addbmm_ = _by_copy(products.addbmm)
addmm_ = _by_copy(products.addmm)
addmv_ = _by_copy(products.addmv)
addr_ = _by_copy(products.addr)
as_strided_ = _as_view(layout.as_strided, "as_strided")
asin_ = arcsin_ = _method("asin")
asinh_ = arcsinh_ = _method("asinh")
atan_ = arctan_ = _method("atan")
atanh_ = arctanh_ = _method("atanh")
baddbmm_ = _by_copy(products.baddbmm)
bitwise_left_shift_ = _method("bitwise_left_shift", "left_shift")
bitwise_not_ = _method("bitwise_not")
bitwise_right_shift_ = _method("bitwise_right_shift", "right_shift")
conj_physical_ = _by_copy(complex_numbers.conj_physical, "conj_physical")
copysign_ = _method("copysign")
cosh_ = _method("cosh")
deg2rad_ = _method("deg2rad")
digamma_ = _method("digamma")
eq_ = _truth("eq", "equal")
erfc_ = _method("erfc")
erfinv_ = _method("erfinv")
exp2_ = _method("exp2")
float_power_ = _method("float_power")
frac_ = _by_copy(arithmetic.frac)
gcd_ = _by_copy(numbers.gcd)
ge_ = greater_equal_ = _truth("ge", "greater_equal")
gt_ = greater_ = _truth("gt", "greater")
heaviside_ = _method("heaviside")
hypot_ = _method("hypot")
i0_ = _by_copy(special_functions.i0)
igamma_ = _by_copy(special_functions.igamma)
igammac_ = _by_copy(special_functions.igammac)
lcm_ = _by_copy(numbers.lcm)
ldexp_ = _by_copy(numbers.ldexp)
le_ = less_equal_ = _truth("le", "less_equal")
lgamma_ = _method("lgamma")
log10_ = _method("log10")
log2_ = _method("log2")
logical_and_ = _truth("logical_and", "logical_and")
logical_not_ = _truth("logical_not", "logical_not")
logical_or_ = _truth("logical_or", "logical_or")
logical_xor_ = _truth("logical_xor", "logical_xor")
logit_ = _by_copy(arithmetic.logit)
lt_ = less_ = _truth("lt", "less")
mvlgamma_ = _by_copy(special_functions.mvlgamma)
nan_to_num_ = _by_copy(clamping.nan_to_num)
ne_ = not_equal_ = _truth("ne", "not_equal")
nextafter_ = _method("nextafter")
polygamma_ = _by_copy(lambda self, n: arithmetic.polygamma(n, self), "polygamma")
rad2deg_ = _method("rad2deg")
renorm_ = _by_copy(statistics.renorm)
sgn_ = _by_copy(complex_numbers.sgn)
sinc_ = _method("sinc")
sinh_ = _method("sinh")
squeeze_ = _as_view(shape.squeeze, "squeeze")
t_ = _as_view(shape.t, "t")
transpose_ = swapaxes_ = swapdims_ = _as_view(shape.transpose, "transpose")
unsqueeze_ = _as_view(shape.unsqueeze, "unsqueeze")
xlogy_ = _method("xlogy")
atan2_ = arctan2_ = _method("atan2")
bitwise_and_ = _method("bitwise_and")
bitwise_or_ = _method("bitwise_or")
bitwise_xor_ = _method("bitwise_xor")
ceil_ = _method("ceil")
cos_ = _method("cos")
divide_ = true_divide_ = div_
erf_ = _method("erf")
exp_ = _method("exp")
expm1_ = _method("expm1")
floor_ = _method("floor")
floor_divide_ = _method("floor_divide")
fmod_ = _method("fmod")
log1p_ = _method("log1p")
log_ = _method("log")
mul_ = _method("mul", "multiply")
multiply_ = _method("multiply")
neg_ = negative_ = _method("neg", "negative")
pow_ = _method("pow")
reciprocal_ = _method("reciprocal")
relu_ = _method("relu")
remainder_ = _method("remainder")
rsqrt_ = _method("rsqrt")
sigmoid_ = _method("sigmoid", "expit")
sign_ = _method("sign")
sin_ = _method("sin")
sqrt_ = _method("sqrt")
square_ = _method("square")
tan_ = _method("tan")
tanh_ = _method("tanh")
trunc_ = fix_ = _method("trunc")
