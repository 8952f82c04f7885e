"""The printed tree: which modules are one line, what the lines say, and that anything can be drawn."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
import torch
from rich.console import Console, RenderableType
from torch import nn

import modelmeter
from modelmeter.callgraph import only_heavy, outline
from modelmeter.render.terminal import MAX_WIDTH, call_graph_view, console, module_table, stage_table
from modelmeter.schema import CallGraph, Cost, ModuleCost, Page, Scenario, Signature, TensorSignature
from small import SMALL_SIZES, small_config

GOLDEN = Path(__file__).parent / "golden"


def drawn(view: RenderableType, width: int = MAX_WIDTH) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False).print(view)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


@pytest.fixture(scope="module")
def graph() -> CallGraph:
    scenario = Scenario(pages=(Page(grid=(2, 1)),), decode_steps=1, **SMALL_SIZES)
    return modelmeter.trace("deepseek-ocr", scenario, config=small_config())


def test_the_printed_tree(graph: CallGraph) -> None:
    """Write it anew with UPDATE_GOLDEN=1, and look at the difference."""
    found = drawn(call_graph_view(graph, outline(graph)))
    path = GOLDEN / "small_tree.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


def test_lines_fit_and_their_numbers_add_up(graph: CallGraph) -> None:
    rows = outline(graph)
    assert max(len(line) for line in drawn(call_graph_view(graph, rows)).splitlines()) <= MAX_WIDTH
    members = [name for row in rows for name in row.members]
    assert sorted(members) == sorted(graph.call_counts)
    assert sum(row.calls for row in rows) == sum(graph.call_counts.values())
    # Of every depth, no more than the whole; where all work is in leaves, exactly what their callers have.
    by_label = {(row.depth, row.label): row for row in rows}
    layers = next(row for row in rows if row.label == "layers.[0-2]")
    below = [row for row in rows if row.depth == layers.depth + 1 and row.members[0].startswith("layers.")]
    assert sum(row.flops for row in below) == layers.flops
    assert sum(row.parameters for row in below) == layers.parameters
    root = by_label[0, graph.root]
    assert root.parameters == graph.parameter_count
    assert root.flops == graph.total.matrix_flops


def test_experts_are_one_line() -> None:
    config = small_config(
        n_routed_experts=64, num_experts_per_tok=6, hidden_size=8, num_attention_heads=2, num_key_value_heads=2
    )
    graph = modelmeter.trace("deepseek-ocr", Scenario(pages=(Page(grid=(1, 1)),), **SMALL_SIZES), config=config)
    labels = [row.label for row in outline(graph)]
    assert labels.count("experts.[0-63]") == 1
    assert "layers.[0-2]" in labels
    assert {"0.mlp", "[1,2].mlp"} <= set(labels)
    assert "experts.[0-63]" in drawn(module_table(graph, outline(graph)))


def test_gaps_and_single_experts() -> None:
    scenario = Scenario(pages=(Page(grid=(1, 1)),), routing="worst", **SMALL_SIZES)
    graph = modelmeter.trace("deepseek-ocr", scenario, config=small_config())
    assert "experts.[0-2]" in [row.label for row in outline(graph)]


def test_depth(graph: CallGraph) -> None:
    assert [row.depth for row in outline(graph, 0)] == [0]
    rows = outline(graph, 2)
    assert {row.depth for row in rows} == {0, 1, 2}
    assert rows == [row for row in outline(graph) if row.depth <= 2]


def test_views_can_be_drawn(graph: CallGraph) -> None:
    view = only_heavy(graph)
    rows = outline(view)
    assert sorted(name for row in rows for name in row.members) == sorted(view.call_counts)
    assert any(row.label.startswith("layers.[1,2].mlp.experts.[0-7].") for row in rows)


def test_different_siblings_are_different_lines() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4)))
    graph = modelmeter.trace(model, torch.ones(2, 4))
    found = [(row.label, row.class_name, row.repeat, row.calls) for row in outline(graph)]
    assert found == [
        ("Sequential", "Sequential", "", 1),
        ("[0,1]", "Linear", "for 2", 2),
        ("2", "ReLU", "", 1),
        ("3", "Linear", "", 1),
        ("4", "Sequential", "", 1),
        ("0", "Linear", "", 1),
    ]


NAMES = ["[red]x[/red]", "[/]", "[bold", "x" * 500, "日本語" * 40, "a\nb", "a\x1b[31mb", "a\tb", "\\", ":smile:", "é"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_can_be_drawn(name: str) -> None:
    signature = Signature([TensorSignature((10**12, 10**12), "torch.float32", "0")], calls=1)
    graph = CallGraph(
        call_counts={"Root": 10**12, name: 10**12},
        edges={f"Root->{name}": 10**12},
        module_children={"Root": [name]},
        module_types={"Root": "Root", name: name},
        output_metadata={name: [signature, signature]},
        costs={name: ModuleCost(total=Cost(matrix_flops=10**27)), "Root": ModuleCost(total=Cost(matrix_flops=10**27))},
        stages={name: Cost(matrix_flops=10**27, vector_flops=10**27, bytes_read=10**27, launches=10**12)},
        model={"name": name},
        unknown_operators={name: 3},
    )
    for width in (100, 60, 20):
        lines = drawn(call_graph_view(graph, outline(graph)), width).splitlines()
        assert max(map(len, lines)) <= width
    text = drawn(call_graph_view(graph, outline(graph)))
    assert "\x1b" not in text
    assert len([line for line in text.splitlines() if line.startswith((" Root", " └"))]) == 2
    for letter in set(name[:3]) & set("[]redbol/\\:smi日é"):
        assert letter in text


def test_lower_bounds_and_assumptions_are_said() -> None:
    graph = CallGraph(
        call_counts={"R": 1},
        module_types={"R": "R"},
        stages={"prefill": Cost(matrix_flops=5, launches=1)},
        unknown_operators={"my.op": 3, "a.b": 1},
    )
    text = drawn(call_graph_view(graph, outline(graph)))
    assert "≥5 FLOP" in text
    assert "Lower bounds: the FLOPs of these operators are not known: a.b (1), my.op (3)." in text


def test_an_empty_document_can_be_drawn() -> None:
    assert "total" in drawn(stage_table(CallGraph()))
    assert outline(CallGraph()) == []


def test_the_console_is_never_wider_than_a_hundred() -> None:
    assert console().width <= MAX_WIDTH
