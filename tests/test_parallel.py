"""Costs on several devices: what is shared out adds up to the whole, the rest is on every device."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmeter.cost import operators as op
from modelmeter.cost.catalogue import find_device
from modelmeter.cost.categories import COLLECTIVES
from modelmeter.cost.efficiency import CASES
from modelmeter.cost.layers.parallel import Parallel
from modelmeter.cost.network import BANDWIDTH, START_S, Link, network_seconds
from modelmeter.cost.records import Amounts
from modelmeter.cost.tape import Tape
from modelmeter.errors import ScenarioError
from modelmeter.families.deepseek_ocr import DeepSeekOCRConfig
from modelmeter.families.deepseek_ocr.costs import closed_form, closed_form_values, written_out
from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.routing import parse_routing
from modelmeter.schema.cost import DECODE, PREFILL, CostTree
from modelmeter.schema.scenario import Page, Scenario
from modelmeter.schema.timing import NETWORK
from small import SMALL_SIZES, small_config

PUBLISHED = FAMILY.default_configuration()

ON_EVERY_DEVICE = (
    "sam_model",
    "projector",
    "input_layernorm",
    "post_attention_layernorm",
    "gate",
    "norm",
    "rotary_emb",
)
"""Modules whose products, or whose work, every device of tensor parallelism repeats."""


def small_scenario(**given: Any) -> Scenario:
    return Scenario(**{"pages": (Page(grid=(2, 1)),), "decode_steps": 3, **SMALL_SIZES, **given})


def published_scenario(**given: Any) -> Scenario:
    return Scenario(**{"pages": (Page(grid=(2, 1)),), "decode_steps": 20, "execution": "graph", **given})


def tree_of(config: DeepSeekOCRConfig, scenario: Scenario) -> CostTree:
    return FAMILY.costs(config, scenario).tree()


def products(tree: CostTree) -> dict[tuple[str, str, str], int]:
    """Matrix FLOPs by module, run and operator."""
    found: Counter[tuple[str, str, str]] = Counter()
    for node in tree.nodes:
        for entry in node.operators:
            if entry.amount.matrix_flops:
                found[node.id, entry.run, entry.operator] += entry.amount.matrix_flops
    return dict(found)


def is_repeated(module: str) -> bool:
    return any(part in ON_EVERY_DEVICE for part in module.split("."))


# Tensor parallelism -------------------------------------------------------------------------------------


@given(
    ranks=st.sampled_from([2, 4]),
    kv_heads=st.sampled_from([1, 2, 4]),
    columns=st.integers(1, 3),
    steps=st.integers(0, 3),
    batch=st.integers(1, 3),
    attention=st.sampled_from(["eager", "sdpa"]),
    routing=st.sampled_from(["balanced", "worst", "zipf:1.1"]),
)
@settings(max_examples=25, deadline=None)
def test_what_is_shared_adds_up(
    ranks: int, kv_heads: int, columns: int, steps: int, batch: int, attention: str, routing: str
) -> None:
    config = small_config(num_key_value_heads=kv_heads, vocab_size=104)
    given = {"decode_steps": steps, "batch": batch, "attention": attention, "routing": routing}
    scenario = small_scenario(pages=(Page(grid=(columns, 1)),), **given)
    whole = tree_of(config, scenario)
    part = tree_of(config, evolve(scenario, devices=ranks, tensor_parallel=ranks))
    before, after = products(whole), products(part)
    assert before.keys() == after.keys()
    clip = 1 if config.clip.heads % ranks else ranks
    for place, flops in before.items():
        if "[k_proj,v_proj]" in place[0]:
            parts = min(ranks, kv_heads)
        elif place[0].startswith("vision_model"):
            parts = clip
        else:
            parts = 1 if is_repeated(place[0]) else ranks
        assert flops == after[place] * parts, place
    for before_node, after_node in zip(whole.nodes, part.nodes, strict=True):
        assert before_node.id == after_node.id and before_node.calls == after_node.calls
        assert after_node.weight_bytes <= before_node.weight_bytes
        assert after_node.weight_bytes * ranks >= before_node.weight_bytes
    assert part.kv_cache_bytes * min(ranks, kv_heads) == whole.kv_cache_bytes
    assert part.peak.bytes <= whole.peak.bytes


def test_the_published_model_on_two_devices() -> None:
    whole, part = (tree_of(PUBLISHED, published_scenario(tensor_parallel=ranks)) for ranks in (1, 2))
    shared = {
        node.id
        for node, half in zip(whole.nodes, part.nodes, strict=True)
        if half.weight_bytes * 2 == node.weight_bytes
    }
    repeated = {
        node.id for node, half in zip(whole.nodes, part.nodes, strict=True) if half.weight_bytes == node.weight_bytes
    }
    biases = {name for name in (node.id for node in whole.nodes) if name.endswith(("out_proj", "fc2"))}
    assert shared | repeated | biases == {node.id for node in whole.nodes}
    heavy = {node.id for node in whole.nodes if node.id in repeated and node.weight_bytes > 1e7}
    assert heavy == {name for name in heavy if name.startswith(("sam_model", "vision_model.embeddings"))}
    # Two all-reduces a layer and forward, one for the embedding, and one gathering of logits.
    assert sum(
        e.amount.calls for n in part.nodes for e in n.operators if e.run == DECODE and e.operator in COLLECTIVES
    ) == (20 * (2 * 12 + 2))


def test_collectives_of_a_step() -> None:
    """What one device sends in one decode step, from the sizes alone."""
    scenario = published_scenario(tensor_parallel=2, decode_steps=1, batch=3)
    sent: Counter[str] = Counter()
    for node in tree_of(PUBLISHED, scenario).nodes:
        for entry in node.operators:
            if entry.run == DECODE:
                sent[entry.operator] += entry.amount.wire_bytes
    assert sent["all_reduce"] == 25 * 3 * 1280 * 2  # 2 (n - 1) / n is 1
    assert sent["all_gather"] == 3 * 129_280 // 2 * 2
    assert sent["all_to_all"] == 0


@pytest.mark.parametrize("device", ["h100-sxm", "rtx-4090", "b200"])
@pytest.mark.parametrize("execution", ["graph", "eager"])
def test_times_have_bounds(device: str, execution: str) -> None:
    def timed(**given: Any) -> Any:
        scenario = published_scenario(execution=execution, batch=8, **given)
        return FAMILY.costs(PUBLISHED, scenario).timed(find_device(device), execution)

    alone, two = timed(), timed(tensor_parallel=2)
    for place in range(3):
        assert two.total.seconds[place] > alone.total.seconds[place] / 2
    sent = two.total.shares[NETWORK]
    assert 0 < sent < two.total.seconds.estimate if execution == "graph" else sent >= 0
    assert alone.total.shares[NETWORK] == 0
    if execution == "graph":
        assert two.stages["decode"].seconds.estimate < alone.stages["decode"].seconds.estimate


def test_more_devices_send_more() -> None:
    config = small_config(num_attention_heads=8, num_key_value_heads=8, moe_intermediate_size=64, intermediate_size=64)
    scenario = small_scenario()
    # Of the decoder alone: CLIP has too few heads to be shared by more than two.
    trees = [tree_of(config, evolve(scenario, devices=n, tensor_parallel=n)).stages[DECODE] for n in (1, 2, 4, 8)]
    assert [total.wire_bytes for total in trees] == sorted(total.wire_bytes for total in trees)
    assert [total.wire_steps for total in trees][1:] == [trees[1].wire_steps * n for n in (1, 3, 7)]
    assert trees[0].wire_bytes == 0 < trees[1].wire_bytes
    # A ring never sends more than twice the tensor, however many devices there are.
    assert trees[3].wire_bytes < 2 * trees[1].wire_bytes


def test_slow_links_are_network_bound() -> None:
    slow = evolve(
        find_device("h100-sxm"),
        figures=evolve(find_device("h100-sxm").figures, interconnect_bytes_per_s=find_device("t4").figures.power_w),
        sources={**find_device("h100-sxm").sources, **find_device("t4").sources},
    )
    timed = FAMILY.costs(PUBLISHED, published_scenario(tensor_parallel=2)).timed(slow, "graph")
    assert timed.total.bound == timed.stages["decode"].bound == NETWORK


# Expert parallelism -------------------------------------------------------------------------------------


def busiest(config: DeepSeekOCRConfig, scenario: Scenario, ranks: int) -> tuple[int, int]:
    """Copies and calls of the busiest device's experts, counted from the policy's tables layer by layer."""
    decoder = config.decoder
    assert decoder.n_routed_experts and decoder.num_experts_per_tok
    policy = parse_routing(scenario.routing)
    positions = FAMILY.resolve(config, scenario).seq_len
    assert positions is not None
    copies = calls = 0
    for forward in range(scenario.decode_steps + 1):
        tokens = scenario.batch * (1 if forward else positions)
        for layer in range(decoder.num_hidden_layers - decoder.first_k_dense_replace):
            sizes = (tokens, decoder.n_routed_experts, decoder.num_experts_per_tok)
            table = policy.table(*sizes, call=layer, forward=forward)
            loads = [np.bincount(table[table % ranks == rank], minlength=1) for rank in range(ranks)]
            heaviest = max(loads, key=lambda counts: int(counts.sum()))
            copies, calls = copies + int(heaviest.sum()), calls + int((heaviest > 0).sum())
    return copies, calls


@pytest.mark.parametrize("spread", ["selects", "exchanges"])
@given(
    ranks=st.sampled_from([2, 4]),
    routing=st.sampled_from(["balanced", "worst", "zipf:1.1", "random:3"]),
    batch=st.integers(1, 5),
    steps=st.integers(0, 3),
)
@settings(max_examples=15, deadline=None)
def test_experts_of_the_busiest_device(spread: str, ranks: int, routing: str, batch: int, steps: int) -> None:
    config = small_config()
    tensor = ranks if spread == "selects" else 1
    scenario = small_scenario(
        routing=routing, batch=batch, decode_steps=steps, tensor_parallel=tensor, expert_parallel=ranks
    )
    tree = tree_of(config, scenario)
    experts = [node for node in tree.nodes if ".experts." in node.id and node.id.endswith("down_proj")]
    copies, calls = busiest(config, scenario, ranks)
    decoder = config.decoder
    assert sum(node.own.matrix_flops for node in experts) == (
        copies * 2 * decoder.hidden_size * decoder.moe_intermediate_size
    )
    assert sum(sum(node.calls.values()) for node in experts) == calls
    (down,) = experts
    assert decoder.n_routed_experts
    assert down.members == 2 * decoder.n_routed_experts // ranks
    whole = tree_of(config, evolve(scenario, devices=1, tensor_parallel=1, expert_parallel=1))
    assert down.weight_bytes * ranks == whole.node(down.id).weight_bytes
    assert tree.peak.bytes <= whole.peak.bytes
    assert tree.total.matrix_flops <= whole.total.matrix_flops


def test_without_shared_layers_requests_are_shared_out() -> None:
    scenario = published_scenario(batch=8, expert_parallel=4)
    part, alone = tree_of(PUBLISHED, scenario), tree_of(PUBLISHED, published_scenario(batch=2))
    kinds = {entry.operator for node in part.nodes for entry in node.operators} & set(COLLECTIVES)
    assert kinds == {"all_to_all"}
    mine = products(part)
    for place, flops in products(alone).items():
        assert mine[place] == flops, place  # of experts, balanced: a quarter of four times as many copies
    assert part.kv_cache_bytes == alone.kv_cache_bytes
    # A device without a full share has as much to do as one with: the busiest counts.
    uneven = products(tree_of(PUBLISHED, evolve(scenario, batch=5)))
    assert uneven["lm_head", PREFILL, "linear"] == mine["lm_head", PREFILL, "linear"]


@pytest.mark.parametrize("routing", ["balanced", "worst", "zipf:1.1"])
@pytest.mark.parametrize("degrees", [(1, 1), (2, 1), (2, 2), (4, 4), (1, 4)])
def test_compiled_forms_are_the_written_ones(routing: str, degrees: tuple[int, int]) -> None:
    config = small_config()
    given = {"tensor_parallel": degrees[0], "expert_parallel": degrees[1]}
    scenario = FAMILY.resolve(config, small_scenario(routing=routing, batch=3, **given))
    layouts = FAMILY.layouts(config, scenario)
    form = closed_form(config, scenario, layouts)
    assert form.tree(closed_form_values(config, scenario, layouts)) == written_out(config, scenario, layouts)


def test_replicas_change_nothing_on_a_device() -> None:
    scenario = small_scenario()
    assert tree_of(small_config(), evolve(scenario, devices=4)) == tree_of(small_config(), scenario)


# What is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tensor_parallel": 4}, "10 attention heads do not divide by --tensor-parallel 4; use one of 1, 2"),
        ({"tensor_parallel": 5}, "6848 channels of the dense layers do not divide by --tensor-parallel 5"),
        ({"expert_parallel": 3}, "64 routed experts do not divide by --expert-parallel 3; use one of 1, 2, 4, 8, 16"),
        ({"tensor_parallel": 2, "expert_parallel": 4}, "use --expert-parallel 1 or 2, or --tensor-parallel 1"),
        ({"tensor_parallel": 2, "devices": 3}, "--tensor-parallel 2 does not divide --devices 3"),
    ],
)
def test_what_cannot_be_shared(given: dict[str, int], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        tree_of(PUBLISHED, published_scenario(**given))


@pytest.mark.parametrize(
    ("language", "message"),
    [
        ({"num_key_value_heads": 6, "num_attention_heads": 12}, "6 key-value heads do not divide by"),
        ({"num_attention_heads": 8, "num_key_value_heads": 8, "intermediate_size": 82}, "82 channels of the dense"),
        ({"moe_intermediate_size": 22, "num_attention_heads": 4}, "22 channels of an expert"),
        ({"moe_intermediate_size": 11, "n_shared_experts": 2}, "11 channels of an expert"),
    ],
)
def test_each_part_that_does_not_divide_is_named(language: dict[str, int], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        tree_of(small_config(**language), small_scenario(tensor_parallel=4))


def test_whole_experts_need_not_divide() -> None:
    config = small_config(moe_intermediate_size=22, n_shared_experts=2)
    assert tree_of(config, small_scenario(tensor_parallel=4, expert_parallel=4)).total.wire_bytes
    with pytest.raises(ScenarioError, match="channels of the shared experts do not divide"):
        tree_of(small_config(moe_intermediate_size=21), small_scenario(tensor_parallel=4, expert_parallel=4))


def test_a_device_without_a_connection_is_refused_by_name() -> None:
    costs = FAMILY.costs(PUBLISHED, published_scenario(tensor_parallel=2))
    with pytest.raises(ScenarioError, match=r"xeon-8480.* has no figure for its connection to others"):
        costs.timed(find_device("xeon-8480+"))
    FAMILY.costs(PUBLISHED, published_scenario(devices=2)).timed(find_device("xeon-8480+"))


# Collectives --------------------------------------------------------------------------------------------


def ring(values: list[np.ndarray], *, adds: bool) -> tuple[list[list[Any]], int, int]:
    """A ring over real parts: all-reduce, or all-gather where nothing is added; (parts, sent elements, steps).

    Device d sends one part to device d + 1 in every step; what it sends is what it had before the step.
    """
    n = len(values)
    if adds:
        parts = [np.array_split(value, n) for value in values]
    else:
        parts = [[value if place == rank else None for place in range(n)] for rank, value in enumerate(values)]
    sent = steps = 0
    if adds:
        for step in range(n - 1):
            moving = [(rank, (rank - step) % n) for rank in range(n)]
            messages = [parts[rank][place].copy() for rank, place in moving]
            for (rank, place), message in zip(moving, messages, strict=True):
                parts[(rank + 1) % n][place] = parts[(rank + 1) % n][place] + message
            sent, steps = sent + len(messages[0]), steps + 1
    for step in range(n - 1):
        moving = [(rank, (rank + adds - step) % n) for rank in range(n)]
        messages = [parts[rank][place] for rank, place in moving]
        for (rank, place), message in zip(moving, messages, strict=True):
            parts[(rank + 1) % n][place] = message
        sent, steps = sent + len(messages[0]), steps + 1
    return parts, sent, steps


def amounts_of(call: Any) -> Amounts:
    tape = Tape()
    with tape.module("Layer", "Layer"):
        call(tape)
    (amounts,) = tape.record.costs.values()
    return amounts


@given(ranks=st.integers(2, 9), each=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_an_all_reduce_is_a_ring(ranks: int, each: int) -> None:
    rng = np.random.default_rng(ranks * 100 + each)
    values = [rng.integers(0, 9, ranks * each) for _ in range(ranks)]
    parts, sent, steps = ring(values, adds=True)
    for mine in parts:
        assert np.array_equal(np.concatenate(mine), sum(values))
    amounts = amounts_of(lambda tape: op.all_reduce(tape, tape.given(ranks * each * 2), 2, ranks))
    assert (amounts.wire_bytes, amounts.wire_steps) == (2 * sent, steps)
    assert amounts.vector_flops == each * (ranks - 1)


@given(ranks=st.integers(2, 9), each=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_an_all_gather_is_a_ring(ranks: int, each: int) -> None:
    values = [np.full(each, rank) for rank in range(ranks)]
    parts, sent, steps = ring(values, adds=False)
    for mine in parts:
        assert np.array_equal(np.concatenate(mine), np.concatenate(values))
    amounts = amounts_of(lambda tape: op.all_gather(tape, tape.given(each * 2), ranks))
    assert (amounts.wire_bytes, amounts.wire_steps) == (2 * sent, steps)
    assert amounts.bytes_written == 2 * ranks * each


@given(ranks=st.integers(2, 9), each=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_an_all_to_all_is_pairwise(ranks: int, each: int) -> None:
    """Device r exchanges with r + s in step s, each time the rows that belong there."""
    rows = [[(source, target)] * each for source in range(ranks) for target in range(ranks)]
    here = {rank: [row for part in rows for row in part if row[0] == rank] for rank in range(ranks)}
    there: dict[int, list[tuple[int, int]]] = {r: [row for row in here[r] if row[1] == r] for r in range(ranks)}
    sent = steps = 0
    for step in range(1, ranks):
        for rank in range(ranks):
            there[(rank + step) % ranks] += [row for row in here[rank] if row[1] == (rank + step) % ranks]
        sent, steps = sent + sum(row[1] == step for row in here[0]), steps + 1
    assert all(len(found) == ranks * each and {row[1] for row in found} == {r} for r, found in there.items())
    width = ranks * 2
    amounts = amounts_of(lambda tape: op.all_to_all(tape, tape.given(ranks * each * width), ranks * each, width, ranks))
    assert (amounts.wire_bytes, amounts.wire_steps) == (width * sent, steps)


def test_time_of_a_collective() -> None:
    link = Link(100e9, 1e-6)
    small = Amounts(calls=2, wire_bytes=2_000, wire_steps=6)
    assert network_seconds(small, link, "estimate") == pytest.approx(
        2 * START_S + 6e-6 + 2_000 / (100e9 * BANDWIDTH[0].estimate)
    )
    large = Amounts(calls=1, wire_bytes=10**9, wire_steps=2)
    assert network_seconds(large, link, "estimate") == pytest.approx(
        START_S + 2e-6 + 10**9 / (100e9 * BANDWIDTH[-1].estimate)
    )
    low, estimate, high = (network_seconds(large, link, case) for case in CASES)
    assert low < estimate < high
    assert low > 10**9 / 100e9


def test_kinds_of_sharing() -> None:
    assert Parallel(2, 1).data == Parallel(2, 2).data == 1 and Parallel(1, 4).data == 4
    assert (Parallel(2, 1).expert_parts, Parallel(2, 2).expert_parts) == (2, 1)
    assert Parallel(1, 4).exchanges and not Parallel(1, 4).selects
    assert Parallel(2, 2).selects and not Parallel(2, 2).exchanges
    assert not Parallel().selects and not Parallel().exchanges
