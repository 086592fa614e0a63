"""``nbdl.compile``: a function that is recorded at its first call and replayed at later ones."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from nbdl.autograd.modes import mode
from nbdl.autograd.tensor import Tensor
from nbdl.backend import registry
from nbdl.compiler.aliasing import Writes
from nbdl.compiler.arguments import Arguments
from nbdl.compiler.captured import Captured
from nbdl.compiler.memory import without_idle_memory
from nbdl.compiler.passes import PASSES, improve
from nbdl.compiler.program import CAPTURED, INPUT
from nbdl.compiler.recorder import RecordingError
from nbdl.compiler.recording import Recording
from nbdl.compiler.replay import Replay
from nbdl.compiler.report import Profile, Report
from nbdl.compiler.variant import Variant
from nbdl.formula.dtypes import when_default_changes
from nbdl.nn.module import Module

if TYPE_CHECKING:
    pass

MAX_PROGRAMS = 64
MAX_VARIANTS = 8  # for the same arguments, which differ in where gradients from outside lie
_KEEPS = (
    "compile: the function keeps a tensor that it computed, beyond the call: {}. A program would leave it as "
    "it is now; return the tensor, or write into a tensor from outside with copy_()."
)
_ASSIGNS = (
    "compile: each call of the function gives {} another value, and a program would leave it as it is now. "
    "Keep what changes in a tensor and change that in place (add_(), copy_()), or assign it outside of the "
    "compiled function."
)


def compile(
    function: Callable[..., Any] | None = None,
    *,
    without: Sequence[str] = (),
    fullgraph: bool = True,
    dynamic: bool | None = None,
    backend: str = "inductor",
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
    disable: bool = False,
) -> Any:
    """Make a function that runs as a recorded program.

    The first call with arguments of some shapes and dtypes runs the function as it is and writes down the
    array operations: those of a forward pass, of a backward pass, of an optimizer. Later calls run the
    improved program, without any Python between its operations.

    What Python does besides happens in the recorded call only. So

    - tensors and modules that the function uses from outside stay the ones they were, and are read and
      changed in place; parameters, optimizer state, running statistics, random numbers and learning rates
      are all up to date at every call;
    - Python numbers and strings that it uses from outside, or gets as arguments, are constants; another
      value makes another program;
    - reading a value into Python (``item()``, ``bool(tensor)``, ``numpy()``, printing) and shapes that depend
      on values raise :class:`RecordingError`;
    - results are new at each call; from those that need gradients ``backward()`` runs a program, too, which
      cannot be differentiated again. Gradients that the function itself leaves in ``.grad`` stay at their
      place in memory and are overwritten by the next call.

    Args:
        function: takes and returns tensors in nested tuples, lists and dicts; or a module. Without it, a
            decorator is returned.
        without: names of passes to leave out, see :data:`PASSES`.
        fullgraph: of PyTorch; a program is always whole.
        dynamic: of PyTorch; there is a program for each shape.
        backend: of PyTorch; arrays are computed by the backend that is chosen when the function is called.
        mode: of PyTorch; there is one.
        options: of PyTorch; there are none.
        disable: return ``function`` as it is.

    Returns:
        A :class:`Compiled` function, or a :class:`CompiledModule`.

    Raises:
        TypeError: ``function`` cannot be called.
        ValueError: there is no such pass, or options are given.

    Example:
        >>> import nbdl
        >>> weight = nbdl.ones(3, requires_grad=True)
        >>> optimizer = nbdl.optim.SGD([weight], lr=0.1)
        >>> @nbdl.compile
        ... def step(x):
        ...     optimizer.zero_grad()
        ...     loss = (weight * x).square().sum()
        ...     loss.backward()
        ...     optimizer.step()
        ...     return loss
        >>> [round(float(step(nbdl.ones(3))), 4) for _ in range(3)]
        [3.0, 1.92, 1.2288]
    """
    if options:
        raise ValueError(f"compile: options: there are none for programs, got {dict(options)}")
    if function is None:
        return functools.partial(compile, without=without, disable=disable)
    if disable:
        return function
    compiled = Compiled(function, without)
    if isinstance(function, Module):
        from nbdl.compiler.module import CompiledModule

        return CompiledModule(function, compiled)
    return compiled


class Compiled:
    """A function that is recorded and replayed; made by :func:`compile`.

    Args:
        function: what to record.
        without: names of passes to leave out.
        captured: what it uses from outside, if that is known.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        without: Sequence[str] = (),
        captured: Captured | None = None,
    ):
        if not callable(function):
            raise TypeError(f"compile: expected a function or a module, got {type(function).__name__}")
        for name in without:
            if name not in PASSES:
                raise ValueError(f"compile: without: unknown pass {name!r}; there are {', '.join(PASSES)}")
        self.function = function
        self._without = tuple(without)
        self._captured = captured or Captured(function)
        self._companion: tuple[Any, Compiled] | None = None
        self._with_objects: dict[Any, Captured] = {}
        self._variants: dict[Any, list[Variant]] = {}
        self._flowing: set[Any] = set()  # keys for which gradients of leaves flow out of the function
        _all.add(self)
        self._failures: dict[Any, int] = {}
        self._known_leaves: dict[int, Tensor] = {}
        functools.update_wrapper(self, function, updated=())

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the program for these arguments; without one, record it."""
        modes = mode.__dict__
        if modes["recorder"] is not None or modes["dual_level"] or modes["anomaly"]:
            return self.function(*args, **kwargs)  # part of another program, or Python has to look
        arguments = Arguments(args, kwargs)
        backend = modes["backend"] or registry.cpu or registry.select()
        casts = modes["autocast"] and modes["autocast"].key
        captured = self._captured_with(arguments) if arguments.objects else self._captured
        setting = (captured.token(), backend, modes["grad"], modes["inference"], casts)
        variant = self._variant((*setting, arguments.key), arguments)
        if variant is None and arguments.leaves:
            flowing = Arguments(arguments.args, arguments.kwargs, flowing=True)
            if (*setting, flowing.key) in self._flowing:
                arguments = flowing
                variant = self._variant((*setting, arguments.key), arguments)
        if variant is None and len(self._variants.get((*setting, arguments.key), ())) < MAX_VARIANTS:
            return self._record(setting, arguments)
        if variant is not None and variant.moved:
            arguments.add([leaf._grad for leaf in variant.moved])  # type: ignore[misc]
        if variant is None or variant.writes.collide(arguments.arrays):
            return self.function(*arguments.args, **arguments.kwargs)
        return variant.run(arguments)

    def _captured_with(self, arguments: Arguments) -> Captured:
        """What the function uses from outside, and of the objects among its arguments."""
        if not arguments.objects:
            return self._captured
        key = arguments.key[0], tuple([(k, id(value)) for k, value in arguments.objects.items()])
        found = self._with_objects.get(key)
        if found is None:
            if len(self._with_objects) >= MAX_PROGRAMS:
                self._with_objects.pop(next(iter(self._with_objects)))
            objects = list(arguments.objects.values())
            found = Captured(self.function, arguments.args, arguments.kwargs, objects)
            self._with_objects[key] = found
        return found

    def _variant(self, key: Any, arguments: Arguments) -> Variant | None:
        """The program for a key, if there is one that fits."""
        for variant in self._variants.get(key, ()):
            if variant.fits(arguments):
                return variant
        return None

    def program(self, /, *args: Any, **kwargs: Any) -> Report:
        """The program for these arguments, before and after it was improved, for reading.

        Runs the function once.
        """
        arguments = Arguments(args, kwargs)
        recording = self._run(arguments)
        program = recording.program
        return Report(program, improve(program, self._without), recording.backend)

    def companion(self, key: Sequence[Any], make: Callable[[Callable[..., Any]], Any]) -> Compiled:
        """A compiled function around this one, such as a step along a line and the loss at its end.

        Args:
            key: what else that function works on; it is kept until other objects are named here.
            make: gives the function, which calls its argument and beside it is known not to change.
        """
        known = self._companion
        if known is None or len(known[0]) != len(key) or any(a is not b for a, b in zip(known[0], key)):
            known = self._companion = tuple(key), Compiled(make(self.function), self._without, self._captured)
        return known[1]

    def profile(self, /, *args: Any, runs: int = 20, **kwargs: Any) -> Profile:
        """Where the time of the program for these arguments goes: time, FLOPs and bytes of each operation.

        Runs the function once, and the program ``runs`` times; what the program changes in place, such as
        parameters, is put back.

        Args:
            args: of the function.
            runs: how often each operation is timed; the median counts.
            kwargs: of the function.

        Raises:
            ValueError: ``runs`` is less than 1.

        Example:
            >>> import nbdl
            >>> profile = nbdl.compile(lambda x: (x @ x).relu().sum()).profile(nbdl.ones(100, 100))
            >>> sum(row.flops for row in profile.rows) >= 2 * 100**3
            True
        """
        if runs < 1:
            raise ValueError(f"profile: runs must be 1 or more, got {runs}")
        arguments = Arguments(args, kwargs)
        recording = self._run(arguments)
        program = improve(recording.program, self._without)
        for refresh in recording.refreshers:
            refresh()
        replay = Replay(program, recording.backend, one_by_one=True)
        outputs = [window.buffer for operation in program.operations for window in operation.outputs]
        changed = dict.fromkeys(buffer for buffer in outputs if buffer.kind in (CAPTURED, INPUT))
        arrays = [
            arguments.arrays[buffer.number] if buffer.kind == INPUT else buffer.array for buffer in changed
        ]
        held = [array.copy() for array in arrays]
        seconds = replay.step_seconds(arguments.arrays, runs)
        for array, values in zip(arrays, held, strict=True):
            array[...] = values
        return Profile(replay.operations, seconds, replay.backend, replay.regions)

    @property
    def uncompiled(self) -> Callable[..., Any]:
        """The function itself, for those who need its second derivatives."""
        return self.function

    def of(self, function: Callable[..., Any]) -> Compiled:
        """Another function, compiled with the same passes."""
        return Compiled(function, self._without)

    def __deepcopy__(self, memo: dict[int, Any]) -> Compiled:
        return self.of(copy.deepcopy(self.function, memo))

    def __reduce__(self) -> Any:
        return Compiled, (self.function, self._without)

    def clear(self) -> None:
        """Forget all programs."""
        self._variants.clear()
        self._with_objects.clear()
        self._flowing.clear()
        self._failures.clear()

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return f"<compiled {name}: {sum(map(len, self._variants.values()))} programs>"

    def _run(
        self,
        arguments: Arguments,
        with_lines: bool = False,
        variants: Sequence[Variant] = (),
        defers: bool = False,
    ) -> Recording:
        """Run the function under a recorder.

        Args:
            arguments: of the call.
            with_lines: note lines for error messages.
            variants: programs for such arguments, which do not fit.
            defers: leave the computing to the program.
        """
        captured, leaves = self._captured_with(arguments), self._known_leaves.values()
        used = [leaf for variant in variants for leaf in variant.leaves_used]
        moving = {id(leaf.tensor) for leaf in used if leaf.finds_other_memory()}
        return Recording(
            self.function, arguments, captured, leaves, moving, self._without, with_lines, defers
        )

    def _record(self, setting: tuple[Any, ...], arguments: Arguments) -> Any:
        """Run the function, and keep its program.

        Args:
            setting: what beside the arguments decides about the program.
            arguments: of the call.
        """
        key = (*setting, arguments.key)
        failures = self._failures.get(arguments.key, 0)
        captured = self._captured_with(arguments)
        attributes = captured.attributes()
        with without_idle_memory():
            recording = self._run(arguments, failures > 0, self._variants.get(key, ()), defers=True)
        self._known_leaves.update({id(leaf.tensor): leaf.tensor for leaf in recording.leaves})
        inside = {id(leaf.tensor) for leaf in recording.leaves}
        if arguments.leaves and all(x._grad is None and id(x) not in inside for x in arguments.leaves):
            # The function has nothing to do with their gradients: other leaves may stand in their place.
            self._flowing.add((*setting, Arguments(arguments.args, arguments.kwargs, flowing=True).key))
        if captured.learn_assigned(attributes, recording.reads):
            return recording.finish()  # the next call records them as results
        problem = recording.escaped and _KEEPS.format(recording.escaped)
        if not problem and (changed := captured.changed_since(key[0])):
            problem = _ASSIGNS.format(" and ".join(changed))
        if problem:
            result = recording.finish()
            # At first that is usual: optimizers make their state, lazy modules their parameters.
            if failures:
                raise RecordingError(problem)
            self._failures[arguments.key] = failures + 1
            return result
        self._failures.pop(arguments.key, None)
        captured.learn_numbers(recording.reads)
        key = captured.token(), *key[1:]
        if sum(map(len, self._variants.values())) >= MAX_PROGRAMS:
            self._variants.pop(next(iter(self._variants)))
        if recording.backend.name == "numba":
            _forget_when_threads_change()
        writes = Writes(recording.program)
        replay = Replay(improve(recording.program, self._without), recording.backend)
        variant = Variant(
            replay,
            recording.tree,
            recording.constants,
            recording.shared,
            recording.leaves,
            recording.moved,
            recording.gradients,
            recording.refreshers,
            recording.storages,
            recording.backward,
            [(x, x.requires_grad) for x in captured.tensors()] if mode.grad else [],
            writes,
            arguments.leaves,
            recording.assigned,
            recording.values,
            recording.program if recording.values else None,
        )
        if any(variant.differs_in_values_only(other) for other in self._variants.get(key, ())):
            variant.values.clear()  # nobody reads them
        self._variants.setdefault(key, []).insert(0, variant)
        return recording.finish(replay)


_all: WeakSet[Compiled] = WeakSet()


def forget_programs() -> None:
    """Have all compiled functions record again, because something changed that every program depends on."""
    for compiled in list(_all):
        compiled.clear()


when_default_changes(forget_programs)


@functools.cache
def _forget_when_threads_change() -> None:
    from nbdl.backend.numba import threads

    threads.on_change(forget_programs)
