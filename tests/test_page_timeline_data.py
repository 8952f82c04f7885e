"""Live bytes over a run: what the tracer keeps of them, what a document takes, and what the page is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from drawn import example_graph
from modelmeter import CallGraph, TraceOptions, trace
from modelmeter.callgraph import of_forwards
from modelmeter.errors import DocumentError
from modelmeter.render.page.timeline_data import timeline_data
from modelmeter.schema.callgraph import MemoryTimeline
from modelmeter.tracing.memory_series import MOST_POINTS, MemorySeries


@pytest.fixture(scope="module")
def graph() -> CallGraph:
    return example_graph()


def series(values: list[int], most: int = MOST_POINTS) -> MemoryTimeline:
    kept = MemorySeries(most)
    for value in values:
        kept.add(value, "m", "aten.add", "prefill")
    timeline = kept.as_timeline()
    assert timeline is not None
    return timeline


# What is kept


def test_a_short_run_is_kept_whole() -> None:
    values = [5, 3, 9, 9, 0]
    timeline = series(values)
    assert (timeline.operations, timeline.numbers, timeline.bytes) == (5, (0, 1, 2, 3, 4), tuple(values))


def test_nothing_that_ran_is_no_timeline() -> None:
    assert MemorySeries().as_timeline() is None


@given(st.lists(st.integers(0, 50), min_size=1, max_size=400), st.integers(2, 30))
def test_of_a_long_run_the_least_and_the_most_of_every_stretch_are_kept(values: list[int], most: int) -> None:
    timeline = series(values, most)
    assert len(timeline.numbers) <= most
    assert [values[number] for number in timeline.numbers] == list(timeline.bytes)
    assert max(timeline.bytes) == max(values) and min(timeline.bytes) == min(values)
    # The first of the largest is among them, where the document's own peak is.
    assert timeline.numbers[timeline.bytes.index(max(values))] == values.index(max(values))
    # As short stretches as the bound allows: with half their length there would be too many.
    length = next(1 << power for power in range(20) if kept_of(values, 1 << power) <= most)
    assert len(timeline.numbers) == kept_of(values, length)


def kept_of(values: list[int], length: int) -> int:
    stretches = [values[start : start + length] for start in range(0, len(values), length)]
    return sum(len({s.index(min(s)), s.index(max(s))}) for s in stretches)


def test_a_trace_s_largest_point_is_its_peak(graph: CallGraph) -> None:
    timeline = graph.memory_timeline
    assert timeline is not None and timeline.operations > MOST_POINTS >= len(timeline.numbers) > MOST_POINTS // 4
    assert max(timeline.bytes) == graph.total.peak_bytes
    assert set(timeline.modules) <= set(graph.call_counts)
    assert list(dict.fromkeys(timeline.stages))[-1] == "decode"
    assert timeline.operations == sum(graph.op_call_counts.values()) + sum(graph.call_counts.values())


@pytest.mark.parametrize("weightless", [True, False])
def test_points_of_a_small_model_are_the_bytes_that_it_holds(weightless: bool) -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    traced = trace(module, torch.zeros(3, 4), options=TraceOptions(weightless=weightless))
    timeline = traced.memory_timeline
    assert timeline is not None and traced.peak is not None
    given_in, hidden, out = 3 * 4 * 4, 3 * 8 * 4, 3 * 2 * 4
    assert max(timeline.bytes) == given_in + 2 * hidden == traced.peak.bytes
    assert timeline.bytes[0] == given_in and timeline.operators[0] == "input"
    assert timeline.modules[0] == "Sequential" and timeline.modules[-1] == "2"
    assert timeline.bytes[-1] == given_in + hidden + out
    most = timeline.bytes.index(max(timeline.bytes))
    assert (timeline.modules[most], timeline.operators[most]) == (traced.peak.module, traced.peak.operator)


def test_some_forwards_have_no_timeline_of_their_own(graph: CallGraph) -> None:
    assert of_forwards(graph, graph.forwards[:1]).memory_timeline is None
    assert of_forwards(graph, graph.forwards).memory_timeline == graph.memory_timeline


# Documents


def saved(graph: CallGraph, path: Path) -> dict[str, object]:
    data: dict[str, object] = json.loads(graph.save(path).read_text())
    return data


def test_a_document_keeps_it_and_one_without_it_loads(graph: CallGraph, tmp_path: Path) -> None:
    data = saved(graph, tmp_path / "new.json")
    assert CallGraph.load(tmp_path / "new.json").memory_timeline == graph.memory_timeline
    del data["memory_timeline"]
    (tmp_path / "old.json").write_text(json.dumps(data))
    assert CallGraph.load(tmp_path / "old.json").memory_timeline is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bytes": [1]}, "memory_timeline.bytes has 1 entries, numbers has 2"),
        ({"numbers": [3, 3]}, "do not rise from 0 to below operations, 9"),
        ({"numbers": [-1, 3]}, "do not rise"),
        ({"numbers": [3, 9]}, "do not rise"),
        ({"bytes": [1, -1]}, "negative"),
        ({"bytes": [1, "2"]}, "memory_timeline.bytes[1]"),
    ],
)
def test_a_timeline_that_cannot_be_is_refused(change: dict[str, object], words: str, tmp_path: Path) -> None:
    timeline = {
        "operations": 9, "numbers": [3, 5], "bytes": [1, 2], "modules": ["M"] * 2, "operators": ["aten.add"] * 2,
        "stages": ["prefill"] * 2,
    }  # fmt: skip
    plain = {"call_counts": {"M": 1}, "edges": {}, "op_call_counts": {}, "module_children": {}, "module_types": {}}
    path = tmp_path / "graph.json"
    path.write_text(json.dumps({**plain, "memory_timeline": timeline}))
    assert CallGraph.load(path).memory_timeline is not None
    path.write_text(json.dumps({**plain, "memory_timeline": {**timeline, **change}}))
    with pytest.raises(DocumentError) as caught:
        CallGraph.load(path)
    assert words in caught.value.problem and "\n" not in str(caught.value)


# What the page is given


def test_the_page_gets_points_peak_and_holders() -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    traced = trace(module, torch.zeros(3, 4))
    data = timeline_data(traced)
    assert data is not None and "note" not in data
    assert data["points"][0] == {"bytes": 48, "label": "input", "module": "Sequential", "stage": "prefill"}
    assert data["points"][data["peak"]]["bytes"] == traced.total.peak_bytes
    assert data["points"][data["peak"]]["label"] == "relu"
    assert sum(holder["bytes"] for holder in data["holders"]) == traced.total.peak_bytes
    assert {"module": "1", "bytes": 96, "what": "float32 [3, 8] of relu", "stage": "prefill"} in data["holders"]


def test_holders_have_the_stage_of_their_modules_if_these_are_part_of_the_document(graph: CallGraph) -> None:
    data = timeline_data(graph)
    assert data is not None
    stages = {holder["module"]: holder.get("stage") for holder in data["holders"]}
    assert stages["layers.[0,1].self_attn.v_proj"] == "prefill" and stages["DeepseekOCRForCausalLM"] == "prefill"
    assert stages.get("") is None
    without = timeline_data(evolve(graph, call_counts={"DeepseekOCRForCausalLM": 1}))
    assert without is not None
    known = {holder["module"] for holder in without["holders"] if "stage" in holder}
    assert known == {"DeepseekOCRForCausalLM"}


def test_a_long_run_says_what_it_leaves_out(graph: CallGraph) -> None:
    data = timeline_data(graph)
    assert data is not None and graph.memory_timeline is not None
    assert data["note"].startswith(f"{len(data['points']):,} of {graph.memory_timeline.operations:,} moments")
    assert json.dumps(data, allow_nan=False)


def test_a_document_without_a_series_has_no_timeline(graph: CallGraph) -> None:
    assert timeline_data(evolve(graph, memory_timeline=None)) is None


def test_names_are_made_writable(graph: CallGraph) -> None:
    timeline = MemoryTimeline(1, (0,), (7,), ("<img src=x onerror=alert(1)>\x00\ud800",), ("aten.mm",), ("prefill",))
    data = timeline_data(evolve(graph, memory_timeline=timeline, peak=None))
    assert data is not None and data["holders"] == []
    assert data["points"][0]["module"] == "<img src=x onerror=alert(1)>\ufffd\ufffd"
