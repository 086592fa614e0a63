"""Placing a directed acyclic graph in columns, so that arrows go to the right and seldom cross."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

Place = tuple[float, float]

_SWEEPS = 8


class Layout(NamedTuple):
    """Where vertices and edges are drawn.

    Attributes:
        places: (x, y) of each vertex; columns are 1 apart, and vertices of one column at least 1.
        routes: for each edge the points that it passes, from its first vertex to its last.
        columns: number of columns.
        rows: height of the tallest column, in rows.
    """

    places: list[Place]
    routes: list[list[Place]]
    columns: int
    rows: float


def layout(count: int, edges: Sequence[tuple[int, int]]) -> Layout:
    """Place vertices by the longest path to them, after Sugiyama.

    An edge over several columns gets a bend in each, which takes part in the ordering like a vertex.

    Args:
        count: number of vertices; vertex k is only pointed to by vertices before it.
        edges: (from, to).

    Returns:
        The places.

    Source: Sugiyama, Tagawa, Toda (1981), Methods for visual understanding of hierarchical system structures.

    Example:
        >>> layout(3, [(0, 2), (1, 2)]).places
        [(0, -0.5), (0, 0.5), (1, 0.0)]
    """
    column = _columns(count, edges)
    chains: list[list[int]] = []  # the vertices and bends of each edge
    for source, target in edges:
        bends = list(range(column[source] + 1, column[target]))
        chains.append([source, *range(len(column), len(column) + len(bends)), target])
        column += bends
    before: list[list[int]] = [[] for _ in column]
    after: list[list[int]] = [[] for _ in column]
    for chain in chains:
        for a, b in itertools.pairwise(chain):
            after[a].append(b)
            before[b].append(a)
    members: list[list[int]] = [[] for _ in range(max(column, default=0) + 1)]
    for k, place in enumerate(column):
        members[place].append(k)
    height = [0.0] * len(column)
    for group in members:
        _spread(group, height, range(len(group)))
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        for group in members if forward else reversed(members):
            wanted = []
            for k in group:
                neighbours = before[k] if forward else after[k]
                heights = [height[n] for n in neighbours] or [height[k]]
                wanted.append(sum(heights) / len(heights))
            _spread(group, height, wanted)
    low, high = min(height, default=0.0), max(height, default=0.0)
    places: list[Place] = [(column[k], height[k] - (low + high) / 2) for k in range(len(column))]
    routes = [[places[k] for k in chain] for chain in chains]
    return Layout(places[:count], routes, len(members), high - low + 1)


def _columns(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The longest path from a leaf; leaves stand directly before the first that reads them."""
    column = [0] * count
    has_operands = [False] * count
    readers: list[list[int]] = [[] for _ in range(count)]
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        column[target] = max(column[target], column[source] + 1)
        has_operands[target] = True
        readers[source].append(target)
    for k in range(count):
        if readers[k] and not has_operands[k]:
            column[k] = min(column[reader] for reader in readers[k]) - 1
    return column


def _spread(group: list[int], height: list[float], wanted: Sequence[float]) -> None:
    """Put a column's members near the heights wanted, in their order, at least 1 apart; sorts ``group``."""
    order = sorted(range(len(group)), key=lambda i: wanted[i])
    group[:] = [group[i] for i in order]
    targets = [wanted[i] for i in order]
    lowest: list[float] = []
    for target in targets:
        lowest.append(max(target, lowest[-1] + 1) if lowest else target)
    # Pushed apart in one direction only, the column would drift: move it back by the mean push.
    push = sum(a - b for a, b in zip(lowest, targets)) / len(group)
    for k, place in zip(group, lowest):
        height[k] = place - push
