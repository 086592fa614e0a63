"""What the byte code of a function says about the variables and attributes that it reads."""

from __future__ import annotations

import dis
import itertools
import re
import types
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

_LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_STACK_MOVES = ("COPY", "SWAP", "DUP_TOP", "DUP_TOP_TWO", "ROT_TWO", "ROT_THREE", "ROT_FOUR")
_GROWTH = frozenset({"append", "appendleft", "extend", "insert"})  # of lists and the like
_BY_NAME = frozenset({"getattr", "hasattr", "attrgetter"})  # take names of attributes as strings
_WHOLE = frozenset({"vars", "__dict__", "asdict", "astuple", "__getattribute__"})  # give all attributes


class _Instruction(NamedTuple):
    """One step of the byte code, and the variable or attribute it is about."""

    opname: str
    name: Any


def _instructions(code: types.CodeType) -> Iterator[_Instruction]:
    """The byte code without moves on the stack, pairs that Python 3.13 makes taken apart."""
    for instruction in dis.get_instructions(code):
        if "_FAST_" in instruction.opname and isinstance(instruction.argval, tuple):
            kinds = re.findall("LOAD|STORE", instruction.opname)
            yield from [_Instruction(f"{kind}_FAST", name) for kind, name in zip(kinds, instruction.argval)]
        elif instruction.opname not in _STACK_MOVES:
            yield _Instruction(instruction.opname, instruction.argval)


def chains(code: types.CodeType, local: Collection[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The variables from outside that the code reads, each with the attributes that follow it.

    Args:
        code: of a function.
        local: its arguments that are looked into, too.
    """
    instructions = list(_instructions(code))
    for k, (opname, name) in enumerate(instructions):
        if opname in _LOADS or (opname.startswith("LOAD_FAST") and name in local):
            path = [name]
            for following in instructions[k + 1 :]:
                if following.opname not in _ATTRIBUTES:
                    break
                path.append(following.name)
            if len(path) > 1 and path[-1] in _GROWTH:
                path = path[:-2]
            elif _is_increment(path[-1], instructions[k + len(path) :]):
                path.pop()
            if path:
                yield path[0], tuple(path[1:])
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from chains(constant, local)


def _is_increment(name: str, behind: list[_Instruction]) -> bool:
    """Whether what was loaded is only added to, as in ``calls += 1`` and ``calls[0] += 1``.

    Args:
        name: of the variable or attribute.
        behind: what follows.
    """
    opnames = [instruction.opname for instruction in behind[:5]]
    if len(opnames) == 5 and opnames[4] == "STORE_SUBSCR" and _is_constant(opnames[0]):
        return opnames[1].startswith("BINARY_") and _is_constant(opnames[2]) and _adds(opnames[3])
    is_stored = len(opnames) > 2 and opnames[2].startswith("STORE_") and behind[2].name == name
    return is_stored and _is_constant(opnames[0]) and _adds(opnames[1])


def _adds(opname: str) -> bool:
    return opname.startswith(("BINARY_OP", "INPLACE_"))


def _is_constant(opname: str) -> bool:
    return opname.startswith(("LOAD_CONST", "LOAD_SMALL_INT"))


class Names(NamedTuple):
    """What a function reads of objects, of whatever object.

    Attributes:
        spelled: attributes, as in ``config.scale``; names of imports are among them.
        strings: attributes that may not exist, as in ``getattr(config, "scale", 1.0)``.
        everything: whether it reads attributes whose names it does not spell out.
    """

    spelled: set[str]
    strings: set[str]
    everything: bool


def names_in(code: types.CodeType) -> Names:
    """The attributes that the code reads; not what it only counts up or appends to."""
    spelled: set[str] = set()
    strings: set[str] = set()
    everything = not _WHOLE.isdisjoint(code.co_names)
    instructions = list(_instructions(code))
    for k, (opname, name) in enumerate(instructions):
        following = instructions[k + 1 :]
        if opname in _ATTRIBUTES:
            grows = following and following[0].opname in _ATTRIBUTES and following[0].name in _GROWTH
            if not grows and not _is_increment(name, following):
                spelled.add(name)
        elif opname == "IMPORT_FROM":
            spelled.add(name)
        if name in _BY_NAME and opname in (*_LOADS, *_ATTRIBUTES):
            given = itertools.takewhile(lambda step: not step.opname.startswith("CALL"), following)
            found = {step.name for step in given if isinstance(step.name, str) and _is_constant(step.opname)}
            strings.update(*(string.split(".") for string in found))
            everything = everything or not found
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = names_in(constant)
            spelled |= inner.spelled
            strings |= inner.strings
            everything = everything or inner.everything
    return Names(spelled, strings, everything)


def imported(code: types.CodeType) -> set[str]:
    """The names of the modules that the code imports when it runs."""
    return {name for opname, name in _instructions(code) if opname == "IMPORT_NAME"}
