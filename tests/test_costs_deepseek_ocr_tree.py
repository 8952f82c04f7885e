"""The cost tree of DeepSeek-OCR: its modules, its sums, its decode steps, and how costs grow."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmeter.callgraph.folding import fold
from modelmeter.families.deepseek_ocr import DeepSeekOCRConfig
from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.patterns import expand
from modelmeter.schema.cost import DECODE, Amount, CostTree, forward_of
from modelmeter.schema.scenario import Page, Scenario
from modelmeter.tracing import trace_family
from modelmeter.verify import crop_grids
from random_ocr import configurations, scenarios
from small import SMALL_SIZES, small_config

FEW = settings(max_examples=25, deadline=None, derandomize=True, database=None)
PUBLISHED = FAMILY.default_configuration()
PATCHES = "vision_model.embeddings.patch_embedding"
"""Has weights and never runs."""

REGULAR = st.sampled_from(["balanced", "worst"])


def tree_of(config: DeepSeekOCRConfig, **values: Any) -> CostTree:
    return FAMILY.costs(config, Scenario(**values)).tree()


def of_grid(width: int, height: int, **values: Any) -> CostTree:
    return tree_of(PUBLISHED, pages=(Page(grid=(width, height)),), **values)


def called(tree: CostTree) -> set[str]:
    return {node.id for node in tree.nodes if node.calls}


@pytest.mark.parametrize(("grid", "steps", "families"), [((2, 1), 1, 65), ((3, 2), 0, 65)])
def test_nodes_are_the_families_of_the_folded_call_graph(grid: tuple[int, int], steps: int, families: int) -> None:
    scenario = Scenario(pages=(Page(grid=grid),), decode_steps=steps)
    folded = fold(trace_family(FAMILY, scenario, PUBLISHED)).families
    tree = FAMILY.costs(PUBLISHED, scenario).tree()
    assert called(tree) == set(folded)
    assert len(folded) == families
    assert {node.id for node in tree.nodes} - set(folded) == {PATCHES}
    for node in tree.nodes:
        if node.calls:
            family = folded[node.id]
            assert (sum(node.calls.values()), node.class_name) == (family.calls, family.class_name)
            assert (node.parameter_count, node.stage) == (family.parameters, family.stage)


@pytest.mark.parametrize(
    "language",
    [
        {},
        {"num_key_value_heads": 2},
        {"first_k_dense_replace": 0},
        {"n_routed_experts": None, "n_shared_experts": None, "num_experts_per_tok": None},
    ],
)
def test_nodes_of_small_configurations_are_families_too(language: dict[str, Any]) -> None:
    config, scenario = small_config(**language), Scenario(pages=(Page(grid=(2, 1)),), **SMALL_SIZES)
    folded = fold(trace_family(FAMILY, scenario, config)).families
    assert called(FAMILY.costs(config, scenario).tree()) == set(folded)


def test_experts_without_tokens_are_gaps_in_the_folded_graph_only() -> None:
    """The closed form counts the experts that are called and does not say which: its node stands for all."""
    scenario = Scenario(pages=(Page(grid=(2, 1)),), routing="worst", **SMALL_SIZES)
    tree = FAMILY.costs(small_config(), scenario).tree()
    folded = fold(trace_family(FAMILY, scenario, small_config())).families
    ours, theirs = called(tree) - set(folded), set(folded) - called(tree)
    assert {name.replace("[0-2]", "[0-7]") for name in theirs} == ours
    assert all(".experts.[0-2]" in name for name in theirs)
    for name in theirs:
        node = tree.node(name.replace(".experts.[0-2]", ".experts.[0-7]"))
        assert sum(node.calls.values()) == folded[name].calls
        assert set(folded[name].members) < set(expand(node.id))


@FEW
@given(config=configurations(), scenario=scenarios())
def test_totals_are_the_sums_of_their_parts(config: DeepSeekOCRConfig, scenario: Scenario) -> None:
    tree = FAMILY.costs(config, scenario).tree()
    whole = tree.total
    for name in Amount._fields:
        assert getattr(whole, name) == sum(getattr(node.own, name) for node in tree.nodes)
        assert getattr(whole, name) == sum(getattr(amount, name) for amount in tree.stages.values())
        assert all(getattr(entry.amount, name) >= 0 for node in tree.nodes for entry in node.operators)
    assert tree.stages["other"] == Amount()
    assert bool(scenario.decode_steps) == any(tree.stages[DECODE])
    assert tree.peak.bytes == max(max(node.own_peak_bytes.values(), default=0) for node in tree.nodes)
    for node in tree.nodes:
        assert node.members == len(expand(node.id))
        for entry in node.operators:
            amount = entry.amount
            assert amount.weight_bytes_read <= amount.bytes_read
            assert amount.calls > 0 < amount.launches
            assert amount.ideal_bytes <= amount.eager_bytes


def numbers(tree: CostTree, *, decode_only: bool) -> dict[tuple[str, ...], int]:
    """Everything that adds up over forwards, by node."""
    found: dict[tuple[str, ...], int] = {}
    for node in tree.nodes:
        sums = {"calls": node.calls, "output_bytes": node.output_bytes}
        for metric, by_run in sums.items():
            for run, number in by_run.items():
                if (forward_of(run) == DECODE) == decode_only:
                    found[node.id, metric, run] = number
        for entry in node.operators:
            if (forward_of(entry.run) == DECODE) == decode_only:
                for metric, number in entry.amount._asdict().items():
                    found[node.id, entry.operator, entry.dtype, entry.run, metric] = number
    return found


@FEW
@given(
    config=configurations(),
    scenario=scenarios(),
    steps=st.integers(1, 64),
    routing=st.sampled_from(["balanced", "worst", "zipf:1.3"]),
)
def test_decode_steps_add_up(config: DeepSeekOCRConfig, scenario: Scenario, steps: int, routing: str) -> None:
    """The sum over N steps is that of N single steps: of one step behind a prompt that is longer by one each time.

    A step sees the prompt and the tokens before it; that text was generated, not given, changes nothing.
    """
    scenario = evolve(scenario, routing=routing)
    resolved = FAMILY.resolve(config, evolve(scenario, decode_steps=0))
    together = FAMILY.costs(config, evolve(scenario, decode_steps=steps)).tree()
    singles: dict[tuple[str, ...], int] = {}
    assert resolved.text_tokens is not None
    for done in range(steps):
        longer = evolve(scenario, text_tokens=resolved.text_tokens + done, seq_len=None, decode_steps=1)
        single = FAMILY.costs(config, longer).tree()
        for place, number in numbers(single, decode_only=True).items():
            singles[place] = singles.get(place, 0) + number
    assert numbers(together, decode_only=True) == singles
    without = FAMILY.costs(config, evolve(scenario, decode_steps=0)).tree()
    assert numbers(together, decode_only=False) == numbers(without, decode_only=False)


@FEW
@given(config=configurations(), scenario=scenarios(), steps=st.integers(1, 64), routing=REGULAR)
def test_one_more_step_costs_a_little_more_each_time(
    config: DeepSeekOCRConfig, scenario: Scenario, steps: int, routing: str
) -> None:
    """Steps cost more by the same amount each: the sum over N has a constant second difference."""
    sums = [
        FAMILY.costs(config, evolve(scenario, decode_steps=number, routing=routing)).tree().stages[DECODE]
        for number in range(steps, steps + 4)
    ]
    for metric in Amount._fields:
        values = [getattr(amount, metric) for amount in sums]
        first = [later - earlier for earlier, later in itertools.pairwise(values)]
        assert first[0] <= first[1] <= first[2]
        assert first[1] - first[0] == first[2] - first[1]


def test_parameters_are_those_of_the_checkpoint() -> None:
    tree = of_grid(2, 1)
    assert tree.parameter_count == 3_336_106_240
    assert tree.weight_bytes == 2 * 3_336_106_240
    assert tree_of(PUBLISHED, dtype="float32").weight_bytes == 4 * 3_336_106_240


CROP = (640 / 1024) ** 2
"""Patches of a crop over those of the global view."""


@pytest.mark.parametrize("metric", ["matrix_flops", "vector_flops"])
def test_every_further_crop_costs_the_same(metric: str) -> None:
    vision = {grid: getattr(of_grid(*grid).stages["vision"], metric) for grid in crop_grids()}
    crop = vision[3, 1] - vision[2, 1]
    # With crops or without, the tables of positions are resized once for each size of view.
    tables = vision[2, 1] - vision[1, 1] - 2 * crop
    assert 0 <= tables < (0.1 * crop if metric == "vector_flops" else 1)
    for grid, number in vision.items():
        crops = grid[0] * grid[1]
        assert number == vision[1, 1] + (tables + crops * crop if crops > 1 else 0)


@pytest.mark.parametrize("metric", ["matrix_flops", "vector_flops", "ideal_bytes", "eager_bytes", "bytes_written"])
def test_vision_grows_as_views_do(metric: str) -> None:
    """A crop costs as much as its part of the global view's patches, or where all patches attend to all, its square."""
    small, large = of_grid(1, 1), of_grid(2, 3)
    ratio = getattr(large.stages["vision"], metric) / getattr(small.stages["vision"], metric)
    assert 1 + 6 * CROP**2 < ratio < 1 + 6 * CROP
    ratio = large.stages["projector"].matrix_flops / small.stages["projector"].matrix_flops
    assert ratio == 1 + 6 * (10 / 16) ** 2


def test_prefill_and_activations_grow_as_tokens_do() -> None:
    small, large = of_grid(1, 1), of_grid(2, 3)
    tokens = [FAMILY.resolve(PUBLISHED, Scenario(pages=(Page(grid=grid),))).seq_len for grid in ((1, 1), (2, 3))]
    assert tokens == [283, 913]
    growth = tokens[1] / tokens[0]
    layers = "layers.[0-11]"
    results = [tree.node(layers).output_bytes["prefill"] for tree in (small, large)]
    assert results[1] / results[0] == growth
    flops = [tree.stages["prefill"].matrix_flops for tree in (small, large)]
    assert growth < flops[1] / flops[0] < 1.1 * growth
    for metric in ("vector_flops", "ideal_bytes", "eager_bytes"):
        ratio = getattr(large.stages["prefill"], metric) / getattr(small.stages["prefill"], metric)
        assert 1 < ratio < growth**2
    assert large.kv_cache_bytes / small.kv_cache_bytes == growth
    assert large.kv_cache_bytes == 2 * 12 * 913 * 10 * 128 * 2
    assert small.peak.bytes < large.peak.bytes < growth * small.peak.bytes


def test_batches_cost_their_number() -> None:
    one, four = of_grid(2, 1, decode_steps=3), of_grid(2, 1, decode_steps=3, batch=4)
    for stage in ("vision", "projector", "prefill", "decode"):
        assert four.stages[stage].matrix_flops == 4 * one.stages[stage].matrix_flops
    assert four.kv_cache_bytes == 4 * one.kv_cache_bytes
    assert four.weight_bytes == one.weight_bytes
    # A step reads the dense weights once for all requests, and more experts.
    assert one.stages["decode"].weight_bytes_read < four.stages["decode"].weight_bytes_read
    assert four.stages["decode"].weight_bytes_read < 4 * one.stages["decode"].weight_bytes_read


def test_a_decode_step_reads_all_active_weights_at_about_one_flop_a_byte() -> None:
    steps = 100
    tree = of_grid(2, 1, decode_steps=steps)
    decoder = [node for node in tree.nodes if node.calls.get(DECODE) and node.parameter_count]
    active = 0
    for node in decoder:
        share = node.calls[DECODE] / (steps * node.members)
        active += node.weight_bytes * share
    # Of the embedding one row is read, of the root two vectors that no step needs.
    table = tree.node("embed_tokens")
    active -= table.weight_bytes - PUBLISHED.decoder.hidden_size * 2
    core = tree.node("DeepseekOCRModel")
    active -= core.weight_bytes if core in decoder else 0
    decode = tree.stages[DECODE]
    assert decode.weight_bytes_read == steps * active
    assert 0.9 < decode.matrix_flops / decode.ideal_bytes < 1.1
    assert decode.weight_bytes_read > 0.9 * decode.ideal_bytes
    vision = tree.stages["vision"]
    assert vision.matrix_flops / vision.ideal_bytes > 100
