"""The pointwise primitive: any formula; its derivatives are formulas again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import FUNCTIONS, Expr, Formula
from nbdl.formula import dtypes as rules
from nbdl.formula.formula import Term
from nbdl.formula.printers import is_truth_value
from nbdl.ops.batching import aligned
from nbdl.ops.primitive import Primitive, bits_of, check_broadcast, summed_axes

if TYPE_CHECKING:
    from nbdl.autograd.batching import BatchLevel
    from nbdl.autograd.tape import Node

__all__ = ["pointwise"]


# Functions whose gradients PyTorch computes from the operands, and formulas here from the value.
_READ_BY_OPERANDS = frozenset(FUNCTIONS[name] for name in ("divide", "erfinv", "logaddexp", "logaddexp2"))
_SIGNED = frozenset((FUNCTIONS["subtract"], FUNCTIONS["negative"]))


class Pointwise(Primitive):
    """A formula on broadcast operands.

    Args:
        formula: the formula.
        weak: bit k is set where operand k was a Python number, whose width does not count in promotion.
    """

    name = "pointwise"

    def __init__(self, formula: Formula, weak: int = 0):
        super().__init__(formula=formula, weak=weak)
        self.formula, self.weak = formula, weak
        self.label = formula.name
        self.differentiable = not all(is_truth_value(root) for root in formula.outputs)
        self.protects_output = formula.outputs[0].function in _READ_BY_OPERANDS
        self._saves: dict[int, tuple[frozenset[int] | None, bool]] = {}
        self._vjps: dict[tuple[int, int], list[tuple[int, Derivative | None]]] = {}

    def check(self, *arrays: Any) -> None:
        """Operands must broadcast, and have dtypes that the functions take."""
        check_broadcast(self.label, arrays)
        dtypes, priorities = tuple([a.dtype for a in arrays]), rules.priorities(arrays, self.weak)
        result, _, _ = rules.arithmetic(self.formula, dtypes, priorities)
        if result == rules.BOOL and not _SIGNED.isdisjoint(self.formula.functions):
            raise RuntimeError(
                f"{self.label}: bools cannot be subtracted or negated; use ^ or logical_xor, ~ or logical_not"
            )

    def saves(self, needs: int) -> tuple[frozenset[int] | None, bool]:
        """What the derivative formula contains."""
        found = self._saves.get(needs)
        if found is None:
            rule = self.formula.vjp(needs, (1 << len(self.formula.outputs)) - 1)
            found = self._saves[needs] = (rule.saved_inputs or None, rule.saves_output)
        return found

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Any:
        """Every example broadcasts by itself."""
        return self(*aligned(of_dtypes_of_examples(self, values, flags), flags))

    def is_differentiable_output(self, k: int) -> bool:
        """Truth values have no derivative."""
        return not is_truth_value(self.formula.outputs[k])

    def vjp(self, node: Node, *gradients: Tensor | None, conjugate: bool = True) -> Sequence[Tensor | None]:
        """One derivative formula an operand, summed over the axes that broadcasting had added."""
        if conjugate and node.specs[0][1].kind == "c":
            return conjugated(self.vjp, node, gradients)
        key = (node.needs, 1 if len(gradients) == 1 else bits_of(gradients))
        rule = self._vjps.get(key)
        if rule is None:
            rule = self._vjps[key] = self._vjp_rule(*key)
        full = node.specs[0][0]
        results: list[Tensor | None] = [None] * self.formula.arity
        for k, derivative in rule:
            if derivative is None:
                results[k] = zeros_of(node, k, gradients)
                continue
            operands: list[Any] = []
            for kind, index in derivative.term.sources:
                if kind == "g":
                    operands.append(gradients[index])
                elif kind == "x":
                    operands.append(node.input(index))
                else:
                    operands.append(node.output(index))
            shape = node.shape(k)
            if shape == full and derivative.primitive is not None:
                results[k] = apply(derivative.primitive, *operands)
            else:
                results[k] = sum_derivative_to(derivative, operands, full, shape)
        return results

    def _vjp_rule(self, needs: int, given: int) -> list[tuple[int, Derivative | None]]:
        """The needed operands with their derivatives; None for one that is zero."""
        terms = self.formula.vjp(needs, given).terms
        return [
            (k, None if term is None else Derivative.of(term, weak_sources(term, self.weak)))
            for k, term in enumerate(terms)
            if needs >> k & 1
        ]

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> list[Tensor | None]:
        """One formula an output."""
        given = bits_of(tangents)
        results: list[Tensor | None] = []
        for output, term in zip(outputs, self.formula.jvp(given).terms, strict=True):
            if term is None:
                results.append(None)
                continue
            pool = {"x": inputs, "y": outputs, "t": tangents}
            operands = [pool[kind][index] for kind, index in term.sources]
            weak = weak_sources(term, self.weak)
            tangent = operands[0] if term.formula.is_identity else Pointwise.of(term.formula, weak)(*operands)
            tangent = tangent.expand(output.array.shape)  # type: ignore[union-attr]
            results.append(tangent if tangent.dtype == output.dtype else tangent.to(output.dtype))
        return results


def of_dtypes_of_examples(primitive: Any, values: Sequence[Tensor], flags: Sequence[bool]) -> list[Tensor]:
    """Operands of a formula in dtypes that promote as those of one example.

    A tensor without axes does not widen the dtype of one that has some; with the batch axis it would.
    """
    operands = list(values)
    found = {x.array.dtype for x in operands}
    ranks = [x.array.ndim - is_batched for x, is_batched in zip(values, flags, strict=True)]
    if len(found) == 1 or min(ranks) > 0:
        return operands
    weak = primitive.weak
    priorities = tuple([0 if weak >> k & 1 else 2 if rank else 1 for k, rank in enumerate(ranks)])
    common, _, _ = rules.arithmetic(primitive.formula, tuple([x.array.dtype for x in operands]), priorities)
    return [
        x if weak >> k & 1 or x.array.dtype == rules.BOOL else x.to(common) for k, x in enumerate(operands)
    ]


def conjugated(
    rule: Callable[..., Sequence[Tensor | None]], node: Node, gradients: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The gradients of an operation that is holomorphic, from a rule that multiplies by its derivative.

    A gradient of a complex z = x + iy is dL/dx + i dL/dy, as in PyTorch; so w = f(z) takes g to
    g * conj(f'(z)) = conj(conj(g) * f'(z)). The gradient of a real operand is the real part of that.
    """
    results = rule(node, *[None if g is None else g.conj() for g in gradients], conjugate=False)
    return [None if result is None else result.conj() for result in results]


def weak_sources(term: Term, weak: int) -> int:
    """Which operands of a derivative formula are Python numbers, from which operands of the formula are."""
    return sum(
        (weak >> index & 1) << position for position, (kind, index) in enumerate(term.sources) if kind == "x"
    )


def zeros_of(node: Node, k: int, gradients: Sequence[Tensor | None]) -> Tensor:
    """A gradient of zeros for operand k, on the device of the given gradients."""
    some = next(gradient for gradient in gradients if gradient is not None)
    return some.new_zeros(node.shape(k), dtype=node.dtype(k))


class Derivative(NamedTuple):
    """A derivative formula, ready to be applied.

    Attributes:
        term: the formula, and where its operands come from.
        weak: bit k is set where operand k is a Python number.
        primitive: what computes it elementwise; None where it is its operand.
    """

    term: Term
    weak: int
    primitive: Pointwise | None

    @classmethod
    def of(cls, term: Term, weak: int) -> Derivative:
        """The derivative with its primitive."""
        return cls(term, weak, None if term.formula.is_identity else Pointwise.of(term.formula, weak))


def sum_derivative_to(
    derivative: Derivative, operands: Sequence[Tensor], full: tuple[int, ...], shape: tuple[int, ...]
) -> Tensor:
    """A derivative of operands that broadcast to ``full``, summed to ``shape`` in the same loop."""
    if derivative.primitive is None:
        return sum_to(operands[0], shape)
    if full == shape:
        return apply(derivative.primitive, *operands)
    axes = summed_axes(full, shape)
    summed = apply(Reduce.of(derivative.term.formula, "sum", axes, False, derivative.weak), *operands)
    return summed if summed.array.shape == shape else summed.reshape(shape)


# ------------------------------------------------------------------------------- Python numbers as operands
_scalars: dict[tuple[type, Any], Tensor] = {}


def scalar(value: bool | int | float | complex) -> Tensor:
    """A Python number as a 0-d tensor; small, so common ones are kept."""
    if isinstance(value, complex):  # its zeros have signs of their own
        return Tensor(_constant(value))
    key = (type(value), value)
    tensor = _scalars.get(key)
    if tensor is None or value != value or value == 0:  # NaN is not equal to itself, -0.0 is equal to 0.0
        tensor = Tensor(_constant(value))
        if len(_scalars) < 1024:
            _scalars[key] = tensor
    return tensor


def _constant(value: bool | int | float | complex) -> np.ndarray:
    """A 0-d array that nobody can change, so that a program may make a literal of it."""
    array = np.array(value)
    array.flags.writeable = False
    return array


def operand(label: str, position: int, value: Any) -> tuple[Tensor, bool]:
    """``value`` as a tensor, and whether it was a number.

    Raises:
        TypeError: it is neither a tensor nor a number.
    """
    if isinstance(value, Tensor):
        return value, False
    if isinstance(value, (bool, int, float, complex)):
        return scalar(value), True
    if isinstance(value, np.ndarray):
        return Tensor(value), False
    if isinstance(value, np.generic):
        return scalar(value.item()), True
    raise TypeError(
        f"{label}(): argument {position} must be a tensor, an array or a number, got {type(value).__name__}"
    )


def call(formula: Formula, *values: Any) -> Any:
    """Apply a formula to tensors and numbers."""
    weak, tensors = 0, []
    for k, value in enumerate(values):
        if isinstance(value, Tensor):
            tensors.append(value)
        else:
            tensor, is_number = operand(formula.name, k + 1, value)
            tensors.append(tensor)
            weak |= is_number << k
    return apply(Pointwise.of(formula, weak), *tensors)


def pointwise(
    name: str, definition: Callable[..., Expr | float | tuple], arity: int | None = None
) -> Callable[..., Any]:
    """Make a differentiable operation of a scalar formula.

    Args:
        name: what errors and programs call it.
        definition: a Python function of scalars, called once with symbolic ones; the grammar is ``+ - * /``,
            comparisons, calls of the functions of :mod:`nbdl.formula`, and ``where``.
        arity: number of operands; default: the positional parameters of ``definition``.

    Returns:
        A function of tensors and numbers, with derivatives of any order, on every backend.

    Example:
        >>> import nbdl
        >>> from nbdl.formula import exp
        >>> swish = nbdl.pointwise("swish", lambda x: x / (1 + exp(-x)))
        >>> swish(nbdl.tensor([0.0, 1.0]))
        tensor([0.0000, 0.7311])
    """
    if arity is None:
        arity = definition.__code__.co_argcount
    formula = Formula(name, definition, arity)

    def operation(*values: Any) -> Any:
        if len(values) != formula.arity:
            raise TypeError(f"{name}() takes {formula.arity} operands but {len(values)} were given")
        return call(formula, *values)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = f"Pointwise {', '.join(map(repr, formula.outputs))}."
    operation.formula = formula  # type: ignore[attr-defined]
    return operation


from nbdl.ops.reduction import Reduce, sum_to  # noqa: E402  (each of the two modules needs the other)
