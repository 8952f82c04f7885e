"""Views of a call graph: what is kept is unchanged, and calls through what is dropped are joined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import nn

import modelmeter
from modelmeter.callgraph import keep_modules, of_forwards, only_heavy, only_prefix, only_stage
from modelmeter.errors import UnknownNameError, UsageError
from modelmeter.families.registry import get_family
from modelmeter.schema import CallGraph, Event, Forward, Page, Scenario
from modelmeter.tracing import TraceOptions
from small import SMALL_SIZES, small_config

STAGE_OF = get_family("deepseek-ocr").stage_of


@pytest.fixture(scope="module")
def graph() -> CallGraph:
    scenario = Scenario(pages=(Page(grid=(2, 1)),), decode_steps=2, **SMALL_SIZES)
    return modelmeter.trace("deepseek-ocr", scenario, config=small_config(), options=TraceOptions(max_events=100_000))


VIEWS: dict[str, Callable[[CallGraph], CallGraph]] = {
    "heavy": only_heavy,
    "vision": lambda graph: only_stage(graph, "vision", STAGE_OF),
    "projector": lambda graph: only_stage(graph, "projector", STAGE_OF),
    "prefill": lambda graph: only_stage(graph, "prefill", STAGE_OF),
    "decode": lambda graph: only_stage(graph, "decode", STAGE_OF),
    "sam_model": lambda graph: only_prefix(graph, "sam_model"),
    "layers.1": lambda graph: only_prefix(graph, "layers.1"),
    "core": lambda graph: only_prefix(graph, "DeepseekOCRModel"),
    "heavy vision": lambda graph: only_heavy(only_stage(graph, "vision", STAGE_OF)),
    "heavy experts of decode": lambda graph: only_heavy(
        only_prefix(only_stage(graph, "decode", STAGE_OF), "layers.2.mlp")
    ),
}


@pytest.mark.parametrize("name", VIEWS)
def test_every_call_is_still_made_by_someone(graph: CallGraph, name: str) -> None:
    view = VIEWS[name](graph)
    for counts, edges in [
        (view.call_counts, view.edges),
        *((forward.call_counts, forward.edges) for forward in view.forwards),
    ]:
        made: Counter[str] = Counter()
        for edge, count in edges.items():
            caller, callee = edge.split("->")
            assert caller in counts and callee in counts
            made[callee] += count
        assert {n: c for n, c in counts.items() if n != view.root} == dict(made)


@pytest.mark.parametrize("name", VIEWS)
def test_the_document_is_the_sum_of_its_forwards(graph: CallGraph, name: str) -> None:
    view = VIEWS[name](graph)
    calls: Counter[str] = Counter()
    flops: Counter[str] = Counter()
    signatures: Counter[str] = Counter()
    for forward in view.forwards:
        calls.update(forward.call_counts)
        flops.update({n: cost.total.matrix_flops for n, cost in forward.costs.items()})
        signatures.update({n: sum(s.calls for s in found) for n, found in forward.input_metadata.items()})
    assert view.call_counts == dict(calls)
    assert {n: cost.total.matrix_flops for n, cost in view.costs.items()} == dict(flops)
    assert {n: sum(s.calls for s in found) for n, found in view.input_metadata.items()} == dict(signatures)


@pytest.mark.parametrize("name", ["heavy", "sam_model", "layers.1", "core"])
def test_what_is_kept_is_unchanged(graph: CallGraph, name: str) -> None:
    view = VIEWS[name](graph)
    assert 1 < len(view.call_counts) < len(graph.call_counts)
    for key in ("call_counts", "op_call_counts", "costs", "operators", "input_metadata", "output_metadata"):
        before, after = getattr(graph, key), getattr(view, key)
        assert after == {n: value for n, value in before.items() if n in view.call_counts}
    assert view.stages == graph.stages and view.total == graph.total
    assert view.module_children == graph.module_children and view.parameters == graph.parameters


def test_heavy_modules(graph: CallGraph) -> None:
    view = only_heavy(graph)
    assert "layers.1.mlp" in graph.call_counts and "layers.1.mlp" not in view.call_counts
    for name in ("layers.1.mlp.experts.0.gate_proj", "layers.1.mlp.experts.0.act_fn", "layers.0.input_layernorm"):
        assert name in view.call_counts
    # Through the layer, the mixture and the expert, none of which has work of its own.
    calls = graph.call_counts["layers.1.mlp.experts.0.gate_proj"]
    assert view.edges["DeepseekOCRModel->layers.1.mlp.experts.0.gate_proj"] == calls == 3


def test_a_stage_with_cropped_pages(graph: CallGraph) -> None:
    view = VIEWS["vision"](graph)
    assert set(view.call_counts) == {
        name for name in graph.call_counts if name.startswith(("sam_model", "vision_model"))
    } | {graph.root}
    assert view.edges["DeepseekOCRForCausalLM->sam_model"] == 2
    assert [forward.name for forward in view.forwards] == ["prefill"]
    assert view.costs["sam_model"] == graph.costs["sam_model"]
    assert view.operators["sam_model"] == graph.operators["sam_model"]
    assert {edge: n for edge, n in graph.data_edges.items() if edge.startswith("sam_model.")}.items() <= (
        view.data_edges.items()
    )


def test_prefill_and_decode_share_the_decoder(graph: CallGraph) -> None:
    prefill, decode = VIEWS["prefill"](graph), VIEWS["decode"](graph)
    assert not [name for name in prefill.call_counts if name.startswith(("sam_model", "vision_model", "projector"))]
    assert not [name for name in decode.call_counts if name.startswith("sam_model")]
    assert [forward.name for forward in decode.forwards] == ["decode 1", "decode 2"]
    assert (prefill.call_counts["layers.0"], decode.call_counts["layers.0"]) == (1, 2)
    whole = graph.costs["layers.0"].total
    parts = [view.costs["layers.0"].total for view in (prefill, decode)]
    assert sum(part.matrix_flops for part in parts) == whole.matrix_flops
    assert sum(part.bytes_read for part in parts) == whole.bytes_read
    # The document holds operators of both together: they are left out rather than given for one.
    assert "layers.0.mlp" not in prefill.operators
    assert {n: sizes[0] for n, sizes in prefill.kv_cache.items()} == {n: s[0] for n, s in graph.kv_cache.items()}
    assert {n: len(sizes) for n, sizes in decode.kv_cache.items()} == dict.fromkeys(graph.kv_cache, 2)
    entered = Counter(event.name for event in decode.events if event.event == "enter")
    assert entered == decode.call_counts


def test_prefixes(graph: CallGraph) -> None:
    view = VIEWS["layers.1"](graph)
    assert not [name for name in view.call_counts if name.startswith("layers.10")]
    assert only_prefix(graph, "layers.").call_counts == only_prefix(graph, "layers").call_counts
    assert "layers.2.mlp.gate" in only_prefix(graph, "layers").call_counts
    # The core's own name is no prefix of what is below it.
    assert "sam_model.blocks.0" in VIEWS["core"](graph).call_counts
    assert "lm_head" not in VIEWS["core"](graph).call_counts
    only = only_prefix(graph, "lm_head")
    assert set(only.call_counts) == {graph.root, "lm_head"}


@pytest.mark.parametrize("name", VIEWS)
def test_events_stay_nested(graph: CallGraph, name: str) -> None:
    view = VIEWS[name](graph)
    running: list[str] = []
    last = -1
    for event in view.events:
        assert event.index > last
        last = event.index
        if event.event == "exit":
            assert running.pop() == event.name
        assert event.parent == (running[-1] if running else None)
        if event.event == "enter":
            running.append(event.name)
    assert not running
    assert Counter(event.name for event in view.events if event.event == "enter") == view.call_counts


def test_names_that_are_not_there(graph: CallGraph) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'sam_model'"):
        only_prefix(graph, "sam_modl")
    with pytest.raises(UnknownNameError, match="unknown stage 'visoin'; did you mean 'vision'"):
        only_stage(graph, "visoin", STAGE_OF)
    with pytest.raises(UsageError, match="no module ran in stage 'other'"):
        only_stage(graph, "other", STAGE_OF)
    prefill_only = of_forwards(graph, graph.forwards[:1])
    with pytest.raises(UsageError, match="add --decode-steps"):
        only_stage(prefill_only, "decode", STAGE_OF)


# -- by hand -------------------------------------------------------------------------------------------


def by_hand(edges: dict[str, int], **keys: object) -> CallGraph:
    calls: Counter[str] = Counter({"R": 1})
    for edge, count in edges.items():
        calls[edge.split("->")[1]] += count
    forward = Forward("prefill", call_counts=dict(calls), edges=edges)
    names = dict.fromkeys(calls, "Module")
    children = {"R": [name for name in names if name != "R"]}
    return CallGraph(
        call_counts=dict(calls), edges=edges, module_types=names, module_children=children, forwards=[forward], **keys
    )


def test_a_chain_of_dropped_modules_becomes_one_edge() -> None:
    graph = by_hand({"R->a": 1, "a->b": 2, "b->c": 6, "a->c": 1})
    assert keep_modules(graph, {"R", "c"}).edges == {"R->c": 7}


def test_what_several_modules_call_is_kept_where_it_leads_on() -> None:
    # a and d both call b, which calls c through x: whose the calls of c are cannot be told without b.
    graph = by_hand({"R->a": 1, "R->d": 1, "a->b": 1, "d->b": 2, "b->x": 3, "x->c": 3, "d->e": 1, "a->e": 1})
    view = keep_modules(graph, {"R", "a", "d", "c"})
    assert view.edges == {"R->a": 1, "R->d": 1, "a->b": 1, "d->b": 2, "b->c": 3}
    assert "e" not in view.call_counts


def test_modules_that_call_themselves() -> None:
    graph = by_hand({"R->a": 1, "a->a": 2, "a->b": 3})
    assert keep_modules(graph, {"R", "b"}).edges == {"R->a": 1, "a->a": 2, "a->b": 3}
    assert keep_modules(graph, {"R"}).edges == {}


def test_data_goes_through_dropped_leaves() -> None:
    graph = by_hand(
        {"R->a": 1, "R->drop": 1, "R->b": 1, "R->box": 1, "box->c": 1, "R->e": 1},
        data_edges={"a->drop": 1, "drop->b": 2, "b->box": 1, "box->e": 1, "a->b": 1},
    )
    view = keep_modules(graph, {"R", "a", "b", "c", "e"})
    # Through drop, which called nothing; not past box, whose work c does.
    assert view.data_edges == {"a->b": 1}
    graph.data_edges.pop("a->b")
    assert keep_modules(graph, {"R", "a", "b", "c", "e"}).data_edges == {"a->b": 1}


def test_events_cut_off_in_the_middle() -> None:
    events = [Event("enter", "R", None, 0), Event("enter", "a", "R", 1), Event("enter", "b", "a", 2)]
    view = keep_modules(by_hand({"R->a": 1, "a->b": 1}, events=events), {"R", "b"})
    assert [(event.name, event.parent) for event in view.events] == [("R", None), ("b", "R")]


def test_shared_modules_in_a_real_trace() -> None:
    class Wrapped(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

    shared = Wrapped(nn.Linear(4, 4))
    model = nn.Sequential(Wrapped(shared), Wrapped(shared), nn.Dropout(), Wrapped(nn.Linear(4, 4)))
    graph = modelmeter.trace(model, torch.ones(2, 4))
    view = only_heavy(graph)
    assert view.edges == {
        "Sequential->0.inner": 2,
        "0.inner->0.inner.inner": 2,
        "Sequential->3.inner": 1,
    }
    assert view.total == graph.total
