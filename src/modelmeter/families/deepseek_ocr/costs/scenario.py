"""From a scenario to the sizes that the closed forms take, and the cost tree."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby

from attrs import evolve

from modelmeter.cost.arithmetic import Number, less
from modelmeter.cost.closed_form import ClosedForm
from modelmeter.cost.expression import key
from modelmeter.cost.layers.expert_load import balanced_load, worst_load
from modelmeter.cost.layers.feed_forward import Load
from modelmeter.cost.layers.parallel import ALONE, Parallel
from modelmeter.cost.precision import Precision
from modelmeter.cost.tree import tree_of
from modelmeter.families.deepseek_ocr.config import DecoderConfig, DeepSeekOCRConfig
from modelmeter.families.deepseek_ocr.costs.expert_peak import heavier, live_elements
from modelmeter.families.deepseek_ocr.costs.model import (
    NOBODY,
    Pages,
    Routing,
    Workload,
    kv_heads_here,
    write_forwards,
)
from modelmeter.families.deepseek_ocr.costs.parallel import (
    Tokens,
    counted_load,
    local_decoder,
    parallel_of,
    spread_keys,
    spread_load,
)
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
        parallel_of(scenario),
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
    parallel: Parallel,
) -> ClosedForm:
    names = ("columns", "rows", "count")
    pages = [Pages(*(key(f"page_{name}.{place}") for name in names)) for place in range(groups)]
    requests = key("batch")
    work = Workload(
        global_side=key("global_side"),
        crop_side=key("crop_side"),
        pages=pages,
        text_tokens=key("text_tokens"),
        decode_steps=key("decode_steps"),
        batch=parallel.requests_here(requests),
        routing=Routing(NOBODY, NOBODY),
        vision_attention=vision_attention,
        decoder_attention=decoder_attention,
        head=head,
        precision=precision,
        parallel=parallel,
    )
    length = work.sequence_length(config.sam.patch_size)
    decoder = config.decoder
    if policy == "counted" and parallel.spreads:
        work = evolve(work, routing=Routing(**spread_keys(moe_layers(decoder), work.decode_steps)))
    elif policy == "counted":
        layers = moe_layers(decoder)
        copies = work.batch * (decoder.num_experts_per_tok or 0) * layers
        names = ("expert_calls", "expert_tokens", "expert_waiting")
        loads = (
            Load(copies * length, *(key(f"{name}.prefill") for name in names)),
            Load(copies * work.decode_steps, *(key(f"{name}.decode") for name in names)),
        )
        work = evolve(work, routing=Routing(*loads))
    else:
        tokens = Tokens(requests, work.batch, length)
        work = evolve(work, routing=_regular(decoder, policy, tokens, work.decode_steps, parallel))
    tape = write_forwards(config, work)
    return ClosedForm(
        "deepseek-ocr",
        tape,
        kv_cache_bytes(config, precision, work.batch, length, work.decode_steps, parallel),
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
        parallel = parallel_of(scenario)
        loads = routing(config.decoder, policy, _tokens(scenario, parallel), scenario.decode_steps, parallel)
        for forward, load in ((PREFILL, loads.prefill), (DECODE, loads.decode)):
            values[f"expert_calls.{forward}"] = load.calls
            values[f"expert_tokens.{forward}"] = load.running
            values[f"expert_waiting.{forward}"] = load.waiting
            if parallel.spreads:
                values[f"expert_rows.{forward}"] = load.rows
                values[f"expert_most.{forward}"] = load.most
                values[f"expert_exchanged.{forward}"] = load.exchanged
    return values


def cost_tree(config: DeepSeekOCRConfig, scenario: Scenario, layouts: Sequence[PageLayout]) -> CostTree:
    """The costs of a resolved scenario, in exact integers."""
    return closed_form(config, scenario, layouts).tree(closed_form_values(config, scenario, layouts))


def written_out(config: DeepSeekOCRConfig, scenario: Scenario, layouts: Sequence[PageLayout]) -> CostTree:
    """The same, from formulas called with the scenario's own numbers, without compiling: a check."""
    work = workload(config, scenario, layouts)
    tape = write_forwards(config, work)
    length = work.sequence_length(config.sam.patch_size)
    held = kv_cache_bytes(config, work.precision, work.batch, length, work.decode_steps, work.parallel)
    return tree_of("deepseek-ocr", tape, held)


def _groups(layouts: Sequence[PageLayout]) -> list[Pages]:
    """Pages of one request, those of one grid that follow one another together."""
    return [Pages(*grid, count=len(list(same))) for grid, same in groupby(layout.grid for layout in layouts)]


def _precision(scenario: Scenario) -> Precision:
    assert scenario.activation_dtype and scenario.kv_dtype
    return Precision(scenario.dtype, scenario.activation_dtype, scenario.kv_dtype)


def _tokens(scenario: Scenario, parallel: Parallel) -> Tokens:
    assert scenario.seq_len is not None
    return Tokens(scenario.batch, parallel.requests_here(scenario.batch), scenario.seq_len)


def workload(config: DeepSeekOCRConfig, scenario: Scenario, layouts: Sequence[PageLayout]) -> Workload:
    """The sizes of a resolved scenario."""
    assert scenario.text_tokens is not None and scenario.seq_len is not None
    assert scenario.vision_attention and scenario.decoder_attention
    assert scenario.activation_dtype and scenario.kv_dtype
    views = layouts[0].workload
    parallel = parallel_of(scenario)
    tokens = _tokens(scenario, parallel)
    return Workload(
        global_side=views.global_side,
        crop_side=views.image_size,
        pages=_groups(layouts),
        text_tokens=scenario.text_tokens,
        decode_steps=scenario.decode_steps,
        batch=parallel.requests_here(scenario.batch),
        routing=routing(config.decoder, parse_routing(scenario.routing), tokens, scenario.decode_steps, parallel),
        vision_attention=scenario.vision_attention,
        decoder_attention=scenario.decoder_attention,
        head=scenario.head,
        precision=_precision(scenario),
        parallel=parallel,
    )


def routing(
    decoder: DecoderConfig, policy: RoutingPolicy, tokens: Tokens, steps: int, parallel: Parallel = ALONE
) -> Routing:
    """What a policy gives the experts of all layers in the prefill and in ``steps`` steps, on the busiest device."""
    layers = moe_layers(decoder)
    if not layers or isinstance(policy, (BalancedRouting, WorstRouting)):
        return _regular(decoder, policy.name, tokens, steps, parallel)
    local = local_decoder(decoder, parallel)

    def counted(forward: int) -> Load:
        kind = DECODE if forward else PREFILL
        if parallel.spreads:
            both = tokens.routed(kind), tokens.own_routed(kind)
            return counted_load(local, policy, *both, layers, forward, parallel.experts)
        return _counted(local, policy, tokens.routed(kind), layers, forward)

    prefill, decode = counted(0), [counted(forward) for forward in range(1, steps + 1)]
    # Without steps any load does: nothing of them is counted.
    heaviest = max(decode or [prefill], key=lambda load: live_elements(local, load.running, load.waiting))
    sums = (sum(getattr(load, name) for load in decode) for name in ("rows", "calls", "exchanged", "decisions"))
    rows, calls, exchanged, decisions = sums
    most = max((load.most or 0 for load in decode), default=0) if parallel.spreads else None
    return Routing(prefill, Load(rows, calls, heaviest.running, heaviest.waiting, most, exchanged, decisions))


def _regular(decoder: DecoderConfig, policy: str, tokens: Tokens, steps: Number, parallel: Parallel) -> Routing:
    """The loads of a policy that gives every layer and step the same table."""
    layers = moe_layers(decoder)
    if not layers:
        return Routing(NOBODY, NOBODY)
    experts, top_k = decoder.n_routed_experts, decoder.num_experts_per_tok
    assert experts and top_k
    local = local_decoder(decoder, parallel)

    def called(forward: str, decisions: Number) -> Load:
        every = tokens.routed(forward)
        if parallel.spreads:
            return spread_load(local, policy, every, tokens.own_routed(forward), decisions, parallel.experts)
        if policy == WorstRouting().name:
            return worst_load(every, experts, top_k, decisions)
        return heavier(local, balanced_load(every, experts, top_k, decisions), every * top_k, experts)

    return Routing(called(PREFILL, layers), called(DECODE, layers * steps))


def moe_layers(decoder: DecoderConfig) -> int:
    """Layers with routed experts."""
    return sum(decoder.is_moe_layer(index) for index in range(decoder.num_hidden_layers))


def _counted(decoder: DecoderConfig, policy: RoutingPolicy, tokens: int, layers: int, forward: int) -> Load:
    """What the policy's tables give the experts of one forward."""
    import numpy as np

    experts, top_k = decoder.n_routed_experts, decoder.num_experts_per_tok
    assert experts and top_k
    calls, found = 0, []
    for layer in range(layers):
        table = policy.table(tokens, experts, top_k, call=layer, forward=forward)
        counts = np.bincount(table.ravel(), minlength=experts)
        calls += int((counts > 0).sum())
        pairs = zip(counts.tolist(), (counts.cumsum() - counts).tolist(), strict=True)
        found.append(max((live_elements(decoder, *pair), *pair) for pair in pairs))
    _, running, waiting = max(found)
    return Load(tokens * top_k * layers, calls, running, waiting)


def kv_cache_bytes(
    config: DeepSeekOCRConfig,
    precision: Precision,
    batch: Number,
    length: Number,
    steps: Number,
    parallel: Parallel = ALONE,
) -> dict[str, dict[str, Number]]:
    """Bytes of keys and values of all layers after the prefill and after the last step.

    2 * layers * requests * positions * key-value heads * head size * bytes of an element, for the heads and
    requests of one device.
    """
    decoder = config.decoder
    heads = kv_heads_here(decoder, parallel)
    position = 2 * decoder.num_hidden_layers * heads * decoder.head_dim * precision.kv_bytes
    held = {PREFILL: position * batch * length, DECODE: position * batch * (length + steps) * less(0, steps)}
    layers = one_of(str(index) for index in range(decoder.num_hidden_layers))
    return {f"layers.{layers}.self_attn": held}
