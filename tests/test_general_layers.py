"""Whole language models in closed form beside transformers' own code, traced without weights.

Equal, module by module: matrix FLOPs of every forward, parameters and their bytes; and the bytes of the
key-value cache after every forward, but for a sliding window (see there). In embeddings, projections,
norms, activation functions, gates and heads also vector FLOPs, launches and eager bytes. Not compared are
those of attention and of routed experts, where transformers' kernels are other ones than ours: it joins
an empty cache with the first keys, turns DeepSeek's queries pair by pair, and brings heads together.
Its routed experts are one module with fused weights, ours stand one by one: they are compared together.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from general_models import CONFIGURATIONS, LATENT, closed_form_of
from modelmeter import CallGraph, Scenario
from modelmeter.cost.layers.expert_load import balanced_load
from modelmeter.cost.layers.language_model import language_model_tree
from modelmeter.cost.layers.language_shape import LanguageModel, LanguageWorkload
from modelmeter.cost.layers.latent_attention import LatentShape
from modelmeter.cost.precision import Precision
from modelmeter.patterns import expand
from modelmeter.schema.cost import DECODE, PREFILL, CostTree

pytest.importorskip("transformers.models.deepseek_v3")

from modelmeter.tracing.hugging_face import trace_hugging_face

PRECISION = Precision()


def traced(name: str, batch: int, positions: int, steps: int, attention: str) -> CallGraph:
    # Their fused kernel for experts counts the same, but wants other alignments than small sizes have.
    source = {**CONFIGURATIONS[name], "experts_implementation": "eager"}
    scenario = Scenario(decode_steps=steps, attention=attention, batch=batch)
    return trace_hugging_face(source, scenario, batch=batch, positions=positions, name=name)


def written(model: LanguageModel, batch: int, positions: int, steps: int, attention: str) -> CostTree:
    work = LanguageWorkload(batch, positions, steps, attention=attention)
    if model.experts:
        load = (model.experts.experts, model.experts.top_k)
        layers = len(model.expert_layers)
        work = evolve(
            work,
            prefill_load=balanced_load(batch * positions, *load, layers),
            decode_load=balanced_load(batch, *load, layers * steps),
        )
    return language_model_tree(model, work)


def together(name: str) -> str:
    """The module that transformers runs a routed expert in."""
    return name.split(".experts")[0] + (".experts" if ".experts" in name else "")


def differences(graph: CallGraph, tree: CostTree) -> list[tuple[Any, ...]]:
    """Matrix FLOPs by module and run, parameters and weight bytes by module, where they differ."""
    theirs: dict[tuple[str, str], int] = defaultdict(int)
    for forward in graph.forwards:
        for module, cost in forward.costs.items():
            theirs[together(module), PREFILL if forward.name == PREFILL else DECODE] += cost.own.matrix_flops
    for module, info in graph.parameters.items():
        theirs[together(module), "parameters"] += info.count
        theirs[together(module), "bytes"] += info.bytes
    found, known = [], set()
    ours: dict[tuple[tuple[str, ...], str], int] = defaultdict(int)
    for node in tree.nodes:
        names = tuple(dict.fromkeys(map(together, expand(node.id))))
        known |= set(names)
        ours[names, "parameters"] += node.parameter_count
        ours[names, "bytes"] += node.weight_bytes
        for run in (PREFILL, DECODE):
            ours[names, run] += sum(entry.amount.matrix_flops for entry in node.operators if entry.run == run)
    for (names, what), number in ours.items():
        expected = sum(theirs.get((module, what), 0) for module in names)
        if number != expected:
            found.append((names, what, number, expected))
    return found + [(key, number) for key, number in theirs.items() if number and key[0] not in known]


OWN_KERNELS = ("Attention", "DecoderLayer", "Model", "ForCausalLM", "MoE")
"""Ends of class names of modules whose own kernels are not compared."""


def other_kernels(graph: CallGraph, tree: CostTree) -> list[tuple[Any, ...]]:
    """Vector FLOPs, launches and eager bytes of all runs, where they differ in modules that share their kernels."""
    found = []
    for node in tree.nodes:
        names, own = expand(node.id), node.own
        if node.class_name.endswith(OWN_KERNELS) or ".experts" in node.id or node.class_name in DIFFERENT:
            continue
        theirs = [forward.costs[name].own for forward in graph.forwards for name in names if name in forward.costs]
        ours = [own.vector_flops, own.launches, own.eager_bytes_read, own.eager_bytes_written]
        fields = ("vector_flops", "launches", "bytes_read", "bytes_written")
        expected = [sum(getattr(cost, field) for cost in theirs) for field in fields]
        compared = 2 if "TopkRouter" in node.class_name else 4
        if ours[:compared] != expected[:compared]:
            found.append((node.id, ours, expected))
    return found


DIFFERENT = ("DeepseekV2RotaryEmbedding",)
"""Its angles are complex numbers."""


def cached(tree: CostTree, run: str) -> int:
    return sum(node.kv_cache_bytes.get(run, 0) for node in tree.nodes)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_equal_to_transformers(name: str, attention: str) -> None:
    graph = traced(name, 2, 11, 2, attention)
    model = closed_form_of(CONFIGURATIONS[name])
    tree = written(model, 2, 11, 2, attention)
    assert not graph.unknown_operators
    assert differences(graph, tree) == []
    assert tree.total.matrix_flops == graph.total.matrix_flops > 0
    assert other_kernels(graph, tree) == []
    if not model.windowed_layers:
        held = [sum(sizes[i] for sizes in graph.kv_cache.values()) for i in range(3)]
        assert [cached(tree, PREFILL), cached(tree, DECODE)] == [held[0], held[2]]
        one = model.cache_bytes_per_token_and_layer(PRECISION)
        assert held[1] - held[0] == 2 * model.layers * one


@given(
    st.sampled_from(list(CONFIGURATIONS)),
    st.integers(1, 3),
    st.integers(2, 20),
    st.integers(0, 3),
    st.sampled_from(["sdpa", "eager"]),
)
@settings(max_examples=6, deadline=None)
def test_equal_to_transformers_on_any_sizes(name: str, batch: int, positions: int, steps: int, attention: str) -> None:
    graph = traced(name, batch, positions, steps, attention)
    tree = written(closed_form_of(CONFIGURATIONS[name]), batch, positions, steps, attention)
    assert differences(graph, tree) == []


@pytest.mark.parametrize("positions", [2, 3, 4, 5, 6, 13])
def test_a_window_s_cache(positions: int) -> None:
    # transformers holds one position fewer than the window (the next token's own takes its place), and
    # counts positions in a tensor of 8 bytes a layer.
    model = closed_form_of(CONFIGURATIONS["mistral"])
    graph = traced("mistral", 2, positions, 1, "sdpa")
    tree = written(model, 2, positions, 1, "sdpa")
    assert model.window is not None
    one = 2 * model.layers * model.cache_bytes_per_token_and_layer(PRECISION)
    for place, run in enumerate((PREFILL, DECODE)):
        total = positions + place
        theirs = sum(sizes[place] for sizes in graph.kv_cache.values()) - 8 * model.layers
        assert theirs == one * min(model.window - 1, total)
        assert cached(tree, run) == one * min(model.window, total)


def test_a_band_is_cheaper_only_in_the_prefill() -> None:
    model = closed_form_of(CONFIGURATIONS["mistral"])
    dense, band = (written(model, 2, 11, 3, kind) for kind in ("sdpa", "band"))
    head = 2 * 2 * 8 * 4 * 2 * 3  # 2 products of 2 FLOPs, 8 channels, 4 heads, 2 requests, 3 layers
    scores = sum(min(5, position) for position in range(1, 12))
    assert dense.stages["prefill"].matrix_flops - band.stages["prefill"].matrix_flops == head * (121 - scores)
    assert dense.stages["decode"].matrix_flops == band.stages["decode"].matrix_flops
    names = [{entry.operator for node in tree.nodes for entry in node.operators} for tree in (dense, band)]
    assert "band_mask" in names[0] and "band_mask" not in names[1]


def test_no_mask_before_the_window_is_full() -> None:
    model = closed_form_of(CONFIGURATIONS["mistral"])
    operators = {entry.operator for node in written(model, 1, 5, 3, "sdpa").nodes for entry in node.operators}
    assert "band_mask" not in operators


def test_experts_are_counted_once_where_windows_differ() -> None:
    # A window that is never full changes nothing but the names that attention goes by.
    model = evolve(closed_form_of(CONFIGURATIONS["qwen3_moe"]), expert_layers=frozenset(range(3)))
    split = evolve(model, window=1000, windowed_layers=frozenset({1}))
    plain, apart = (written(one, 2, 11, 3, "sdpa") for one in (model, split))
    assert apart.node("layers.[0,2].self_attn").members == 2
    assert {stage: amount.matrix_flops for stage, amount in plain.stages.items()} == {
        stage: amount.matrix_flops for stage, amount in apart.stages.items()
    }
    assert (plain.parameter_count, cached(plain, DECODE)) == (apart.parameter_count, cached(apart, DECODE))
    for name in ("layers.[0-2].mlp.experts.[0-5]", "layers.[0-2].mlp.experts.[0-5].down_proj"):
        assert plain.node(name).calls == apart.node(name).calls
        assert plain.node(name).own == apart.node(name).own


def test_forms_of_latent_attention() -> None:
    batch, positions, steps = 2, 11, 3
    trees = {
        form: written(closed_form_of(CONFIGURATIONS["deepseek_v3"], form), batch, positions, steps, "sdpa")
        for form in ("latent", "expanded", "absorbed")
    }
    heads, rank, rotary, plain, value = 4, 10, 4, 6, 7
    # The cache's size is what they differ in, and what a step computes.
    sizes = {form: cached(tree, DECODE) for form, tree in trees.items()}
    cells = 2 * 3 * batch * (positions + steps)
    assert sizes["latent"] == sizes["absorbed"] == cells * (rank + rotary)
    assert sizes["expanded"] == cells * heads * (plain + rotary + value)
    flops = {form: tree.stages["decode"].matrix_flops for form, tree in trees.items()}
    seen = sum(positions + step for step in range(1, steps + 1))
    again = 2 * 3 * batch * rank * heads * (plain + value)
    assert flops["latent"] - flops["expanded"] == again * (seen - steps)
    scores = 2 * 3 * batch * heads * seen
    absorbed = scores * (2 * rank + rotary) + again * steps
    assert flops["absorbed"] == flops["expanded"] - again * steps - scores * (plain + rotary + value) + absorbed
    assert len({tree.parameter_count for tree in trees.values()}) == 1
    assert trees["latent"].stages["prefill"].matrix_flops == trees["expanded"].stages["prefill"].matrix_flops


def test_published_sizes() -> None:
    # DeepSeek-V3: 61 layers, 512 + 64 latent elements a token and layer, 671 B parameters.
    source = {
        **LATENT,
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "moe_intermediate_size": 2048,
        "num_hidden_layers": 61,
        "num_attention_heads": 128,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "n_group": 8,
        "first_k_dense_replace": 3,
        "vocab_size": 129280,
    }
    model = closed_form_of(source)
    assert isinstance(model.attention, LatentShape)
    assert model.cache_bytes_per_token_and_layer(PRECISION) == (512 + 64) * 2
    tree = written(model, 1, 16, 0, "sdpa")
    assert round(tree.parameter_count / 1e9, 1) == 671.0


def test_what_a_model_cannot_be() -> None:
    model = closed_form_of(CONFIGURATIONS["llama"])
    for wrong in (
        {"expert_layers": frozenset({3})},
        {"expert_layers": frozenset({0})},
        {"windowed_layers": frozenset({0})},
    ):
        with pytest.raises(ValueError, match="layers"):
            evolve(model, **wrong)
    with pytest.raises(ValueError, match="attention"):
        LanguageWorkload(1, 1, attention="flash")
