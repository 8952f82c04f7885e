"""What a comparison finds: one thing is changed on the closed form's side, and is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.schema.callgraph import CallGraph
from modelmeter.schema.cost import CostNode, CostTree, Peak
from modelmeter.schema.scenario import Page, Scenario
from modelmeter.tracing import trace_family
from modelmeter.verify import Difference, compare
from modelmeter.verify.result import extrapolated
from modelmeter.verify.steps import compare_steps
from small import SMALL_SIZES, small_config

EXPERTS = "layers.[1,2].mlp.experts.[0-7]"
ATTENTION, NET, ROOT = "layers.[0-2].self_attn", "sam_model.net_2", "DeepseekOCRForCausalLM"


def both(**values: Any) -> tuple[CostTree, CallGraph]:
    scenario = Scenario(**{"pages": (Page(grid=(2, 1)),), "decode_steps": 2, **SMALL_SIZES, **values})
    return FAMILY.costs(small_config(), scenario).tree(), trace_family(FAMILY, scenario, small_config())


@pytest.fixture(scope="module")
def pair() -> tuple[CostTree, CallGraph]:
    return both()


def changed(tree: CostTree, name: str, **values: Any) -> CostTree:
    return evolve(tree, nodes=tuple(evolve(node, **values) if node.id == name else node for node in tree.nodes))


def found(tree: CostTree, document: CallGraph) -> set[tuple[str, str, str]]:
    return {(d.module, d.forward, d.metric) for d in compare(tree, document).unexplained}


def test_nothing_differs_where_nothing_is_changed(pair: tuple[CostTree, CallGraph]) -> None:
    comparison = compare(*pair)
    assert comparison.differences == () and comparison.compared > 1000


def plus_one(field: str, key: str | None = None) -> Callable[[CostNode], dict[str, Any]]:
    def change(node: CostNode) -> dict[str, Any]:
        value = getattr(node, field)
        if isinstance(value, dict):
            return {field: {**value, key: value[key] + 1}}
        return {field: value + 1}

    return change


@pytest.mark.parametrize(
    ("module", "change", "difference"),
    [
        ("norm", plus_one("calls", "prefill"), ("norm", "prefill", "calls")),
        ("norm", plus_one("calls", "decode"), ("norm", "decode", "calls")),
        ("norm", plus_one("output_bytes", "decode"), ("norm", "decode", "output_bytes")),
        ("norm", plus_one("parameter_count"), ("norm", "all", "parameters")),
        ("norm", plus_one("weight_bytes"), ("norm", "all", "weight_bytes")),
        ("norm", plus_one("members"), ("norm", "all", "members")),
        (ATTENTION, plus_one("kv_cache_bytes", "decode"), (ATTENTION, "decode", "kv_cache_bytes")),
        ("lm_head", plus_one("configuration", "out_features"), ("lm_head", "all", "configuration.out_features")),
        (NET, plus_one("configuration", "kernel_size"), (NET, "all", "configuration.kernel_size")),
        ("lm_head", lambda _: {"class_name": "Conv2d"}, ("lm_head", "all", "class")),
        ("lm_head", lambda _: {"stage": "vision"}, ("lm_head", "all", "stage")),
        ("lm_head", lambda _: {"caller": "DeepseekOCRModel"}, ("lm_head", "all", "caller")),
        ("lm_head", plus_one("own_peak_bytes", "decode"), ("lm_head", "decode", "peak_bytes")),
        (ROOT, plus_one("own_peak_bytes", "prefill"), None),
        ("lm_head", lambda node: {"operators": ()}, ("lm_head", "prefill", "matrix_flops.bfloat16")),
        ("lm_head", lambda node: {"operators": ()}, (ROOT, "stage decode", "matrix_flops")),
    ],
)  # fmt: skip
def test_one_change_is_named(
    pair: tuple[CostTree, CallGraph],
    module: str,
    change: Callable[[CostNode], dict[str, Any]],
    difference: tuple[str, str, str] | None,
) -> None:
    tree, document = pair
    differences = found(changed(tree, module, **change(tree.node(module))), document)
    # The root's own moment is not its peak: its callees have that.
    assert differences == set() if difference is None else difference in differences


@pytest.mark.parametrize(
    "metric", ["matrix_flops", "vector_flops", "eager_bytes_read", "eager_bytes_written", "launches"]
)
def test_an_operator_in_another_stage_is_found(pair: tuple[CostTree, CallGraph], metric: str) -> None:
    tree, document = pair
    node = tree.node("sam_model.blocks.1.attn")
    moved = tuple(entry._replace(stage="projector") for entry in node.operators)
    assert found(changed(tree, node.id, operators=moved), document) >= {
        (tree.root.id, "stage vision", metric),
        (tree.root.id, "stage projector", metric),
    }


def test_a_product_in_another_dtype_or_of_another_kind_is_found(pair: tuple[CostTree, CallGraph]) -> None:
    tree, document = pair
    (entry, later) = tree.node("lm_head").operators
    wide = changed(tree, "lm_head", operators=(entry._replace(dtype="float32"), later))
    assert ("lm_head", "prefill", "matrix_flops.float32") in found(wide, document)
    batched = changed(tree, "lm_head", operators=(entry._replace(operator="batched_product"), later))
    assert ("lm_head", "all", "batched_product.matrix_flops") in found(batched, document)


def test_ideal_bytes_of_a_module_that_is_one_operator_are_compared(pair: tuple[CostTree, CallGraph]) -> None:
    tree, document = pair
    (entry, later) = tree.node("lm_head").operators
    more = entry.amount._replace(bytes_read=entry.amount.bytes_read + 1)
    assert found(changed(tree, "lm_head", operators=(entry._replace(amount=more), later)), document) == {
        ("lm_head", "all", "ideal_bytes_read")
    }


def test_modules_that_one_side_lacks_are_found(pair: tuple[CostTree, CallGraph]) -> None:
    tree, document = pair
    without = evolve(tree, nodes=tuple(node for node in tree.nodes if node.id != "lm_head"))
    assert found(without, document) >= {("lm_head", "all", "module"), ("lm_head", "all", "parameters")}
    more = evolve(tree, nodes=(*tree.nodes, evolve(tree.node("lm_head"), id="second_head")))
    assert found(more, document) >= {("second_head", "prefill", "calls"), ("second_head", "all", "class")}


def test_vision_alone_compares_vision_alone(pair: tuple[CostTree, CallGraph]) -> None:
    tree, document = pair
    without = changed(evolve(tree, peak=Peak(1, "prefill", "norm")), "norm", calls={})
    whole, vision = compare(without, document), compare(without, document, stages=("vision", "projector"))
    assert whole.differences and not vision.differences
    assert 0 < vision.compared < whole.compared
    cut = evolve(tree, nodes=tuple(node for node in tree.nodes if node.id not in ("norm", "sam_model.net_2")))
    assert {d.module for d in compare(cut, document, stages=("vision", "projector")).differences} == {
        "sam_model.net_2",
        tree.root.id,
    }


def test_the_peak_may_be_a_little_off_in_the_same_module(pair: tuple[CostTree, CallGraph]) -> None:
    tree, document = pair
    peak = tree.peak
    for number, excused in ((peak.bytes * 104 // 100, True), (peak.bytes * 106 // 100, False), (0, False)):
        comparison = compare(evolve(tree, peak=evolve(peak, bytes=number)), document)
        (difference,) = comparison.differences
        assert (difference.metric, difference.module, difference.excused) == ("peak_bytes", peak.module, excused)
        assert bool(difference.reason) == excused and bool(comparison.unexplained) != excused


def test_the_peak_may_not_be_in_another_module(pair: tuple[CostTree, CallGraph]) -> None:
    tree, document = pair
    assert document.peak is not None
    (difference,) = compare(evolve(tree, peak=evolve(tree.peak, module="norm")), document).differences
    assert difference == Difference("norm", "prefill", "peak_module", "norm", document.peak.module)
    moved = evolve(tree, peak=Peak(tree.peak.bytes + 1, "decode", "norm"))
    first, second = compare(moved, document).differences
    assert (first.metric, second.metric) == ("peak_bytes", "peak_module")
    assert not first.excused and not second.excused


def test_the_peak_of_experts_is_bounded_where_layers_route_differently() -> None:
    tree, document = both(routing="random:1", decode_steps=0)
    assert compare(tree, document).differences == ()
    inside = f"{EXPERTS}.down_proj"
    more = {"prefill": tree.node(inside).own_peak_bytes["prefill"] + 1}
    assert found(changed(tree, inside, own_peak_bytes=more), document) == set()
    for node in tree.nodes:
        if node.id.startswith(EXPERTS):
            tree = changed(tree, node.id, own_peak_bytes={"prefill": 1})
    assert found(tree, document) == {(EXPERTS, "prefill", "peak_bytes")}


def test_the_peak_of_experts_is_exact_where_layers_route_alike(pair: tuple[CostTree, CallGraph]) -> None:
    tree, document = pair
    node = tree.node(f"{EXPERTS}.down_proj")
    more = {run: number + 1 for run, number in node.own_peak_bytes.items()}
    assert found(changed(tree, node.id, own_peak_bytes=more), document) >= {
        (EXPERTS, "prefill", "peak_bytes"),
        (EXPERTS, "decode", "peak_bytes"),
        (node.id, "decode", "peak_bytes"),
    }


def test_steps_continue_what_the_trace_begins() -> None:
    assert [extrapolated([5, 8], steps) for steps in range(6)] == [0, 5, 13, 24, 38, 55]
    assert extrapolated([7], 1) == 7


@pytest.mark.parametrize("routing", ["balanced", "worst", "zipf:1.2", "random:4"])
def test_all_steps_are_compared(routing: str) -> None:
    scenario = Scenario(pages=(Page(grid=(1, 1)),), decode_steps=9, routing=routing, batch=2, **SMALL_SIZES)
    whole = FAMILY.costs(small_config(), scenario).tree()
    document = trace_family(FAMILY, evolve(scenario, decode_steps=2), small_config())
    differences, compared = compare_steps(whole, document, 9, routing)
    assert differences == [] and compared > 100
    fewer = FAMILY.costs(small_config(), evolve(scenario, decode_steps=8)).tree()
    differences, _ = compare_steps(fewer, document, 9, routing)
    assert {d.module for d in differences} >= {"lm_head", "norm", "layers.[0-2].self_attn", ROOT}
    assert {d.forward for d in differences} == {"decode, 9 steps"}
    assert compare_steps(whole, document, 2, routing) == ([], 0)
