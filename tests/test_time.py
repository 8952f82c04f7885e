"""Times from costs: bounds, intervals, and what must hold on real devices without any tuning to it."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmeter.cost.catalogue import find_device, load_catalogue
from modelmeter.cost.efficiency import CASES, DEFAULT, Efficiency, Step
from modelmeter.cost.roofline import Machine, operator_times
from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.planning.analysis import analyze
from modelmeter.schema.analysis import Analysis
from modelmeter.schema.cost import Amount, OperatorCosts
from modelmeter.schema.scenario import Page, Scenario
from modelmeter.schema.timing import BOUNDS, TimedTree

STEPS = 100

PERFECT = Efficiency(
    matrix=(Step(0, 1, 1, 1),),
    vector=(Step(0, 1, 1, 1),),
    memory=(Step(0, 1, 1, 1),),
    launch=Step(0, 1, 1, 1),
    origin="peaks",
)


@cache
def timed(device: str, execution: str, grid: tuple[int, int] = (2, 1), batch: int = 1) -> TimedTree:
    scenario = Scenario(pages=(Page(grid=grid),), decode_steps=STEPS, batch=batch)
    return FAMILY.costs(FAMILY.default_configuration(), scenario).timed(find_device(device), execution)


def test_eager_decoding_on_an_rtx_5090_is_launch_bound():
    decode = timed("rtx-5090", "eager").stages["decode"]
    assert 6e-3 <= decode.seconds.estimate / STEPS <= 16e-3
    assert decode.bound == "launch"


def test_captured_decoding_on_an_rtx_5090_is_memory_bound():
    decode = timed("rtx-5090", "graph").stages["decode"]
    assert decode.seconds.estimate / STEPS <= 2e-3
    assert decode.bound == "memory"


def test_an_a100_waits_for_launches_in_the_prefill_and_computes_in_captured_vision():
    assert timed("a100-40g", "eager").stages["prefill"].bound == "launch"
    assert timed("a100-40g", "graph").stages["vision"].bound == "compute"


@pytest.mark.parametrize("device", sorted(load_catalogue()))
@pytest.mark.parametrize("execution", ["eager", "graph"])
def test_every_device_gives_an_interval_and_sums(device: str, execution: str):
    found = find_device(device)
    dtype = "bfloat16" if "bfloat16" in found.dense_flops_per_s else "float16"
    scenario = Scenario(pages=(Page(grid=(1, 1)),), decode_steps=3, dtype=dtype)
    tree = FAMILY.costs(FAMILY.default_configuration(), scenario).timed(found, execution)
    for span in (*tree.stages.values(), tree.total):
        assert span.seconds.low <= span.seconds.estimate <= span.seconds.high
        assert sum(span.shares.values()) == pytest.approx(span.seconds.estimate, rel=1e-12)
    whole = sum(span.seconds.estimate for span in tree.stages.values())
    assert tree.total.seconds.estimate == pytest.approx(whole, rel=1e-12)
    by_module = sum(tree.own(node.id).seconds.estimate for node in tree.tree.nodes)
    assert by_module == pytest.approx(whole, rel=1e-12)


def test_captured_launches_cost_nothing_and_never_take_longer():
    eager, graph = timed("h100-sxm", "eager"), timed("h100-sxm", "graph")
    for stage in eager.stages:
        assert graph.stages[stage].seconds.estimate <= eager.stages[stage].seconds.estimate
        assert graph.stages[stage].shares["launch"] == 0


def test_more_requests_share_the_weights():
    one, many = timed("h200", "graph", batch=1), timed("h200", "graph", batch=16)
    ratio = many.stages["decode"].seconds.estimate / one.stages["decode"].seconds.estimate
    assert 1 < ratio < 16


amounts = st.integers(0, 10**15)


@given(amounts, amounts, amounts, st.integers(1, 1000), st.integers(0, 1))
def test_an_operator_takes_the_largest_of_its_parts(matrix: int, vector: int, moved: int, launches: int, eager: int):
    machine = Machine({"bfloat16": 1e12}, 1e11, 1e10, 1e-5, eager)
    amount = Amount(1, matrix, vector, moved, 0, moved, 0, launches)
    entry = OperatorCosts("linear", "prefill", "prefill", "bfloat16", amount)
    (time,) = operator_times([entry], machine, PERFECT)
    compute, memory, issued = max(matrix / 1e12, vector / 1e11), moved / 1e10, launches * 1e-5 * eager
    assert time.seconds == pytest.approx([max(compute, memory, issued)] * len(CASES), rel=1e-12)
    expected = "launch" if issued > max(compute, memory) else "compute" if compute >= memory else "memory"
    assert time.bound == expected


@settings(max_examples=30)
@given(st.lists(st.tuples(amounts, st.integers(1, 50)), min_size=1, max_size=6))
def test_a_segment_lasts_as_long_as_its_launches_or_its_device_time(parts: list[tuple[int, int]]):
    machine = Machine({}, 1e11, 1e10, 1e-5, 1)
    entries = [
        OperatorCosts("add", "decode", "decode", "", Amount(1, 0, 0, moved, 0, moved, 0, launches), "layers")
        for moved, launches in parts
    ]
    times = operator_times(entries, machine, PERFECT)
    together = sum(time.seconds.estimate for time in times)
    issued = sum(launches for _, launches in parts) * 1e-5
    on_device = sum(moved for moved, _ in parts) / 1e10
    assert together == pytest.approx(max(issued, on_device), rel=1e-9)


def test_efficiency_steps_up_with_size():
    for table in ("matrix", "vector", "memory"):
        for case in CASES:
            shares = [DEFAULT.factor(table, 10**power, 1, case) for power in range(13)]
            assert shares == sorted(shares) and shares[0] > 0 and shares[-1] <= 1
    step = DEFAULT.memory[1]
    assert DEFAULT.factor("memory", step.size - 1, 1, "estimate") == DEFAULT.memory[0].estimate
    assert DEFAULT.factor("memory", step.size, 1, "estimate") == step.estimate
    assert DEFAULT.factor("memory", step.size, 2, "estimate") == DEFAULT.memory[0].estimate


def plan(**keys: object) -> Analysis:
    keys = {"pages": (Page(grid=(2, 1)),), "decode_steps": 4, **keys}
    scenario = Scenario(**keys)  # type: ignore[arg-type]
    return analyze(FAMILY, FAMILY.default_configuration(), scenario, find_device(scenario.device))


def test_categories_hold_everything():
    analysis = plan()
    categories = analysis.categories
    assert "other" not in categories
    assert sum(amount.flops for amount, _ in categories.values()) == analysis.tree.total.flops
    seconds = sum(span.seconds.estimate for _, span in categories.values())
    assert seconds == pytest.approx(analysis.timed.total.seconds.estimate, rel=1e-12)
    assert all(span.bound in BOUNDS for _, span in categories.values())


def test_modules_hold_what_is_below_them():
    analysis = plan()
    modules = {total.node.id: total for total in analysis.modules()}
    root = modules[analysis.tree.root.id]
    assert root.amount == analysis.tree.total
    assert root.span.seconds.estimate == pytest.approx(analysis.timed.total.seconds.estimate, rel=1e-12)
    for total in modules.values():
        below = [other for other in modules.values() if other.node.caller == total.node.id]
        flops = total.node.own.flops + sum(other.amount.flops for other in below)
        assert total.amount.flops == flops
        assert not below or total.span.bound in BOUNDS
