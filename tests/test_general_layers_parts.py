"""Parts of general layers beside code that does the same: plain MLPs, absorbed attention, routing, windows."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from modelmeter import CallGraph, Scenario, trace
from modelmeter.cost.layers.attend import Manner
from modelmeter.cost.layers.decoder import Step
from modelmeter.cost.layers.expert_load import balanced_load, expected_load, experts_touched, worst_load
from modelmeter.cost.layers.latent_attention import LatentShape, latent_attention
from modelmeter.cost.layers.plain_mlp import plain_mlp
from modelmeter.cost.layers.routing import (
    deepseek_v2_router,
    deepseek_v3_router,
    mixtral_router,
    qwen3_router,
)
from modelmeter.cost.layers.sliding_window import band_scores, cache_length, keys_seen
from modelmeter.cost.precision import Precision
from modelmeter.cost.tape import Tape
from modelmeter.cost.tree import tree_of
from modelmeter.routing import BalancedRouting, RandomRouting, WorstRouting
from modelmeter.schema.cost import CostTree
from modelmeter.tracing.hugging_face import trace_hugging_face

PRECISION = Precision()
FLOAT32 = Precision("float32", "float32", "float32")


def tree(tape: Tape) -> CostTree:
    return tree_of(family="", tape=tape, kv_cache_bytes={})


# Plain MLPs: the whole part is the same, kernel by kernel


MLPS: dict[str, Any] = {
    "gpt2": (
        {"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 4, "vocab_size": 50, "n_inner": 40},
        {"h.0.mlp.c_fc": "mlp.c_fc", "h.0.mlp.act": "mlp.act", "h.0.mlp.c_proj": "mlp.c_proj"},
    ),
    "bert": (
        {
            "model_type": "bert",
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "intermediate_size": 40,
            "vocab_size": 50,
            "max_position_embeddings": 64,
            "hidden_act": "gelu",
        },
        {
            "encoder.layer.0.intermediate.dense": "mlp.c_fc",
            "encoder.layer.0.intermediate.intermediate_act_fn": "mlp.act",
            "encoder.layer.0.output.dense": "mlp.c_proj",
        },
    ),
}


@pytest.mark.parametrize("name", MLPS)
@pytest.mark.parametrize(("batch", "positions"), [(1, 1), (2, 7)])
def test_plain_mlp(name: str, batch: int, positions: int) -> None:
    source, pairs = MLPS[name]
    graph = trace_hugging_face(source, Scenario(batch=batch), batch=batch, positions=positions, name=name)
    tape = Tape()
    with tape.module("mlp", "MLP"):
        x = tape.given(batch * positions * 32 * 2)
        plain_mlp(tape, x, batch * positions, 32, 40, PRECISION, names=("c_fc", "act", "c_proj"))
    ours = tree(tape)
    for theirs, identity in pairs.items():
        node, cost = ours.node(identity), graph.forwards[0].costs[theirs].own
        assert node.own.matrix_flops == cost.matrix_flops
        assert node.parameter_count == getattr(graph.parameters.get(theirs), "count", 0)
        if name == "bert" or "act" not in theirs:
            assert (node.own.launches, node.own.eager_bytes) == (cost.launches, cost.bytes_read + cost.bytes_written)
    assert ours.total.matrix_flops == 4 * batch * positions * 32 * 40


# Absorbed latent attention: a module that multiplies the expansions into queries and result


class Absorbed(nn.Module):
    """DeepSeek-V3's inference code with ``attn_impl = "absorb"``, or expanded, without rotation and mask."""

    def __init__(self, shape: LatentShape, absorbs: bool) -> None:
        super().__init__()
        self.shape, self.absorbs = shape, absorbs
        rank, rotary = shape.latent_sizes
        self.q_proj = nn.Linear(shape.hidden_size, shape.heads * shape.qk_head_dim, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(shape.hidden_size, rank + rotary, bias=False)
        self.kv_b_proj = nn.Linear(rank, shape.heads * (shape.qk_nope_head_dim + shape.v_head_dim), bias=False)
        self.o_proj = nn.Linear(shape.heads * shape.v_head_dim, shape.hidden_size, bias=False)

    def forward(self, x: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
        shape = self.shape
        q = self.q_proj(x).unflatten(-1, (shape.heads, shape.qk_head_dim))
        plain, turned = q.split([shape.qk_nope_head_dim, shape.qk_rope_head_dim], dim=-1)
        cache = torch.cat([past, self.kv_a_proj_with_mqa(x)], dim=1)
        latent, shared = cache.split(list(shape.latent_sizes), dim=-1)
        sizes = [shape.qk_nope_head_dim, shape.v_head_dim]
        if self.absorbs:
            up = self.kv_b_proj.weight.unflatten(0, (shape.heads, sum(sizes)))
            inside = torch.einsum("bshd,hdc->bshc", plain, up[:, : sizes[0]])
            scores = torch.einsum("bshc,btc->bsht", torch.cat([inside, turned], dim=-1), cache)
            mixed = torch.einsum("bsht,btc->bshc", scores.softmax(-1), latent)
            result = torch.einsum("bshc,hdc->bshd", mixed, up[:, sizes[0] :])
        else:
            k, v = self.kv_b_proj(latent).unflatten(-1, (shape.heads, sum(sizes))).split(sizes, dim=-1)
            scores = torch.einsum("bshd,bthd->bsht", plain, k) + torch.einsum("bshr,btr->bsht", turned, shared)
            result = torch.einsum("bsht,bthd->bshd", scores.softmax(-1), v)
        projected: torch.Tensor = self.o_proj(result.flatten(2))
        return projected


@given(st.integers(1, 3), st.integers(1, 6), st.integers(0, 9), st.sampled_from(["sdpa", "eager"]))
@settings(max_examples=6, deadline=None)
def test_absorbed_attention(batch: int, positions: int, past: int, kind: str) -> None:
    # torch multiplies, without a product of matrices, where it would sum over a single position.
    assume(positions + past > 1)
    shapes = {form: LatentShape(32, 4, None, 10, 6, 4, 7, form=form) for form in ("absorbed", "latent")}
    modules = {form: Absorbed(shape, form == "absorbed").eval() for form, shape in shapes.items()}
    modules["latent"].load_state_dict(modules["absorbed"].state_dict())
    inputs = torch.randn(batch, positions, 32), torch.randn(batch, past, 14)
    with torch.no_grad():
        results = [module(*inputs) for module in modules.values()]
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-5)
    for form, shape in shapes.items():
        tape, step = Tape(), Step(batch, positions, past + positions, past, past == 0, batch > 1)
        with tape.module("self_attn", "Attention"):
            x, angles = tape.given(1), (tape.given(1), tape.given(1))
            held = (tape.given(1), tape.given(1)) if past else None
            latent_attention(tape, x, tape.given(1), angles, held, shape, step, Manner(kind), FLOAT32)
        graph = trace(modules[form], *inputs)
        ours, theirs = tree(tape), graph.forwards[0].costs
        for name in ("q_proj", "kv_a_proj_with_mqa", "o_proj"):
            assert ours.node(f"self_attn.{name}").own.matrix_flops == theirs[name].own.matrix_flops
        assert ours.total.matrix_flops == graph.total.matrix_flops
        norms = 10  # the module above has none over its latents
        assert ours.parameter_count - norms == sum(info.count for info in graph.parameters.values())


# Routing


def test_routers_are_the_published_ones() -> None:
    assert mixtral_router().renormalises and not mixtral_router().scales
    assert [qwen3_router(norm).renormalises for norm in (True, False)] == [True, False]
    assert deepseek_v2_router().scores == "softmax" and deepseek_v2_router().wide
    v3 = deepseek_v3_router(8, 4)
    assert (v3.scores, v3.groups, v3.groups_kept, v3.renormalises, v3.scales) == ("sigmoid", 8, 4, True, True)


@pytest.mark.parametrize(("tokens", "experts", "top_k"), [(1, 5, 2), (3, 4, 2), (2, 6, 3), (4, 3, 1), (2, 3, 3)])
def test_experts_touched_is_the_mean_over_all_tables(tokens: int, experts: int, top_k: int) -> None:
    rows = list(itertools.combinations(range(experts), top_k))
    touched = [len(set().union(*table)) for table in itertools.product(rows, repeat=tokens)]
    assert experts_touched(tokens, experts, top_k) == pytest.approx(sum(touched) / len(touched))


def test_experts_touched_beside_drawn_tables() -> None:
    tables = [RandomRouting(seed).table(40, 64, 6) for seed in range(60)]
    mean = np.mean([len(np.unique(table)) for table in tables])
    assert experts_touched(40, 64, 6) == pytest.approx(mean, rel=0.01)
    assert experts_touched(0, 64, 6) == 0 and experts_touched(1, 64, 6) == pytest.approx(6)
    assert expected_load(1, 64, 6, 11).rows == 66 and expected_load(1, 64, 6, 11).calls == pytest.approx(66)


def test_experts_touched_takes_arrays_and_symbols() -> None:
    sympy = pytest.importorskip("sympy")
    tokens = np.array([1, 7, 40])
    expected = [experts_touched(int(number), 64, 6) for number in tokens]
    assert experts_touched(tokens, 64, 6) == pytest.approx(expected)
    symbol = sympy.Symbol("T", positive=True, integer=True)
    assert float(experts_touched(symbol, 64, 6).subs(symbol, 7)) == pytest.approx(expected[1])


@given(st.integers(0, 50), st.integers(1, 20), st.data())
@settings(max_examples=40, deadline=None)
def test_loads_are_those_of_the_policies(tokens: int, experts: int, data: st.DataObject) -> None:
    top_k = data.draw(st.integers(1, experts))
    for load, policy in ((balanced_load, BalancedRouting()), (worst_load, WorstRouting())):
        counts = np.bincount(policy.table(tokens, experts, top_k).ravel(), minlength=experts)
        if tokens == 0:
            continue
        found = load(tokens, experts, top_k, 3)
        assert found.rows == 3 * counts.sum() and found.calls == 3 * (counts > 0).sum()
        assert found.running == counts[counts > 0][-1]


# Windows


@given(st.integers(1, 60), st.integers(1, 20))
def test_windows(positions: int, window: int) -> None:
    seen = [sum(key > query - window for key in range(query + 1)) for query in range(positions)]
    assert seen == [keys_seen(query + 1, window) for query in range(positions)]
    assert band_scores(positions, positions, window) == sum(seen)
    assert cache_length(positions, window) == seen[-1]
    assert band_scores(positions, positions, None) == positions * (positions + 1) // 2


def test_graphs_are_traced_without_weights() -> None:
    graph = trace(Absorbed(LatentShape(32, 4, None, 10, 6, 4, 7), True), torch.zeros(1, 2, 32), torch.zeros(1, 0, 14))
    assert isinstance(graph, CallGraph) and not graph.unknown_operators
