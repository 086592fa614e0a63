"""The drawn computational graph: what it holds, where it stands, who draws it."""

from __future__ import annotations

import itertools
import re
import stat
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nbdl
from nbdl import nn, viz
from nbdl.viz.layers import layout


def regression() -> tuple[nbdl.Tensor, dict[str, nbdl.Tensor]]:
    x, y = nbdl.randn(6, 8), nbdl.randn(6, 1)
    w, b = nbdl.randn(8, 1, requires_grad=True), nbdl.zeros(1, requires_grad=True)
    return ((x @ w + b - y) ** 2).mean(), {"x": x, "y": y, "w": w, "b": b}


def test_linear_regression(backend):
    loss, names = regression()
    found = viz.graph(loss, names)
    assert [(v.label, v.kind, v.shape) for v in found.vertices] == [
        ("x", "constant", (6, 8)),
        ("w", "variable", (8, 1)),
        ("matmul", "operation", (6, 1)),
        ("b", "variable", (1,)),
        ("add", "operation", (6, 1)),
        ("subtract", "operation", (6, 1)),  # its derivative does not read y
        ("pow", "operation", (6, 1)),
        ("mean", "result", ()),
    ]
    assert found.edges == [(0, 2), (1, 2), (2, 4), (3, 4), (4, 5), (5, 6), (6, 7)]


def test_values_used_twice_are_one_vertex_and_equal_numbers_are_not():
    x = nbdl.tensor(1.5, requires_grad=True)
    h = x * 3
    found = viz.graph(h * h + h * 3)
    labels = [vertex.label for vertex in found.vertices]
    assert labels == ["variable", "3", "multiply", "multiply", "3", "multiply", "add"]
    assert found.edges == [(0, 2), (1, 2), (2, 3), (2, 3), (2, 5), (4, 5), (3, 6), (5, 6)]


def test_names_of_a_module():
    net = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))
    labels = {vertex.label for vertex in viz.graph(net(nbdl.ones(4, 3)).sum(), net).vertices}
    assert labels >= {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_several_outputs_and_a_freed_graph():
    x = nbdl.randn(4, 4, requires_grad=True)
    values, vectors = nbdl.linalg.eigh(x + x.mT)
    loss = (values * vectors[0]).sum()
    before = viz.graph(loss)
    assert [vertex.label for vertex in before.vertices].count("eigh") == 1
    loss.backward()
    assert len(viz.graph(loss).vertices) <= len(before.vertices)  # constants are forgotten, operations not


def test_a_deep_graph_needs_no_recursion():
    x = nbdl.ones((), requires_grad=True)
    y = x
    for _ in range(sys.getrecursionlimit() + 10):
        y = y.sin()
    assert len(viz.graph(y).vertices) == sys.getrecursionlimit() + 11


def test_text_for_graphviz_is_quoted():
    w = nbdl.ones(2, requires_grad=True)
    text = viz.graph(w.sum(), {'the "weight" \\': w}).dot
    assert text.startswith("digraph {\n")
    assert r'0 [label="the \"weight\" \\\n2", shape=box' in text
    assert "  0 -> 1;" in text


REFUSALS = [
    (3.0, TypeError, "graph: output must be a tensor, got float"),
    (nbdl.ones(2), RuntimeError, "graph: output has no history"),
    (nbdl.ones(2, requires_grad=True), RuntimeError, "graph: output has no history"),
]


@pytest.mark.parametrize(("output", "error", "text"), REFUSALS)
def test_refusals(output, error, text):
    with pytest.raises(error, match=text):
        viz.graph(output)


@st.composite
def acyclic(draw):
    count = draw(st.integers(1, 12))
    pairs = [(a, b) for b in range(count) for a in range(b)]
    return count, draw(st.lists(st.sampled_from(pairs), max_size=20)) if pairs else []


@given(acyclic())
def test_places_are_apart_and_arrows_point_right(case):
    count, edges = case
    placed = layout(count, edges)
    assert len(placed.places) == count
    stops = set(placed.places)
    for (source, target), route in zip(edges, placed.routes, strict=True):
        assert (route[0], route[-1]) == (placed.places[source], placed.places[target])
        assert [x for x, _ in route] == list(range(int(route[0][0]), int(route[-1][0]) + 1))
        assert len(route) >= 2
        stops |= set(route)
    for x in range(placed.columns):
        heights = sorted(y for column, y in stops if column == x)
        assert heights
        assert all(b - a >= 1 - 1e-9 for a, b in itertools.pairwise(heights))
        assert heights[-1] - heights[0] <= placed.rows - 1 + 1e-9


def test_drawn_by_matplotlib(tmp_path, monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="draws a picture")
    monkeypatch.setattr("shutil.which", lambda name: None)
    found = viz.graph(*regression())
    assert found.save(tmp_path / "graph.png") == "matplotlib"
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")
    assert pyplot.get_fignums() == []
    ax = found.draw()
    texts = [text.get_text() for text in ax.texts]
    assert "w\n8 × 1" in texts
    assert sum(text == "" for text in texts) == len(found.edges)  # arrows: none skips a column here
    pyplot.close(ax.figure)


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for dot is a shell script")
@pytest.mark.parametrize("fails", [False, True])
def test_drawn_by_graphviz(fails, tmp_path, monkeypatch):
    program = tmp_path / "dot"
    script = "echo 'no such format' >&2; exit 1" if fails else 'cat > "$4"; echo "$1" >> "$4"'
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr("shutil.which", lambda name: str(program))
    found, path = viz.graph(*regression()), tmp_path / "graph.svg"
    if fails:
        with pytest.raises(RuntimeError, match=re.escape(f"Graphviz could not write {path}: no such format")):
            found.save(path)
    else:
        assert found.save(path) == "graphviz"
        assert path.read_text() == found.dot + "-Tsvg\n"
