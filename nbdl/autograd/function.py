"""Function: an operation with hand-written derivatives, from tensors to tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from nbdl.autograd import inplace
from nbdl.autograd.batching import level_of
from nbdl.autograd.modes import mode, recording
from nbdl.autograd.tape import Node, wrap
from nbdl.autograd.tensor import Tensor
from nbdl.ops.primitive import NOTHING, Primitive


class FunctionContext:
    """What ``forward`` leaves for ``backward`` and ``jvp``; any other attribute may be set on it as well.

    Attributes:
        needs_input_grad: for each argument of ``apply`` whether it needs a gradient.
    """

    needs_input_grad: tuple[bool, ...]

    def __init__(self) -> None:
        self._to_save: tuple[Tensor | None, ...] = ()
        self._to_save_forward: tuple[Tensor | None, ...] = ()
        self._dirty: tuple[Tensor, ...] = ()
        self._constant: tuple[Tensor, ...] = ()
        self._materialize = True
        # While a rule runs: the tensors it may read.
        self._readable: tuple[Tensor | None, ...] | None = None

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for ``backward``, which reads them as ``saved_tensors``; once, in ``forward``.

        Arguments and outputs come back connected to the tape. Other tensors come back as constants: a second
        derivative does not see that they depend on the arguments.
        """
        _check_tensors("save_for_backward", tensors)
        self._to_save = tensors

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for ``jvp``, which reads them as ``saved_tensors``."""
        _check_tensors("save_for_forward", tensors)
        self._to_save_forward = tensors

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say that ``forward`` changed these arguments in place; they must be returned."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say that these outputs have no derivative."""
        self._constant = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether missing gradients and tangents arrive as zeros (the default) or as None."""
        self._materialize = value

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """The saved tensors, connected to the tape.

        Raises:
            RuntimeError: outside ``backward`` and ``jvp``.
        """
        if self._readable is None:
            raise RuntimeError("saved_tensors: can be read in backward and jvp only")
        return self._readable


def _check_tensors(caller: str, tensors: Sequence[Any]) -> None:
    for k, tensor in enumerate(tensors):
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"{caller}: can only save tensors, but argument {k} is of type {type(tensor).__name__}"
            )


class Function:
    """Base of operations that bring their own derivatives.

    A subclass has static methods ``forward(ctx, *args)`` (or ``forward(*args)`` beside ``setup_context(ctx,
    inputs, output)``), ``backward(ctx, *grad_outputs)`` with one gradient an argument, and for forward mode
    ``jvp(ctx, *tangents)`` with one tangent an output. Run it with ``apply``. ``forward`` is not recorded;
    ``backward`` is, where a second derivative is wanted.

    Example:
        >>> import nbdl
        >>> class Cube(nbdl.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         ctx.save_for_backward(x)
        ...         return x * x * x
        ...     @staticmethod
        ...     def backward(ctx, grad):
        ...         (x,) = ctx.saved_tensors
        ...         return 3 * x * x * grad
        >>> x = nbdl.tensor(2.0, requires_grad=True)
        >>> Cube.apply(x).backward()
        >>> x.grad
        tensor(12.)
    """

    def __init__(self, *args: Any, **kwargs: Any):
        raise RuntimeError(
            f"{type(self).__name__}: a Function is not instantiated; call {type(self).__name__}.apply(...)"
        )

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """The operation: tensors, and anything else, to a tensor or a tuple of them."""
        raise NotImplementedError("a Function must implement the static method forward(ctx, *args)")

    @staticmethod
    def setup_context(ctx: FunctionContext, inputs: tuple[Any, ...], output: Any) -> None:
        """What ``backward`` needs, where ``forward`` takes no ``ctx``."""
        raise NotImplementedError("setup_context is not implemented")

    @staticmethod
    def backward(ctx: FunctionContext, *grad_outputs: Any) -> Any:
        """The gradients of the arguments, None for those that have none."""
        raise NotImplementedError(
            "You must implement the backward method of a Function to use it in reverse mode"
        )

    @staticmethod
    def jvp(ctx: FunctionContext, *grad_inputs: Any) -> Any:
        """The tangents of the outputs."""
        raise NotImplementedError("You must implement the jvp method of a Function to use it in forward mode")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        """The operation on many examples: (outputs, out_dims).

        ``info`` has ``batch_size`` and ``randomness``; ``in_dims`` says for each argument which axis counts
        examples, or None. Without this method ``forward`` runs on tensors that stand for one example each.
        """
        raise NotImplementedError("vmap is not implemented")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run it on ``args`` and record it."""
        ctx = FunctionContext()
        inputs = [arg for arg in args if isinstance(arg, Tensor)]
        ctx.needs_input_grad = tuple(
            isinstance(arg, Tensor) and arg.requires_grad and mode.grad for arg in args
        )
        values = [_forgetful(arg) if isinstance(arg, Tensor) else arg for arg in args]
        level = level_of(inputs) if mode.batch_levels else None
        known = None
        if level is not None:
            from nbdl.autograd.function_batches import batched_result  # made of Functions itself

            known = batched_result(cls, args, level)
        with recording(False):
            result = cls._run(ctx, values, known)
        results = result if isinstance(result, tuple) else (result,)
        outputs = [y for y in results if isinstance(y, Tensor)]
        if outputs:
            seen = [value for value in values if isinstance(value, Tensor)]
            outputs = _FunctionCall(cls, ctx, args, seen, results).record(inputs, outputs)
        remaining = iter(outputs)
        finished = tuple(next(remaining) if isinstance(y, Tensor) else y for y in results)
        return finished if isinstance(result, tuple) else finished[0]

    @classmethod
    def _run(cls, ctx: FunctionContext, values: Sequence[Any], known: Any = None) -> Any:
        """``forward`` and ``setup_context``; ``known`` is what the batches of the outputs are."""
        if cls.setup_context is not Function.setup_context:
            result = cls.forward(*values) if known is None else known
            cls.setup_context(ctx, tuple(values), result)
            return result
        result = cls.forward(ctx, *values)
        if known is not None:
            pairs = zip(*(x if isinstance(x, tuple) else (x,) for x in (result, known)), strict=True)
            for y, source in pairs:
                if isinstance(y, Tensor):
                    y.batch = source.batch
        return result


def _forgetful(x: Tensor) -> Tensor:
    """The same memory and version, without history and tangents: what ``forward`` sees."""
    twin = x.detach()
    twin.requires_grad = x.requires_grad
    return twin


def _position(tensors: Sequence[Any], wanted: Any) -> int | None:
    """Where ``wanted`` itself stands in ``tensors``."""
    return next((k for k, tensor in enumerate(tensors) if tensor is wanted), None)


class _FunctionCall(Primitive):
    """One call of a Function as a primitive.

    Its operands are the tensors among the arguments, then the other tensors that ``forward`` saved. The
    context keeps only where each saved tensor stands, so that no output is referred to by its own node.
    """

    name = "function"

    def __init__(
        self,
        function: type[Function],
        ctx: FunctionContext,
        args: Sequence[Any],
        seen: Sequence[Tensor],
        result: Any,
    ):
        super().__init__()
        self.label = function.__name__
        self.function, self.ctx = function, ctx
        self.positions = tuple(k for k, arg in enumerate(args) if isinstance(arg, Tensor))
        self.other_args = tuple(None if isinstance(arg, Tensor) else arg for arg in args)
        outputs = [y for y in result if isinstance(y, Tensor)]
        self.dirty = {
            k: _position(outputs, x) for k, x in enumerate(seen) if _position(ctx._dirty, x) is not None
        }
        self.aliases = {
            k: _position(seen, y) for k, y in enumerate(outputs) if _position(seen, y) is not None
        }
        if None in self.dirty.values() or len(self.dirty) < len(ctx._dirty):
            raise RuntimeError(
                f"{self.label}: mark_dirty takes arguments of forward that it changed in place and returned"
            )
        self.smooth = [y.is_floating_point() and _position(ctx._constant, y) is None for y in outputs]
        self.differentiable = any(self.smooth)
        self.extras: list[Tensor] = []
        self.saved_backward = [self._source(x, seen, outputs) for x in ctx._to_save]
        self.saved_forward = [self._source(x, seen, outputs) for x in ctx._to_save_forward]
        ctx._to_save = ctx._to_save_forward = ctx._dirty = ctx._constant = ()

    def _source(
        self, x: Tensor | None, seen: Sequence[Tensor], outputs: Sequence[Tensor]
    ) -> tuple[str, int] | None:
        """Which operand (``x``) or output (``y``) a saved tensor is; if neither, it becomes an operand."""
        if x is None:
            return None
        operand, output = _position(seen, x), _position(outputs, x)
        if output is not None and (operand is None or operand in self.dirty):
            return "y", output
        if operand is None:
            operand = len(seen) + len(self.extras)
            self.extras.append(_forgetful(x))
            self.extras[-1].requires_grad = False
        return "x", operand

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the Function again on other tensors."""
        args = list(self.other_args)
        for k, x in zip(self.positions, inputs, strict=False):
            args[k] = x
        result = self.function.apply(*args)
        return tuple(y for y in (result if isinstance(result, tuple) else (result,)) if isinstance(y, Tensor))

    def saves(self, needs: int) -> tuple[frozenset[int] | None, bool]:
        """What ``save_for_backward`` was given."""
        sources = [source for source in self.saved_backward if source is not None]
        return frozenset(k for kind, k in sources if kind == "x") or None, any(
            kind == "y" for kind, _ in sources
        )

    def is_differentiable_output(self, k: int) -> bool:
        """Floating outputs that are not marked otherwise."""
        return self.smooth[k]

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """``backward``, its result checked."""
        if self.ctx._materialize:
            gradients = self._materialized(gradients, node.specs)
        self.ctx._readable = tuple(
            None if source is None else node.input(source[1]) if source[0] == "x" else node.output(source[1])
            for source in self.saved_backward
        )
        try:
            found = self.function.backward(self.ctx, *gradients)
        finally:
            self.ctx._readable = None
        found = found if isinstance(found, tuple) else (found,)
        expected = len(self.other_args)
        if len(found) < expected or any(g is not None for g in found[expected:]):
            raise RuntimeError(
                f"function {node.name()} returned an incorrect number of gradients (expected {expected}, "
                f"got {len(found)})"
            )
        for k, g in enumerate(found[:expected]):
            if g is not None and not isinstance(g, Tensor):
                raise TypeError(
                    f"function {node.name()} returned a gradient of type {type(g).__name__} at position "
                    f"{k}; expected a tensor or None"
                )
            if g is not None and k not in self.positions:
                raise RuntimeError(
                    f"function {node.name()} returned a gradient different from None at position {k + 1}, "
                    "but the corresponding forward input was not a tensor"
                )
        return [*[found[k] for k in self.positions], *[None] * len(self.extras)]

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """``Function.jvp``, its result checked."""
        specs = [(x.array.shape, x.array.dtype) for x in inputs]
        directions = self._materialized(tangents, specs) if self.ctx._materialize else tangents
        args: list[Tensor | None] = [None] * len(self.other_args)
        for k, tangent in zip(self.positions, directions, strict=False):
            args[k] = tangent
        self.ctx._readable = tuple(
            None if source is None else (inputs if source[0] == "x" else outputs)[source[1]]
            for source in self.saved_forward
        )
        try:
            found = self.function.jvp(self.ctx, *args)
        finally:
            self.ctx._readable = None
        found = found if isinstance(found, tuple) else (found,)
        if len(found) != len(outputs):
            raise RuntimeError(f"{self.label}.jvp returned {len(found)} tangents for {len(outputs)} outputs")
        for y, tangent in zip(outputs, found, strict=True):
            if tangent is not None and tangent.shape != y.shape:
                raise RuntimeError(
                    f"{self.label}.jvp returned a tangent of shape {tuple(tangent.shape)} for an output "
                    f"of shape {tuple(y.shape)}"
                )
        return [tangent if smooth else None for tangent, smooth in zip(found, self.smooth, strict=True)]

    @staticmethod
    def _materialized(vectors: Sequence[Tensor | None], specs: Sequence[tuple]) -> tuple[Tensor, ...]:
        some = next(vector for vector in vectors if vector is not None)
        return tuple(
            some.new_zeros(shape, dtype=dtype) if vector is None else vector
            for vector, (shape, dtype) in zip(vectors, specs, strict=True)
        )

    def record(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[Tensor]:
        """What ``forward`` returned, as outputs of a node with ``inputs`` as operands."""
        for k in self.dirty:
            inplace.check_target(self.label, inputs[k])
            inputs[k].mark_changed()
        operands = [inplace.twin(x) if k in self.dirty else x for k, x in enumerate(inputs)]
        arrays = tuple([y.batch or y.array for y in outputs])
        made = wrap(self, (*operands, *self.extras), arrays if len(arrays) > 1 else arrays[0])
        results = list(made) if isinstance(made, tuple) else [made]
        node = next((y.grad_fn for y in results if y.requires_grad), None)
        for k, source in self.aliases.items():
            results[k].storage = inputs[source].shared_storage()  # type: ignore[index]
        if node is not None and node.saved_outputs is not None:
            node.output_storage = tuple([y.shared_storage() for y in results])
        for k, output in self.dirty.items():
            inplace.rebase(inputs[k], results[output])  # type: ignore[index]
            results[output] = inputs[k]  # type: ignore[index]
        return results


class _OnceDifferentiable(Primitive):
    """The identity, whose derivative is an error."""

    name = "once_differentiable"
    saved = NOTHING

    def __init__(self, reason: str):
        super().__init__()
        self.reason = reason

    def vjp(self, node: Node, *gradients: Tensor | None) -> NoReturn:
        """Refuse."""
        raise RuntimeError(self.reason)

    def jvp(self, inputs: Any, outputs: Any, tangents: Any) -> NoReturn:
        """Refuse."""
        raise RuntimeError(self.reason)


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a ``backward`` that computes without recording: a second derivative is then an error."""

    @functools.wraps(backward)
    def wrapped(ctx: FunctionContext, *gradients: Any) -> Any:
        with recording(False):
            found = backward(ctx, *gradients)
        if not mode.grad:
            return found
        reason = "trying to differentiate twice a function that was marked with @once_differentiable"
        sources = [x for x in (*gradients, *ctx.saved_tensors) if isinstance(x, Tensor)]
        if isinstance(found, tuple):
            return tuple(guarded(g, reason, sources) for g in found)
        return guarded(found, reason, sources)

    return wrapped


def guarded(gradient: Any, reason: str, sources: Sequence[Tensor] = ()) -> Any:
    """The same value, whose derivative is an error with this text, also with respect to ``sources``."""
    if not isinstance(gradient, Tensor):
        return gradient
    batch = gradient.batch
    if batch is not None:  # a derivative taken outside of the vmap is one of the level below
        below = [x.batch.value if x.batch and x.batch.level is batch.level else x for x in sources]
        if any(x.requires_grad or x.batch or x.dual for x in below):
            batch = batch.with_value(guarded(batch.value, reason, below))
    source = gradient.detach()
    source.requires_grad = True
    return wrap(_OnceDifferentiable.of(reason), (source, *sources), batch or gradient.array)
