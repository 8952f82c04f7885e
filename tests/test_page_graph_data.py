"""The folded call graph as the page draws it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from modelmeter import CallGraph
from modelmeter.callgraph.folding import fold
from modelmeter.render.page import graph_data as module
from modelmeter.render.page.graph_data import graph_data
from modelmeter.schema.callgraph import Signature, TensorSignature

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def graph() -> CallGraph:
    return CallGraph.load(ROOT / "examples" / "callgraph.json")


@pytest.fixture(scope="module")
def data(graph: CallGraph) -> dict[str, Any]:
    return graph_data(fold(graph))


def small(names: list[str], **more: Any) -> CallGraph:
    """One root that calls modules of these names."""
    return CallGraph(
        call_counts={"Root": 1, **dict.fromkeys(names, 1)},
        edges={f"Root->{name}": 1 for name in names},
        op_call_counts={},
        module_children={"Root": names},
        module_types={"Root": "Root", **{name: f"Class{index}" for index, name in enumerate(names)}},
        **more,
    )


def node(data: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(node for node in data["nodes"] if node["id"] == name)
    return found


def test_every_family_is_a_node_below_its_caller(graph: CallGraph, data: dict[str, Any]) -> None:
    folded = fold(graph)
    assert {node["id"] for node in data["nodes"]} == set(folded.families)
    assert {node["id"]: node["parent"] for node in data["nodes"]} == {
        name: folded.parents.get(name) for name in folded.families
    }
    seen: set[str | None] = {None}
    for found in data["nodes"]:
        assert found["parent"] in seen
        seen.add(found["id"])


def test_labels_leave_out_what_the_caller_says(data: dict[str, Any]) -> None:
    labels = {node["id"]: node["label"] for node in data["nodes"]}
    assert labels["DeepseekOCRModel"] == "DeepseekOCRModel"
    assert labels["sam_model.blocks.[0-2].norm1"] == "norm1"
    assert labels["sam_model.blocks.[0,2].attn"] == "attn [0,2]"
    assert labels["layers.[0,1].self_attn.[q_proj,k_proj,v_proj]"] == "[q_proj,k_proj,v_proj]"
    assert labels["layers.1.mlp.experts.[0,1]"] == "experts.[0,1]"


@pytest.mark.parametrize(
    ("name", "parent", "label"),
    [
        ("a.[2,5].attn", "a.[0-11]", "attn [2,5]"),
        ("a.[0-11].attn.q", "a.[0-11].attn", "q"),
        ("a.b", "Root", "a.b"),
        ("a.b.c", "a.x", "a.b.c"),
        ("a", "a", "a"),
        ("a.c", "a.b.c.d", "a.c"),
        ("Root", None, "Root"),
        ("", "", ""),
    ],
)
def test_labels(name: str, parent: str | None, label: str) -> None:
    assert module._label(name, parent) == label


def test_nodes_carry_repeats_configuration_and_signatures(data: dict[str, Any]) -> None:
    layers = node(data, "layers.[0,1]")
    assert (layers["className"], layers["repeat"], layers["stage"]) == ("DeepseekV2DecoderLayer", "for 2", "prefill")
    experts = node(data, "layers.1.mlp.experts.[0,1]")
    assert experts["repeat"] == "parfor 2"
    assert experts["configuration"] == {"hidden_size": 48, "intermediate_size": 24}
    norm = node(data, "layers.[0,1].input_layernorm")
    assert norm["inputs"] == ["bfloat16 [1, 20, 48]; 2 calls", "bfloat16 [1, 1, 48]; 2 calls"]
    assert node(data, "layers.[0,1].self_attn")["inputs"][0].startswith("hidden_states bfloat16 [1, 20, 48], ")


def test_calls_and_flows_are_edges(graph: CallGraph, data: dict[str, Any]) -> None:
    calls = [edge for edge in data["edges"] if edge["kind"] == "call"]
    flows = {(edge["from"], edge["to"]): edge["count"] for edge in data["edges"] if edge["kind"] == "data"}
    assert sum(edge["count"] for edge in calls) == sum(graph.edges.values())
    by_ends = {(edge["from"], edge["to"]): edge for edge in calls}
    assert by_ends["DeepseekOCRModel", "layers.[0,1]"]["label"] == "for 2"
    assert flows["layers.[0,1].input_layernorm", "layers.[0,1].self_attn"] == 4
    # From one member of a family to the next is what `for 2` says.
    assert all(producer != consumer for producer, consumer in flows)
    ids = {found["id"] for found in data["nodes"]}
    assert {end for ends in (*by_ends, *flows) for end in ends} <= ids


def test_siblings_are_in_the_order_in_which_data_flows(data: dict[str, Any]) -> None:
    order = [found["id"] for found in data["nodes"] if found["parent"] == "layers.[0,1]"]
    assert order[:3] == [
        f"layers.[0,1].{name}" for name in ("input_layernorm", "self_attn", "post_attention_layernorm")
    ]


def test_the_same_graph_gives_the_same_data(graph: CallGraph, data: dict[str, Any]) -> None:
    assert json.dumps(graph_data(fold(graph)), allow_nan=False) == json.dumps(data, allow_nan=False)


def test_names_are_made_writable_and_nothing_is_markup() -> None:
    name = "<img src=x onerror=alert(1)>\x00\ud800"
    odd = small([name], constructor_params={name: {"eps": float("inf"), "shape": (1, 2), "\x01": {"one of": [None]}}})
    found = graph_data(fold(odd))["nodes"][1]
    assert found["label"] == found["id"] == "<img src=x onerror=alert(1)>\ufffd\ufffd"
    assert found["configuration"] == {"\ufffd": {"one of": [None]}, "eps": "inf", "shape": [1, 2]}
    assert json.dumps(found, allow_nan=False, ensure_ascii=False).encode()


def test_many_forms_of_inputs_are_counted_not_listed() -> None:
    forms = [Signature(tensors=[TensorSignature((n,), "torch.float32", "x")], calls=1) for n in range(10)]
    found = graph_data(fold(small(["a"], input_metadata={"a": forms}, output_metadata={"a": [Signature(calls=2)]})))
    assert found["nodes"][1]["inputs"][-2:] == ["float32 [5]; 1 call", "and 4 more forms"]
    assert found["nodes"][1]["outputs"] == ["no tensor; 2 calls"]


def test_of_too_many_families_the_upper_levels_are_written(monkeypatch: pytest.MonkeyPatch, graph: CallGraph) -> None:
    folded = fold(graph)
    monkeypatch.setattr(module, "MOST_NODES", 20)
    data = graph_data(folded)
    assert 1 < len(data["nodes"]) <= 20
    left_out = len(folded.families) - len(data["nodes"])
    assert data["note"] == f"{left_out:,} of {len(folded.families):,} families are left out, the deepest first"
    ids = {found["id"] for found in data["nodes"]}
    assert all(found["parent"] is None or found["parent"] in ids for found in data["nodes"])
    assert all(edge["from"] in ids and edge["to"] in ids for edge in data["edges"])


def test_of_a_level_that_is_too_wide_some_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_NODES", 20)
    data = graph_data(fold(small([f"m{n}x" for n in range(100)])))
    assert len(data["nodes"]) == 20 and data["note"].startswith("81 of 101 families")
    assert len(data["edges"]) == 19


def test_contradictions_of_the_run_are_said(graph: CallGraph) -> None:
    folded = evolve(fold(graph), disagreements=["layers: for 2, but the run said 3"])
    assert graph_data(folded)["note"] == "layers: for 2, but the run said 3"
    assert "note" not in graph_data(fold(graph))


def test_a_graph_of_one_module() -> None:
    data = graph_data(fold(small([])))
    assert [found["id"] for found in data["nodes"]] == ["Root"] and data["edges"] == []
