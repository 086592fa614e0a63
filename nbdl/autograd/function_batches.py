"""A Function under vmap: what its outputs are at the level below, where gradients may be taken."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from nbdl.autograd.batching import Batch, BatchLevel, batch_level, lifted
from nbdl.autograd.function import Function, FunctionContext
from nbdl.autograd.modes import mode
from nbdl.autograd.tensor import Tensor


class VmapInfo(NamedTuple):
    """What ``Function.vmap`` is told of the vmap.

    Attributes:
        batch_size: number of examples.
        randomness: what random operations do: ``error``, ``same`` or ``different``.
    """

    batch_size: int
    randomness: str


def batched_result(function: type[Function], args: tuple[Any, ...], level: BatchLevel) -> Any:
    """What ``function`` makes of ``args`` at ``level``, with the history that it has below.

    Returns:
        A tensor or a tuple as ``forward`` gives it; None where there is no history, nor a rule of its own.

    Raises:
        RuntimeError: the Function has a ``vmap``, but no ``setup_context``.
        ValueError: its ``vmap`` returned something else than outputs and their axes.
    """
    values, flags = [], []
    for arg in args:
        value, flag = _below(arg, level)
        values.append(value)
        flags.append(flag)
    is_batched, has_rule = any(flags), function.vmap is not Function.vmap
    if has_rule and is_batched:
        return _by_own_rule(function, values, flags, level)
    if not (has_rule or any(isinstance(value, Tensor) and _has_history(value) for value in values)):
        return None
    members = {"function": function, "flags": tuple(flags), "level": level}
    below: Any = type(function.__name__, (_Examples,), members) if is_batched else function
    return _at(level, below.apply(*values), is_batched)


def _at(level: BatchLevel, result: Any, is_batched: bool) -> Any:
    """A result of the level below as one of ``level``."""
    results = tuple(
        Batch(level, y, is_batched).tensor() if isinstance(y, Tensor) else y for y in _as_tuple(result)
    )
    return results if isinstance(result, tuple) else results[0]


def _by_own_rule(function: type[Function], values: list[Any], flags: list[bool], level: BatchLevel) -> Any:
    name = function.__name__
    if function.setup_context is Function.setup_context:
        raise RuntimeError(f"{name}: a Function with its own vmap must have setup_context as well")
    axes = tuple(0 if is_batched else None for is_batched in flags)
    found = function.vmap(VmapInfo(level.size, level.randomness), axes, *values)
    if not isinstance(found, tuple) or len(found) != 2:
        raise ValueError(f"{name}: vmap must return (outputs, out_dims), got {type(found).__name__}")
    result, places = found
    results = _as_tuple(result)
    dims = places if isinstance(places, tuple) else (places,) * len(results)
    if len(dims) != len(results):
        raise ValueError(f"{name}: vmap returned {len(results)} outputs and {len(dims)} out_dims")
    outputs = tuple(
        Batch(level, y if dim is None else y.movedim(dim, 0), dim is not None).tensor()
        if isinstance(y, Tensor)
        else y
        for y, dim in zip(results, dims, strict=True)
    )
    return outputs if isinstance(result, tuple) else outputs[0]


def _as_tuple(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def _below(x: Any, level: BatchLevel) -> tuple[Any, bool]:
    """The value at the level below, and whether its axis 0 counts examples."""
    batch = x.batch if isinstance(x, Tensor) else None
    return (x, False) if batch is None or batch.level is not level else (batch.value, batch.is_batched)


def _has_history(x: Tensor) -> bool:
    """Whether a derivative by ``x`` may be wanted, at its level or below."""
    if (x.requires_grad and mode.grad) or x.dual is not None or x.view_of is not None:
        return True
    return x.batch is not None and _has_history(x.batch.value)


class _Examples(Function):
    """All examples of a call of another Function as one call, at the level below."""

    function: ClassVar[type[Function]]
    flags: ClassVar[tuple[bool, ...]]
    level: ClassVar[BatchLevel]

    @classmethod
    def forward(cls, ctx: Any, *values: Any) -> Any:
        """``forward`` of the other one under a vmap of its own."""
        ctx.inner = inner = FunctionContext()
        inner.needs_input_grad = ctx.needs_input_grad
        with batch_level(cls.level.size, cls.level.randomness) as level:
            result = cls.function._run(inner, cls._entering(values, level))
            if inner._dirty:
                raise RuntimeError(
                    f"{cls.__name__}: mark_dirty cannot be used under vmap with gradients taken outside"
                )
            made = {
                id(y): lifted(y, level).batch.full()  # type: ignore[union-attr]
                for y in _as_tuple(result)
                if isinstance(y, Tensor)
            }
            saved = [_saved(x, made, level) for x in inner._to_save]
            saved_forward = [_saved(x, made, level) for x in inner._to_save_forward]
        ctx.batched, ctx.batched_forward = [flag for _, flag in saved], [flag for _, flag in saved_forward]
        ctx.save_for_backward(*[value for value, _ in saved])
        ctx.save_for_forward(*[value for value, _ in saved_forward])
        ctx.mark_non_differentiable(*[made[id(y)] for y in inner._constant])
        ctx.set_materialize_grads(inner._materialize)
        results = tuple(made[id(y)] if isinstance(y, Tensor) else y for y in _as_tuple(result))
        inner._to_save = inner._to_save_forward = inner._constant = ()
        return results if isinstance(result, tuple) else results[0]

    @classmethod
    def backward(cls, ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        """``backward`` of the other one; what all examples share gets the sum of their gradients."""
        with batch_level(cls.level.size, cls.level.randomness) as level:
            ctx.inner._readable = _wrapped(ctx.saved_tensors, ctx.batched, level)
            try:
                found = cls.function.backward(ctx.inner, *_wrapped(gradients, [True] * len(gradients), level))
            finally:
                ctx.inner._readable = None
            totals = [_full(g, level) for g in _as_tuple(found)]
        return tuple(
            g.sum(0) if isinstance(g, Tensor) and k < len(cls.flags) and not cls.flags[k] else g
            for k, g in enumerate(totals)
        )

    @classmethod
    def jvp(cls, ctx: Any, *tangents: Tensor | None) -> tuple[Any, ...]:
        """``jvp`` of the other one."""
        with batch_level(cls.level.size, cls.level.randomness) as level:
            ctx.inner._readable = _wrapped(ctx.saved_tensors, ctx.batched_forward, level)
            try:
                found = cls.function.jvp(ctx.inner, *cls._entering(tangents, level))
            finally:
                ctx.inner._readable = None
            return tuple([_full(tangent, level) for tangent in _as_tuple(found)])

    @classmethod
    def _entering(cls, values: Any, level: BatchLevel) -> list[Any]:
        return list(_wrapped(values, cls.flags, level))


def _wrapped(values: Any, flags: Any, level: BatchLevel) -> tuple[Any, ...]:
    """Those of ``values`` that have examples, as tensors of ``level``."""
    return tuple(
        Batch(level, x, True).tensor() if is_batched and x is not None else x
        for x, is_batched in zip(values, flags, strict=True)
    )


def _full(x: Any, level: BatchLevel) -> Any:
    return lifted(x, level).batch.full() if isinstance(x, Tensor) else x  # type: ignore[union-attr]


def _saved(x: Tensor | None, made: dict[int, Tensor], level: BatchLevel) -> tuple[Any, bool]:
    """A saved tensor at the level below, an operand or output as the same object that it is there."""
    return (made[id(x)], True) if id(x) in made else _below(x, level)
