"""Layers really cut up for several devices: together they give the whole layer's result, and each costs what the
closed form says of one device.

Every device's part is made of the network's own modules, with slices of the whole layer's weights, run with real
numbers; torch's own counter gives its FLOPs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from modelmeter.families.deepseek_ocr.config import DeepSeekOCRConfig
from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.families.deepseek_ocr.network.cache import KeyValueCache
from modelmeter.families.deepseek_ocr.network.clip import NoTPTransformerBlock
from modelmeter.families.deepseek_ocr.network.decoder import DeepseekV2DecoderLayer, DeepseekV2MLP, DeepseekV2MoE
from modelmeter.routing import parse_routing
from modelmeter.schema.cost import CostTree
from modelmeter.schema.scenario import Page, Scenario
from small import SMALL_SIZES, small_config

DENSE, MIXED = 0, 1
"""Layers of the small configuration: the first is dense, those after it have experts."""


def config_of(**language: Any) -> DeepSeekOCRConfig:
    return small_config(**language)


def scenario_of(**given: Any) -> Scenario:
    pages = (Page(grid=(1, 1)),)
    return Scenario(pages=pages, dtype="float32", attention="eager", decode_steps=0, **SMALL_SIZES, **given)


def tree_of(config: DeepSeekOCRConfig, scenario: Scenario) -> CostTree:
    return FAMILY.costs(config, scenario).tree()


def per_call(tree: CostTree, node: str, run: str = "prefill") -> int:
    """Matrix FLOPs of one call of a node with what is below it."""
    entries = [
        entry for part in tree.nodes if part.id == node or part.id.startswith(f"{node}.") for entry in part.operators
    ]
    whole = sum(entry.amount.matrix_flops for entry in entries if entry.run == run)
    calls = tree.node(node).calls[run]
    assert whole % calls == 0
    return whole // calls


def counted(run: Callable[[], Any]) -> tuple[Any, int]:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        result = run()
    return result, counter.get_total_flops()


# Parts of modules -----------------------------------------------------------------------------------------


def columns(whole: nn.Linear, rank: int, ranks: int) -> nn.Linear:
    """A part of the outputs."""
    part = whole.out_features // ranks
    bias = None if whole.bias is None else whole.bias[rank * part : (rank + 1) * part]
    return linear(whole.weight[rank * part : (rank + 1) * part], bias)


def rows(whole: nn.Linear, rank: int, ranks: int) -> nn.Linear:
    """A part of the inputs; the bias is added once, by the first device."""
    part = whole.in_features // ranks
    bias = None if whole.bias is None else whole.bias * (rank == 0)
    return linear(whole.weight[:, rank * part : (rank + 1) * part], bias)


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        made.weight.copy_(weight)
        if bias is not None:
            made.bias.copy_(bias)
    return made


def mlp_part(whole: DeepseekV2MLP, rank: int, ranks: int) -> DeepseekV2MLP:
    part = deepcopy(whole)
    part.gate_proj = columns(whole.gate_proj, rank, ranks)
    part.up_proj = columns(whole.up_proj, rank, ranks)
    part.down_proj = rows(whole.down_proj, rank, ranks)
    return part


def attention_part(whole: Any, rank: int, ranks: int) -> Any:
    """A device's heads; where there are fewer key-value heads than devices, the one that its heads read."""
    part = deepcopy(whole)
    part.num_heads = whole.num_heads // ranks
    part.num_key_value_heads = max(whole.num_key_value_heads // ranks, 1)
    part.q_proj = columns(whole.q_proj, rank, ranks)
    shares = min(ranks, whole.num_key_value_heads)
    for name in ("k_proj", "v_proj"):
        setattr(part, name, columns(getattr(whole, name), rank * shares // ranks, shares))
    part.o_proj = rows(whole.o_proj, rank, ranks)
    return part


class Elsewhere(nn.Module):
    """An expert of another device: what it gives is not known here."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Routed(nn.Module):
    """A gate that computes its scores and then sends tokens where a policy does; ``first`` is its first token."""

    def __init__(self, gate: Any, routing: str, tokens: int, first: int = 0) -> None:
        super().__init__()
        self.gate, self.first = gate, first
        table = parse_routing(routing).table(tokens, gate.num_experts, gate.top_k)
        self.register_buffer("table", torch.from_numpy(table))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        _, weights = self.gate(x)
        return self.table[self.first : self.first + len(weights)], weights


def random_weights(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return module.eval()


def inputs(config: DeepSeekOCRConfig, scenario: Scenario) -> Tensor:
    positions = FAMILY.resolve(config, scenario).seq_len
    assert positions is not None
    generator = torch.Generator().manual_seed(1)
    return torch.randn(scenario.batch, positions, config.decoder.hidden_size, generator=generator)


def close(parts: Sequence[Tensor], whole: Tensor) -> None:
    torch.testing.assert_close(torch.stack(list(parts)).sum(dim=0), whole, rtol=1e-4, atol=1e-4)


# Tensor parallelism ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ranks", "kv_heads"), [(2, 4), (4, 4), (2, 2), (4, 2), (4, 1)])
def test_attention_by_heads(ranks: int, kv_heads: int) -> None:
    config, scenario = config_of(num_key_value_heads=kv_heads), scenario_of(batch=2)
    whole: Any = random_weights(DeepseekV2DecoderLayer(config.decoder, DENSE, "eager")).self_attn
    x = inputs(config, scenario)
    length = x.shape[1]
    mask = torch.full((length, length), float("-inf")).triu(1).expand(len(x), 1, -1, -1)
    ids = torch.arange(length).expand(len(x), -1)

    def run(module: Any) -> tuple[tuple[Tensor, KeyValueCache], int]:
        cache = KeyValueCache(1)
        return counted(lambda: (module(x, mask, ids, cache), cache))

    (expected, full), alone = run(whole)
    assert alone == per_call(tree_of(config, scenario), "layers.[0-2].self_attn")
    tree = tree_of(config, scenario_of(batch=2, tensor_parallel=ranks))
    parts = [run(attention_part(whole, rank, ranks)) for rank in range(ranks)]
    close([out for (out, _), _ in parts], expected)
    assert {flops for _, flops in parts} == {per_call(tree, "layers.[0-2].self_attn")}
    held = tree.node("layers.[0-2].self_attn").kv_cache_bytes["prefill"] // config.decoder.num_hidden_layers
    for (_, cache), _ in parts:
        keys = cache.layers[0].keys
        assert keys is not None and 2 * keys.numel() * keys.element_size() == held
    whole_keys = full.layers[0].keys
    assert whole_keys is not None and 2 * whole_keys.numel() * 4 == held * min(ranks, kv_heads)


@pytest.mark.parametrize("ranks", [2, 4])
def test_a_dense_mlp_by_columns_and_rows(ranks: int) -> None:
    config, scenario = config_of(), scenario_of()
    whole: Any = random_weights(DeepseekV2DecoderLayer(config.decoder, DENSE, "eager")).mlp
    x = inputs(config, scenario)
    expected, alone = counted(lambda: whole(x))
    parts = [mlp_part(whole, rank, ranks) for rank in range(ranks)]
    results = [counted(lambda part=part: part(x)) for part in parts]
    close([out for out, _ in results], expected)
    flops = per_call(tree_of(config, scenario_of(tensor_parallel=ranks)), "layers.0.mlp")
    assert {found for _, found in results} == {flops} and flops * ranks == alone


def mixture(config: DeepSeekOCRConfig, routing: str, tokens: int) -> Any:
    whole: Any = random_weights(DeepseekV2DecoderLayer(config.decoder, MIXED, "eager")).mlp
    whole.gate = Routed(whole.gate, routing, tokens)
    return whole


@pytest.mark.parametrize("routing", ["balanced", "worst", "zipf:1.2"])
def test_a_mixture_with_every_expert_cut(routing: str) -> None:
    config, scenario, ranks = config_of(), scenario_of(routing=routing), 2
    x = inputs(config, scenario)
    whole = mixture(config, routing, x.shape[1])
    expected, _ = counted(lambda: whole(x))

    def part(rank: int) -> DeepseekV2MoE:
        made = deepcopy(whole)
        made.experts = nn.ModuleList(mlp_part(expert, rank, ranks) for expert in whole.experts)
        made.shared_experts = mlp_part(whole.shared_experts, rank, ranks)
        return made

    results = [counted(lambda rank=rank: part(rank)(x)) for rank in range(ranks)]
    close([out for out, _ in results], expected)
    tree = tree_of(config, scenario_of(routing=routing, tensor_parallel=ranks))
    assert {flops for _, flops in results} == {per_call(tree, "layers.[1,2].mlp")}


@pytest.mark.parametrize("routing", ["balanced", "worst", "zipf:1.2"])
@pytest.mark.parametrize("ranks", [2, 4])
def test_a_mixture_with_whole_experts_and_all_tokens_everywhere(routing: str, ranks: int) -> None:
    config, scenario = config_of(), scenario_of(routing=routing)
    x = inputs(config, scenario)
    whole = mixture(config, routing, x.shape[1])
    expected, _ = counted(lambda: whole(x))

    def part(rank: int) -> DeepseekV2MoE:
        made = deepcopy(whole)
        for number in range(made.num_experts):
            if number % ranks != rank:
                made.experts[number] = Elsewhere()
        made.shared_experts = mlp_part(whole.shared_experts, rank, ranks)
        return made

    results = [counted(lambda rank=rank: part(rank)(x)) for rank in range(ranks)]
    close([out for out, _ in results], expected)
    given = scenario_of(routing=routing, tensor_parallel=ranks, expert_parallel=ranks)
    assert max(flops for _, flops in results) == per_call(tree_of(config, given), "layers.[1,2].mlp")


@pytest.mark.parametrize("routing", ["balanced", "worst", "zipf:1.2"])
@pytest.mark.parametrize("ranks", [2, 4])
def test_a_mixture_whose_tokens_travel(routing: str, ranks: int) -> None:
    config, scenario = config_of(), scenario_of(routing=routing, batch=2 * ranks)
    x = inputs(config, scenario)
    flat = x.reshape(-1, x.shape[-1])
    whole = mixture(config, routing, len(flat))
    expected, _ = counted(lambda: whole(x))
    own = len(flat) // ranks
    decided, results, sent, received = [], [], [0] * ranks, [0] * ranks
    for rank in range(ranks):
        gate = Routed(whole.gate.gate, routing, len(flat), rank * own)
        decided.append(counted(lambda rank=rank, gate=gate: gate(flat[rank * own : (rank + 1) * own])))
    summed = torch.zeros_like(flat)
    flops = [found for _, found in decided]
    for rank in range(ranks):
        for expert in range(rank, whole.num_experts, ranks):
            for source, ((chosen, weights), _) in enumerate(decided):
                token, place = (chosen == expert).nonzero(as_tuple=True)
                copies = flat[source * own + token]
                sent[source] += len(copies)
                received[rank] += len(copies)
                out, found = counted(lambda expert=expert, copies=copies: whole.experts[expert](copies))
                flops[rank] += found
                summed.index_add_(0, source * own + token, out * weights[token, place].unsqueeze(-1))
    for rank in range(ranks):
        mine = flat[rank * own : (rank + 1) * own]
        shared, found = counted(lambda mine=mine: whole.shared_experts(mine))
        results.append(summed[rank * own : (rank + 1) * own] + shared)
        flops[rank] += found
    torch.testing.assert_close(torch.cat(results).view_as(expected), expected, rtol=1e-4, atol=1e-4)
    tree = tree_of(config, scenario_of(routing=routing, batch=2 * ranks, expert_parallel=ranks))
    assert max(flops) == per_call(tree, "layers.[1,2].mlp")
    node = tree.node("layers.[1,2].mlp")
    exchanged = max(*sent, *received) * config.decoder.hidden_size * 4
    moved = sum(entry.amount.bytes_read for entry in node.operators if entry.operator == "all_to_all")
    assert moved == 2 * exchanged * node.calls["prefill"]


@pytest.mark.parametrize("vocabulary", [101, 104])
@pytest.mark.parametrize("ranks", [2, 4])
def test_embedding_and_head_by_vocabulary(vocabulary: int, ranks: int) -> None:
    config, scenario = config_of(vocab_size=vocabulary), scenario_of()
    width = config.decoder.hidden_size
    x = inputs(config, scenario)[0]
    ids = torch.arange(len(x)) % vocabulary
    each = -(-vocabulary // ranks)
    table: Any = random_weights(nn.Embedding(each * ranks, width))
    head: Any = random_weights(nn.Linear(width, each * ranks, bias=False))
    looked_up, logits, flops = [], [], set()
    for rank in range(ranks):
        mine = (ids >= rank * each) & (ids < (rank + 1) * each)
        part = nn.functional.embedding((ids - rank * each) * mine, table.weight[rank * each : (rank + 1) * each])
        looked_up.append(part * mine.unsqueeze(-1))
        out, found = counted(lambda rank=rank: columns(head, rank, ranks)(x))
        logits.append(out)
        flops.add(found)
    close(looked_up, table(ids))
    torch.testing.assert_close(torch.cat(logits, dim=-1), head(x))
    tree = tree_of(config, scenario_of(tensor_parallel=ranks))
    assert flops == {per_call(tree, "lm_head")}
    assert tree.node("embed_tokens").parameter_count == each * width


def test_clip_by_heads() -> None:
    config, scenario, ranks = config_of(), scenario_of(), 2
    block: Any = random_weights(NoTPTransformerBlock(config.clip, "eager"))
    side = -(-(-(-(scenario.base_size or 0) // config.sam.patch_size) // 2) // 2)
    x = torch.randn(1, 1 + side * side, config.clip.width, generator=torch.Generator().manual_seed(2))

    def attention(rank: int) -> Any:
        part = deepcopy(block.self_attn)
        part.num_heads //= ranks
        thirds = [linear(w, b) for w, b in zip(part.qkv_proj.weight.chunk(3), part.qkv_proj.bias.chunk(3), strict=True)]
        mine = [columns(third, rank, ranks) for third in thirds]
        part.qkv_proj = linear(torch.cat([one.weight for one in mine]), torch.cat([one.bias for one in mine]))
        part.out_proj = rows(part.out_proj, rank, ranks)
        return part

    def mlp(rank: int) -> Any:
        part = deepcopy(block.mlp)
        part.fc1, part.fc2 = columns(part.fc1, rank, ranks), rows(part.fc2, rank, ranks)
        return part

    tree = tree_of(config, scenario_of(tensor_parallel=ranks))
    layers = "vision_model.transformer.layers.[0,1]"
    for name, make, whole in (("self_attn", attention, block.self_attn), ("mlp", mlp, block.mlp)):
        results = [counted(lambda rank=rank, make=make: make(rank)(x)) for rank in range(ranks)]
        close([out for out, _ in results], whole(x).detach())
        assert {flops for _, flops in results} == {per_call(tree, f"{layers}.{name}", "global")}
