"""Operations that a recording computes later: with the memory of its program, not with that of the function.

A function keeps what its backward pass will read, and no two of its arrays share memory; its program needs
less. So where a backend can say what the results of an operation look like without computing them, nothing is
computed while the function runs: the results are memory that nobody has touched, which costs none. The first
run of the program then writes them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.compiler.addresses import address_of, extent_of, owner_of
from nbdl.ops.primitive import LinearMap, Primitive
from nbdl.utils.observer import Observer

if TYPE_CHECKING:
    from nbdl.backend.numpy import NumpyBackend


class Deferral:
    """Stands before a backend: notes operations instead of computing them, for as long as that is possible.

    Args:
        backend: what computes.
        is_wanted: False to compute at once.

    Attributes:
        is_on: whether operations are still deferred. If not, all of them were computed.
    """

    def __init__(self, backend: NumpyBackend, is_wanted: bool):
        is_watched = isinstance(backend, Observer)  # a profiler, say, is to see the operations
        self.is_on = is_wanted and backend.name == "numba" and not is_watched
        self._backend = backend
        self._waiting: deque[tuple[Primitive, Sequence[Any], Any, bool]] = deque()
        self._unwritten: set[int] = set()  # ids of the arrays that own memory of which some is written later
        self._allocators: dict[Any, Callable[[], Any]] = {}

    def execute(self, primitive: Primitive, arrays: Sequence[Any], out: Any = None) -> Any:
        """As that of backends; the results may be memory that is written later."""
        if not self.is_on:
            return self._backend.execute(primitive, arrays, out=out)
        is_into = out is not None
        later = None
        are_arrays = all(type(x) is np.ndarray for x in (*arrays, *(_tuple(out) if is_into else ())))
        if are_arrays and self._can_be_checked(primitive, arrays):
            primitive.check(*arrays)
            primitive.check_values(*arrays)
            later = out if is_into else self._allocated(primitive, arrays)
        if later is None:
            self.compute()
            return self._backend.execute(primitive, arrays, out=out)
        self._waiting.append((primitive, arrays, later, is_into))
        self._unwritten.update(id(owner_of(x)) for x in _tuple(later))
        return later

    def overwrite(
        self, primitive: Primitive, rows: Sequence[Sequence[Any]], positions: tuple[int, ...]
    ) -> None:
        """As that of backends."""
        if not self.is_on:
            self._backend.overwrite(primitive, rows, positions)
            return
        for row in rows:
            outs = tuple([row[k] for k in positions])
            self.execute(primitive, row, outs if len(outs) > 1 else outs[0])

    def compute(self) -> None:
        """Compute all that waits, and defer nothing from now on."""
        self.is_on = False
        while self._waiting:  # what was computed is let go, so that memory is free as early as possible
            primitive, arrays, out, is_into = self._waiting.popleft()
            if is_into:
                self._backend.execute(primitive, arrays, out=out)
                continue
            results = self._backend.execute(primitive, arrays)  # without out=, as outside of a recording
            for target, values in zip(_tuple(out), _tuple(results), strict=True):
                target[...] = values

    def leave_to_program(self) -> bool:
        """Forget what waits, since a program will compute it; whether something did."""
        waited = bool(self._waiting)
        self._waiting.clear()
        return waited

    def _can_be_checked(self, primitive: Primitive, arrays: Sequence[Any]) -> bool:
        """Whether the elements that decide about an error are there: indices, if an operand holds integers.

        An index that does not exist must end the function where it is used, before it makes new state.
        """
        if type(primitive).check_values is Primitive.check_values:
            return True
        decisive = [x for x in arrays if x.dtype.kind in "biu"] or arrays
        return not any(id(owner_of(x)) in self._unwritten for x in decisive)

    def _allocated(self, primitive: Primitive, arrays: Sequence[Any]) -> Any:
        """Memory for the results; None if nobody can say what they are like."""
        key = primitive, tuple([(x.dtype, x.shape, x.strides, x.flags.aligned) for x in arrays])
        if key not in self._allocators:
            plan = self._backend.plan_for(primitive, arrays, None)
            allocate = self._like_trial(primitive, arrays) if plan is None else plan.allocate
            if allocate is None:
                return None
            self._allocators[key] = allocate
        return self._allocators[key]()

    def _like_trial(self, primitive: Primitive, arrays: Sequence[Any]) -> Callable[[], Any] | None:
        """Without a plan: memory like the result of zeros, which exists where the operation is linear."""
        if not isinstance(primitive, LinearMap) or len(arrays) > 1:
            return None
        (x,) = arrays
        start, stop = extent_of(x)
        zeros = np.ndarray(
            x.shape, x.dtype, np.zeros(stop - start, np.uint8), address_of(x) - start, x.strides
        )
        result = self._backend.execute(primitive, [zeros])
        prototype = np.empty_like(result)  # never touched, so that it costs no memory either
        return None if prototype.strides != result.strides else lambda: np.empty_like(prototype)


def _tuple(results: Any) -> tuple[Any, ...]:
    return results if type(results) is tuple else (results,)
