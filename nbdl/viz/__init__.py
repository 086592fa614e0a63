"""Pictures of training: graphs, loss surfaces, optimizer paths, spectra, curves.

Functions compute with nbdl and draw with matplotlib, which is imported when something is drawn. Each takes
the axes to draw on, or makes new ones, and returns them. What :func:`nbdl.optim.rate_range_test` finds draws
itself, by :meth:`~nbdl.optim.rate_finder.RateStudy.plot`.

Example:
    >>> import nbdl
    >>> w = nbdl.tensor([1.0, 2.0], requires_grad=True)
    >>> graph = nbdl.viz.graph((w * w).sum().log(), names={"w": w})
    >>> [vertex.label for vertex in graph.vertices]
    ['w', 'multiply', 'sum', 'log']
"""

from __future__ import annotations

from nbdl.viz.curves import activation, spectrum, training_curves
from nbdl.viz.graphs import Graph, Vertex, graph
from nbdl.viz.paths import animate_paths, optimizer_path, paths
from nbdl.viz.planes import contours, surface, vector_field
from nbdl.viz.slices import LossSlice, loss_slice

__all__ = [
    "Graph", "LossSlice", "Vertex", "activation", "animate_paths", "contours", "graph", "loss_slice",
    "optimizer_path", "paths", "spectrum", "surface", "training_curves", "vector_field",
]  # fmt: skip
