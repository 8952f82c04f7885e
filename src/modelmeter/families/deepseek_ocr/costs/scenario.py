"""From a scenario to the sizes that the closed forms take, and the cost tree."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby

import numpy as np
from attrs import evolve

from modelmeter.cost.arithmetic import Number, less, where
from modelmeter.cost.closed_form import ClosedForm
from modelmeter.cost.expression import key
from modelmeter.cost.layers.expert_load import balanced_load, worst_load
from modelmeter.cost.layers.feed_forward import Load
from modelmeter.cost.precision import Precision
from modelmeter.cost.tree import tree_of
from modelmeter.families.deepseek_ocr.config import DecoderConfig, DeepSeekOCRConfig
from modelmeter.families.deepseek_ocr.costs.model import NOBODY, Pages, Routing, Workload, write_forwards
from modelmeter.families.deepseek_ocr.views import PageLayout
from modelmeter.patterns import one_of
from modelmeter.routing import BalancedRouting, RoutingPolicy, WorstRouting, parse_routing
from modelmeter.schema.cost import DECODE, PREFILL, CostTree
from modelmeter.schema.scenario import Scenario


def closed_form(config: DeepSeekOCRConfig, scenario: Scenario, layouts: Sequence[PageLayout]) -> ClosedForm:
    """The compiled closed form of a resolved scenario's structure; built once, then kept."""
    policy = parse_routing(scenario.routing)
    return _closed_form(
        config,
        len(_groups(layouts)),
        scenario.vision_attention,
        scenario.decoder_attention,
        scenario.head,
        _precision(scenario),
        policy.name if isinstance(policy, (BalancedRouting, WorstRouting)) else "counted",
    )


@lru_cache(maxsize=32)
def _closed_form(
    config: DeepSeekOCRConfig,
    groups: int,
    vision_attention: str,
    decoder_attention: str,
    head: str,
    precision: Precision,
    policy: str,
) -> ClosedForm:
    names = ("columns", "rows", "count")
    pages = [Pages(*(key(f"page_{name}.{place}") for name in names)) for place in range(groups)]
    work = Workload(
        global_side=key("global_side"),
        crop_side=key("crop_side"),
        pages=pages,
        text_tokens=key("text_tokens"),
        decode_steps=key("decode_steps"),
        batch=key("batch"),
        routing=Routing(NOBODY, NOBODY),
        vision_attention=vision_attention,
        decoder_attention=decoder_attention,
        head=head,
        precision=precision,
    )
    length = work.sequence_length(config.sam.patch_size)
    decoder = config.decoder
    if policy == "counted":
        layers = moe_layers(decoder)
        copies = work.batch * (decoder.num_experts_per_tok or 0) * layers
        names = ("expert_calls", "expert_tokens", "expert_waiting")
        loads = (
            Load(copies * length, *(key(f"{name}.prefill") for name in names)),
            Load(copies * work.decode_steps, *(key(f"{name}.decode") for name in names)),
        )
        work = evolve(work, routing=Routing(*loads))
    else:
        work = evolve(work, routing=_regular(decoder, policy, work.batch * length, work.batch, work.decode_steps))
    tape = write_forwards(config, work)
    return ClosedForm(
        "deepseek-ocr",
        tape,
        kv_cache_bytes(config, precision, work.batch, length, work.decode_steps),
        positions=length + work.decode_steps,
        max_positions=decoder.max_position_embeddings,
    )


def closed_form_values(
    config: DeepSeekOCRConfig, scenario: Scenario, layouts: Sequence[PageLayout]
) -> dict[str, Number]:
    """A resolved scenario's sizes, by the keys of its closed form."""
    views = layouts[0].workload
    values: dict[str, Number] = {
        "global_side": views.global_side,
        "crop_side": views.image_size,
        "text_tokens": scenario.text_tokens,
        "decode_steps": scenario.decode_steps,
        "batch": scenario.batch,
    }
    for place, pages in enumerate(_groups(layouts)):
        values[f"page_columns.{place}"] = pages.columns
        values[f"page_rows.{place}"] = pages.rows
        values[f"page_count.{place}"] = pages.count
    policy = parse_routing(scenario.routing)
    if not isinstance(policy, (BalancedRouting, WorstRouting)):
        loads = routing(config.decoder, policy, *_routed(scenario))
        for forward, load in ((PREFILL, loads.prefill), (DECODE, loads.decode)):
            values[f"expert_calls.{forward}"] = load.calls
            values[f"expert_tokens.{forward}"] = load.running
            values[f"expert_waiting.{forward}"] = load.waiting
    return values


def cost_tree(config: DeepSeekOCRConfig, scenario: Scenario, layouts: Sequence[PageLayout]) -> CostTree:
    """The costs of a resolved scenario, in exact integers."""
    return closed_form(config, scenario, layouts).tree(closed_form_values(config, scenario, layouts))


def written_out(config: DeepSeekOCRConfig, scenario: Scenario, layouts: Sequence[PageLayout]) -> CostTree:
    """The same, from formulas called with the scenario's own numbers, without compiling: a check."""
    work = workload(config, scenario, layouts)
    tape = write_forwards(config, work)
    length = work.sequence_length(config.sam.patch_size)
    held = kv_cache_bytes(config, work.precision, work.batch, length, work.decode_steps)
    return tree_of("deepseek-ocr", tape, held)


def _groups(layouts: Sequence[PageLayout]) -> list[Pages]:
    """Pages of one request, those of one grid that follow one another together."""
    return [Pages(*grid, count=len(list(same))) for grid, same in groupby(layout.grid for layout in layouts)]


def _precision(scenario: Scenario) -> Precision:
    assert scenario.activation_dtype and scenario.kv_dtype
    return Precision(scenario.dtype, scenario.activation_dtype, scenario.kv_dtype)


def _routed(scenario: Scenario) -> tuple[int, int, int]:
    """Tokens of the prefill, tokens of a step, steps."""
    assert scenario.seq_len is not None
    return scenario.batch * scenario.seq_len, scenario.batch, scenario.decode_steps


def workload(config: DeepSeekOCRConfig, scenario: Scenario, layouts: Sequence[PageLayout]) -> Workload:
    """The sizes of a resolved scenario."""
    assert scenario.text_tokens is not None and scenario.seq_len is not None
    assert scenario.vision_attention and scenario.decoder_attention
    assert scenario.activation_dtype and scenario.kv_dtype
    views = layouts[0].workload
    return Workload(
        global_side=views.global_side,
        crop_side=views.image_size,
        pages=_groups(layouts),
        text_tokens=scenario.text_tokens,
        decode_steps=scenario.decode_steps,
        batch=scenario.batch,
        routing=routing(config.decoder, parse_routing(scenario.routing), *_routed(scenario)),
        vision_attention=scenario.vision_attention,
        decoder_attention=scenario.decoder_attention,
        head=scenario.head,
        precision=_precision(scenario),
    )


def routing(decoder: DecoderConfig, policy: RoutingPolicy, prompt: int, step: int, steps: int) -> Routing:
    """What a policy gives the experts of all layers: ``prompt`` tokens once, ``step`` tokens ``steps`` times."""
    layers = moe_layers(decoder)
    if not layers or isinstance(policy, (BalancedRouting, WorstRouting)):
        return _regular(decoder, policy.name, prompt, step, steps)
    forwards = [_counted(decoder, policy, prompt, layers, 0)]
    forwards += [_counted(decoder, policy, step, layers, forward) for forward in range(1, steps + 1)]
    decode = forwards[1:]
    # Without steps any load does: nothing of them is counted.
    heaviest = max(decode or forwards, key=lambda load: _live(decoder, load.running, load.waiting))
    rows, calls = sum(load.rows for load in decode), sum(load.calls for load in decode)
    return Routing(forwards[0], Load(rows, calls, heaviest.running, heaviest.waiting))


def _regular(decoder: DecoderConfig, policy: str, prompt: Number, step: Number, steps: Number) -> Routing:
    """The loads of a policy that gives every layer and step the same table."""
    layers = moe_layers(decoder)
    if not layers:
        return Routing(NOBODY, NOBODY)
    experts, top_k = decoder.n_routed_experts, decoder.num_experts_per_tok
    assert experts and top_k

    def called(tokens: Number, decisions: Number) -> Load:
        if policy == WorstRouting().name:
            return worst_load(tokens, experts, top_k, decisions)
        return _heavier(decoder, balanced_load(tokens, experts, top_k, decisions), tokens * top_k)

    return Routing(called(prompt, layers), called(step, layers * steps))


def _heavier(decoder: DecoderConfig, load: Load, copies: Number) -> Load:
    """A balanced load with the expert during whose run most is live: the last one, or the last with one copy more."""
    assert decoder.n_routed_experts
    fewer = copies // decoder.n_routed_experts
    with_one_more = copies - fewer * decoder.n_routed_experts
    last, earlier = (load.running, copies - load.running), (fewer + 1, (with_one_more - 1) * (fewer + 1))
    is_earlier = less(0, with_one_more) * less(_live(decoder, *last), _live(decoder, *earlier))
    running, waiting = (where(is_earlier, *pair) for pair in zip(earlier, last, strict=True))
    return evolve(load, running=running, waiting=waiting)


def moe_layers(decoder: DecoderConfig) -> int:
    """Layers with routed experts."""
    return sum(decoder.is_moe_layer(index) for index in range(decoder.num_hidden_layers))


def _counted(decoder: DecoderConfig, policy: RoutingPolicy, tokens: int, layers: int, forward: int) -> Load:
    """What the policy's tables give the experts of one forward."""
    experts, top_k = decoder.n_routed_experts, decoder.num_experts_per_tok
    assert experts and top_k
    calls, found = 0, []
    for layer in range(layers):
        table = policy.table(tokens, experts, top_k, call=layer, forward=forward)
        counts = np.bincount(table.ravel(), minlength=experts)
        calls += int((counts > 0).sum())
        pairs = zip(counts.tolist(), (counts.cumsum() - counts).tolist(), strict=True)
        found.append(max((_live(decoder, *pair), *pair) for pair in pairs))
    _, running, waiting = max(found)
    return Load(tokens * top_k * layers, calls, running, waiting)


def _live(decoder: DecoderConfig, running: Number, waiting: Number) -> Number:
    """Elements that are live while an expert runs: what its ``running`` copies take, and ``waiting`` results.

    A copy takes three intermediate vectors at most, or one and its result.
    """
    hidden, inner = decoder.hidden_size, decoder.moe_intermediate_size
    return waiting * hidden + running * max(3 * inner, inner + hidden)


def kv_cache_bytes(
    config: DeepSeekOCRConfig, precision: Precision, batch: Number, length: Number, steps: Number
) -> dict[str, dict[str, Number]]:
    """Bytes of keys and values of all layers after the prefill and after the last step.

    2 * layers * requests * positions * key-value heads * head size * bytes of an element.
    """
    decoder = config.decoder
    position = 2 * decoder.num_hidden_layers * decoder.num_key_value_heads * decoder.head_dim * precision.kv_bytes
    held = {PREFILL: position * batch * length, DECODE: position * batch * (length + steps) * less(0, steps)}
    layers = one_of(str(index) for index in range(decoder.num_hidden_layers))
    return {f"layers.{layers}.self_attn": held}
