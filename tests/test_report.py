"""The analytic report: what it holds, that it is determined by its scenario, and what its expressions give."""

from __future__ import annotations

import json

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.cost.catalogue import find_device
from modelmeter.cost.efficiency import DEFAULT
from modelmeter.families.deepseek_ocr import DeepSeekOCRConfig
from modelmeter.families.deepseek_ocr.config import restore
from modelmeter.families.deepseek_ocr.costs.symbolic_views import crop_grid
from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.families.deepseek_ocr.views import VisionWorkload, compute_view_layout
from modelmeter.planning.expressions import evaluate_graph
from modelmeter.planning.report import build_report
from modelmeter.planning.what_if import changed, overridden, question_of
from modelmeter.schema.scenario import Page, Scenario
from modelmeter.tracing import trace_family
from report_numbers import compare_numbers
from small import SMALL_SIZES, small_config

CONFIG = FAMILY.default_configuration()
GRIDS = [(1, 1), (2, 1), (1, 2), (3, 2), (3, 3), (1, 9)]


def report(scenario: Scenario, config: DeepSeekOCRConfig = CONFIG) -> AnalyticModelReport:
    return build_report(FAMILY, config, scenario, find_device(scenario.device))


USUAL = Scenario(pages=(Page(grid=(2, 1)),), decode_steps=100)


def test_totals_are_the_published_ones_and_the_sum_of_the_stages():
    totals = report(USUAL).totals
    assert totals is not None
    stages = {name: stage.costs for name, stage in totals.stages.items()}
    assert stages["vision"].matrix_flops + stages["projector"].matrix_flops == 1_916_266_708_992
    assert stages["decode"].matrix_flops == 118_158_489_600
    for name in ("matrix_flops", "vector_flops", "bytes_read", "bytes_written", "launches"):
        assert getattr(totals.costs, name) == sum(getattr(costs, name) for costs in stages.values())
    assert sum(totals.matrix_flops_by_dtype.values()) == totals.costs.matrix_flops
    assert totals.parameters == 3_336_106_240


def test_modules_are_a_tree_with_repeats():
    modules = {node.module_id: node for node in report(USUAL).modules}
    roots = [node for node in modules.values() if node.parent_id is None]
    assert [node.module_id for node in roots] == ["DeepseekOCRForCausalLM"]
    for node in modules.values():
        assert all(modules[child].parent_id == node.module_id for child in node.children)
    repeats = {name: (node.repetition, node.repetition_count) for name, node in modules.items()}
    assert repeats["layers.[0-11]"] == ("for", 12)
    assert repeats["sam_model.blocks.[0-11]"] == ("for", 12)
    assert repeats["layers.[1-11].mlp.experts.[0-63]"] == ("parfor", 64)
    assert repeats["layers.[0-11].self_attn.[q_proj,k_proj,v_proj]"] == ("parfor", 3)
    assert repeats["sam_model"] == ("parfor", 2)
    assert repeats["lm_head"] == ("none", None)


def test_classes_are_named_as_a_trace_names_them():
    scenario = Scenario(pages=(Page(grid=(2, 1)),), **SMALL_SIZES)  # type: ignore[arg-type]
    document = trace_family(FAMILY, scenario, small_config())
    named = {node.qualified_class_name for node in report(scenario, small_config()).modules}
    traced = {document.module_classes[name] for name in document.call_counts}
    assert traced <= named and all("." in name for name in named)


def test_metrics_hold_what_is_below():
    found = report(USUAL)
    metrics = {snapshot.module_id: snapshot for snapshot in found.module_metrics}
    root = metrics["DeepseekOCRForCausalLM"]
    assert root.share_of_model_time == 1
    assert root.total_time_ms == pytest.approx(found.predicted_total_time_ms)
    assert root.memory_weights_gb == pytest.approx(6.672, abs=1e-3)
    for node in found.modules:
        mine = metrics[node.module_id]
        for child in node.children:
            assert metrics[child].total_time_ms <= mine.total_time_ms * (1 + 1e-9)
            assert metrics[child].memory_activations_gb <= mine.memory_activations_gb
        shares = sum(part.share_of_module_flops for part in mine.operator_breakdown)
        assert shares == pytest.approx(1) or not mine.total_flops_tflops


def test_stages_of_modules_add_up():
    found = report(USUAL)
    metrics = {snapshot.module_id: snapshot for snapshot in found.module_metrics}
    assert found.stage_metrics is not None
    for name, mine in metrics.items():
        parts = [part for part in found.stage_metrics if part.module_id == name]
        assert sum(part.total_time_ms for part in parts) == pytest.approx(mine.total_time_ms)
        assert sum(part.total_flops_tflops for part in parts) == pytest.approx(mine.total_flops_tflops)


def test_at_least_99_percent_is_in_named_categories():
    found = report(USUAL)
    root = found.module_metrics[0]
    other = [part for part in root.operator_breakdown if part.category_id == "other"]
    assert sum(part.share_of_module_flops for part in other) <= 0.01


def test_capacity_follows_from_the_times():
    found = report(evolve(USUAL, batch=4))
    capacity = found.capacity
    assert capacity is not None and capacity.time_per_output_token_s is not None
    total = capacity.total_time_s.estimate
    assert capacity.pages_per_s.estimate == pytest.approx(4 / total)
    assert capacity.time_to_first_token_s.estimate + 100 * capacity.time_per_output_token_s.estimate == pytest.approx(
        total
    )
    for interval in (capacity.pages_per_s, capacity.total_time_s, capacity.tokens_per_s):
        assert interval is not None and interval.low <= interval.estimate <= interval.high
    price = find_device("h100-sxm").hourly_price_usd
    assert price and capacity.price_per_1000_pages_usd
    assert capacity.price_per_1000_pages_usd.estimate == pytest.approx(price / 3600 * total / 4 * 1000)


def test_the_largest_batch_fits_and_one_more_does_not():
    found = report(evolve(USUAL, device="l4"))
    assert found.capacity is not None
    largest = found.capacity.largest_batch
    assert report(evolve(USUAL, device="l4", batch=largest)).capacity.headroom_bytes >= 0  # type: ignore[union-attr]
    with pytest.raises(Exception, match="does not fit"):
        report(evolve(USUAL, device="l4", batch=largest + 1))


scenarios = st.builds(
    Scenario,
    pages=st.one_of(
        st.sampled_from(GRIDS).map(lambda grid: (Page(grid=grid),)),
        st.tuples(st.integers(1, 4000), st.integers(1, 4000)).map(lambda size: (Page(*size),)),
    ),
    text_tokens=st.integers(1, 300),
    decode_steps=st.integers(0, 300),
    batch=st.integers(1, 4),
    dtype=st.sampled_from(["bfloat16", "float16"]),
    attention=st.sampled_from(["sdpa", "eager"]),
    head=st.sampled_from(["all", "last"]),
    routing=st.sampled_from(["balanced", "worst"]),
    execution=st.sampled_from(["eager", "graph"]),
    device=st.sampled_from(["h100-sxm", "h200", "mi300x"]),
)


@settings(max_examples=15, deadline=None)
@given(scenarios)
def test_expressions_give_the_reports_own_numbers(scenario: Scenario):
    found = report(scenario)
    assert found.expressions is not None and found.totals is not None
    compare_numbers(evaluate_graph(json.loads(json.dumps(found.expressions)), found.expressions["keys"]), found)


KEPT = ("dtype", "attention", "head", "routing")
"""Keys that a report's expressions hold for; all others are keys of the expressions."""


@settings(max_examples=15, deadline=None)
@given(scenarios, scenarios)
def test_expressions_answer_for_other_scenarios(first: Scenario, second: Scenario):
    second = evolve(second, **{name: getattr(first, name) for name in KEPT})
    if (first.pages[0].grid is None) != (second.pages[0].grid is None):
        second = evolve(second, pages=first.pages)
    one, other = report(first), report(second)
    assert one.expressions is not None and other.expressions is not None
    compare_numbers(evaluate_graph(one.expressions, other.expressions["keys"]), other)


@given(st.integers(1, 6000), st.integers(1, 6000), st.booleans())
def test_a_pages_grid_as_an_expression(width: int, height: int, crop_mode: bool):
    _, w, h = compute_view_layout(VisionWorkload(crop_mode=crop_mode), width, height)
    assert crop_grid(width, height, int(crop_mode)) == (w, h)


@settings(max_examples=15, deadline=None)
@given(scenarios, scenarios)
def test_what_if_equals_a_fresh_analysis(first: Scenario, second: Scenario):
    question = question_of(report(first))
    assert question.report() == report(first)
    names = ("pages", "text_tokens", "decode_steps", "batch", "dtype", "attention", "head", "routing", "execution")
    asked = changed(question, {name: getattr(second, name) for name in names}, find_device(second.device))
    assert asked.report() == report(second)


def test_ids_tell_scenarios_apart():
    ids = {report(evolve(USUAL, **{name: value})).report_id for name, value in (("batch", 2), ("head", "last"))}
    assert len(ids | {report(USUAL).report_id}) == 3
    assert report(USUAL).report_id == report(USUAL).report_id


def test_a_figure_of_the_device_may_be_changed():
    device = find_device("h100-sxm")
    faster = overridden(device, {"memory_bytes_per_s": 2 * device.memory_bytes_per_s})
    captured = evolve(USUAL, execution="graph")
    before = build_report(FAMILY, CONFIG, captured, device)
    after = build_report(FAMILY, CONFIG, captured, faster, DEFAULT)
    assert after.totals and before.totals
    assert after.totals.stages["decode"].time_s.estimate < 0.6 * before.totals.stages["decode"].time_s.estimate
    with pytest.raises(Exception, match="did you mean 'memory_bytes_per_s'"):
        overridden(device, {"memory_byte_per_s": 1.0})


def test_a_configuration_survives_the_report():
    data = json.loads(json.dumps(small_config().to_dict()))
    assert restore(data) == small_config()
    with pytest.raises(Exception, match="not one of DeepSeek-OCR"):
        restore({**data, "unknown": 1})
