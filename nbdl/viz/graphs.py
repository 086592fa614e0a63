"""The computational graph of a result, drawn by Graphviz where it is installed, else by matplotlib."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nbdl.autograd.nodes import AccumulateGrad
from nbdl.autograd.tape import Node
from nbdl.autograd.tensor import Tensor
from nbdl.nn.module import Module
from nbdl.viz.figures import axes_or_new, pyplot
from nbdl.viz.layers import Layout, layout

# Colours of Okabe and Ito, which all readers can tell apart, made pale enough for black text.
_FILL = {"variable": "#9fd4f5", "constant": "#e4e4e4", "operation": "#ffffff", "result": "#f6d58a"}
_WIDTH, _HEIGHT, _LETTER, _FONT = 1.2, 0.65, 0.09, 11  # of a column, a row, a letter, in inches; points


class Vertex(NamedTuple):
    """A variable or an operation of a graph.

    Attributes:
        label: the name of a variable, or what an operation does.
        kind: "variable" (a leaf that gets a gradient), "constant" (one that gets none), "operation", or
            "result" (the last operation).
        shape: the shape of the value; None where the tape did not keep it.
    """

    label: str
    kind: str
    shape: tuple[int, ...] | None


@dataclass
class Graph:
    """A directed acyclic graph of variables and operations.

    Attributes:
        vertices: operands before the operations that read them.
        edges: (from, to), positions in ``vertices``, in the order of the operands.
    """

    vertices: list[Vertex] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)

    @property
    def dot(self) -> str:
        """The graph in Graphviz's language."""
        lines = ["digraph {", '  rankdir=LR; node [fontname="sans-serif", style=filled];']
        for k, vertex in enumerate(self.vertices):
            shape = "ellipse" if vertex.kind in ("operation", "result") else "box"
            text = _text(vertex).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            lines.append(f'  {k} [label="{text}", shape={shape}, fillcolor="{_FILL[vertex.kind]}"];')
        lines += [f"  {source} -> {target};" for source, target in self.edges]
        return "\n".join([*lines, "}", ""])

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches of a figure for :meth:`draw`."""
        return self._size(layout(len(self.vertices), self.edges))

    def _size(self, placed: Layout) -> tuple[float, float]:
        longest = max(max(map(len, _text(vertex).split("\n"))) for vertex in self.vertices)
        width = max(_WIDTH, _LETTER * longest + 0.6)
        return width * placed.columns, _HEIGHT * (placed.rows + 0.6)

    def draw(self, ax: Any = None) -> Any:
        """Draw the graph with matplotlib, from left to right.

        Args:
            ax: matplotlib's axes to draw on; None: new ones, as large as the graph wants.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        placed = layout(len(self.vertices), self.edges)
        ax = axes_or_new(ax, figsize=self._size(placed))
        boxes = []
        for vertex, (x, y) in zip(self.vertices, placed.places, strict=True):
            style = "round4" if vertex.kind in ("operation", "result") else "square"
            drawn = ax.text(
                x, y, _text(vertex), ha="center", va="center", fontsize=_FONT, zorder=2,
                bbox={"boxstyle": f"{style},pad=0.3", "fc": _FILL[vertex.kind], "ec": "0.2", "lw": 0.8},
            )  # fmt: skip
            boxes.append(drawn.get_bbox_patch())
        for (source, target), route in zip(self.edges, placed.routes, strict=True):
            for k, (start, end) in enumerate(itertools.pairwise(route)):
                first, last = k == 0, k == len(route) - 2
                ax.annotate(
                    "", xy=end, xytext=start, zorder=3,  # behind the text's turn, which places its box
                    arrowprops={
                        "arrowstyle": "-|>" if last else "-", "color": "0.35", "lw": 1.0, "shrinkA": 0,
                        "shrinkB": 1 if last else 0, "patchA": boxes[source] if first else None,
                        "patchB": boxes[target] if last else None,
                    },
                )  # fmt: skip
        ax.set(xlim=(-0.6, placed.columns - 0.4), ylim=(-placed.rows / 2 - 0.3, placed.rows / 2 + 0.3))
        ax.set_axis_off()
        return ax

    def save(self, path: str | Path) -> str:
        """Write a picture of the graph, of the kind that the path's suffix says (png, svg, pdf).

        Args:
            path: the file.

        Returns:
            What drew it: "graphviz" or "matplotlib".

        Raises:
            ImportError: neither Graphviz's ``dot`` nor matplotlib is installed.
            RuntimeError: ``dot`` failed.
        """
        path = Path(path)
        program = shutil.which("dot")
        if program is None:
            ax = self.draw()
            ax.figure.savefig(path, dpi=150)
            pyplot().close(ax.figure)
            return "matplotlib"
        command = [program, f"-T{path.suffix.lstrip('.') or 'png'}", "-Gdpi=150", "-o", str(path)]
        run = subprocess.run(command, input=self.dot, capture_output=True, text=True, check=False)
        if run.returncode:
            raise RuntimeError(f"save: Graphviz could not write {path}: {run.stderr.strip()}")
        return "graphviz"


def graph(output: Tensor, names: Mapping[str, Tensor] | Module | None = None) -> Graph:
    """The graph of operations that made a tensor, as the tape has it.

    An operand without gradient is shown where the tape knows it: if it was saved for the backward pass,
    which frees it. Two operations that run as one (a linear layer and its activation) are one vertex.

    Args:
        output: a tensor with a history, such as a loss.
        names: names of variables and constants; a module gives those of its parameters and buffers.

    Returns:
        The graph; ``draw`` and ``save`` draw it, ``dot`` is its text for Graphviz.

    Raises:
        TypeError: ``output`` is no tensor.
        RuntimeError: ``output`` has no history.

    Example:
        >>> import nbdl
        >>> w, x = nbdl.ones(3, requires_grad=True), nbdl.ones(5, 3)
        >>> found = nbdl.viz.graph((x @ w).sum(), names={"w": w, "x": x})
        >>> [(vertex.label, vertex.kind) for vertex in found.vertices]
        [('x', 'constant'), ('w', 'variable'), ('matmul', 'operation'), ('sum', 'result')]
        >>> found.edges
        [(0, 2), (1, 2), (2, 3)]
    """
    if not isinstance(output, Tensor):
        raise TypeError(f"graph: output must be a tensor, got {type(output).__name__}")
    if output.grad_fn is None:
        raise RuntimeError("graph: output has no history: none of its operands requires a gradient")
    if isinstance(names, Module):
        names = {**dict(names.named_parameters()), **dict(names.named_buffers())}
    return _Walk(names or {}).run(output.grad_fn)


class _Walk:
    """One walk from a result to the leaves."""

    def __init__(self, names: Mapping[str, Tensor]):
        self._names = {id(tensor): name for name, tensor in names.items()}
        self._graph = Graph()
        self._number: dict[int, int] = {}  # of a node or leaf

    def run(self, root: Node) -> Graph:
        """Depth first without recursion: a node gets its number after all its operands."""
        waiting = [root]
        while waiting:
            node = waiting[-1]
            if id(node) in self._number:
                waiting.pop()
                continue
            operands = [operand for operand, _ in node.next_functions if isinstance(operand, Node)]
            missing = [operand for operand in operands if id(operand) not in self._number]
            if missing:
                waiting += reversed(missing)
                continue
            waiting.pop()
            self._add_node(node, "result" if node is root else "operation")
        return self._graph

    def _add_node(self, node: Node, kind: str) -> None:
        numbers = []
        for k, (operand, _) in enumerate(node.next_functions):
            if operand is None:
                operand = node.saved[k] if node.saved else None
            if isinstance(operand, AccumulateGrad):
                operand = operand.variable
            if isinstance(operand, Tensor):
                numbers.append(self._leaf(operand))
            elif operand is not None:
                numbers.append(self._number[id(operand)])
        number = self._add(id(node), Vertex(node.primitive.label, kind, tuple(node.specs[0][0])))
        self._graph.edges += [(operand, number) for operand in numbers]

    def _leaf(self, tensor: Tensor) -> int:
        if id(tensor) in self._number:
            return self._number[id(tensor)]
        shape = tuple(tensor.shape)
        name = self._names.get(id(tensor))
        if tensor.requires_grad:
            return self._add(id(tensor), Vertex(name or "variable", "variable", shape))
        if name is not None:
            return self._add(id(tensor), Vertex(name, "constant", shape))
        # Numbers that are equal are one tensor, which is no reason to draw them as one operand.
        value = "constant" if shape else f"{tensor.item():.4g}"
        self._graph.vertices.append(Vertex(value, "constant", shape))
        return len(self._graph.vertices) - 1

    def _add(self, key: int, vertex: Vertex) -> int:
        self._number[key] = len(self._graph.vertices)
        self._graph.vertices.append(vertex)
        return self._number[key]


def _text(vertex: Vertex) -> str:
    """The label, with the shape below it unless it is a scalar."""
    return f"{vertex.label}\n{' × '.join(map(str, vertex.shape))}" if vertex.shape else vertex.label
