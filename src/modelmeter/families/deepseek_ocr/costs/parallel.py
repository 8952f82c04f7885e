"""DeepSeek-OCR on several devices: what can be shared out, and what routing gives the busiest device.

Tensor parallelism cuts the decoder's heads, inner widths and vocabulary, and CLIP's where its heads and width divide;
SAM and the projector are on every device, as vLLM has them. Expert e lies on device e mod E (vLLM's placement
``round_robin``): so balanced routing gives devices equally many copies, to within one.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, frozen

from modelmeter.cost.arithmetic import Number, ceil_div, maximum
from modelmeter.cost.expression import key
from modelmeter.cost.layers.expert_load import balanced_load, worst_load
from modelmeter.cost.layers.feed_forward import Load
from modelmeter.cost.layers.parallel import ALONE, Parallel
from modelmeter.errors import ScenarioError
from modelmeter.families.deepseek_ocr.config import ClipConfig, DecoderConfig
from modelmeter.families.deepseek_ocr.costs.expert_peak import heavier, live_elements
from modelmeter.routing import RoutingPolicy, WorstRouting
from modelmeter.schema.cost import DECODE, PREFILL
from modelmeter.schema.scenario import Scenario


def check_shares(decoder: DecoderConfig, scenario: Scenario) -> None:
    """Refuse degrees that do not divide what they share out. Raises ScenarioError that names those that do."""
    experts = decoder.n_routed_experts or 1
    if experts % scenario.expert_parallel:
        possible = ", ".join(str(ranks) for ranks in range(1, experts + 1) if experts % ranks == 0)
        raise ScenarioError(
            f"{experts} routed experts do not divide by --expert-parallel {scenario.expert_parallel}",
            remedy=f"use one of {possible}",
        )
    whole = scenario.expert_parallel > 1
    indivisible = next(_indivisible(decoder, scenario.tensor_parallel, whole), None)
    if indivisible is not None:
        degrees = range(1, decoder.num_attention_heads + 1)
        possible = ", ".join(str(ranks) for ranks in degrees if not any(_indivisible(decoder, ranks, whole)))
        raise ScenarioError(
            f"{indivisible} do not divide by --tensor-parallel {scenario.tensor_parallel}",
            remedy=f"use one of {possible}: heads and inner widths must all divide",
        )


def _indivisible(decoder: DecoderConfig, ranks: int, whole_experts: bool) -> Iterator[str]:
    """What does not divide by so many devices."""
    heads, kv_heads = decoder.num_attention_heads, decoder.num_key_value_heads
    if heads % ranks:
        yield f"{heads} attention heads"
    if kv_heads % ranks and ranks % kv_heads:
        yield f"{kv_heads} key-value heads"
    layers = [decoder.is_moe_layer(index) for index in range(decoder.num_hidden_layers)]
    if not all(layers) and decoder.intermediate_size % ranks:
        yield f"{decoder.intermediate_size} channels of the dense layers"
    if any(layers):
        if not whole_experts and decoder.moe_intermediate_size % ranks:
            yield f"{decoder.moe_intermediate_size} channels of an expert"
        shared = decoder.moe_intermediate_size * (decoder.n_shared_experts or 0)
        if shared % ranks:
            yield f"{shared} channels of the shared experts"


def parallel_of(scenario: Scenario) -> Parallel:
    """How devices share the layers in a plan.

    Raises ScenarioError for degrees of both kinds that differ: experts lie on the devices that share the layers.
    """
    tensor, experts = scenario.tensor_parallel, scenario.expert_parallel
    if tensor > 1 and experts not in (1, tensor):
        raise ScenarioError(
            f"--expert-parallel {experts} with --tensor-parallel {tensor}: experts are spread over the same devices",
            remedy=f"use --expert-parallel 1 or {tensor}, or --tensor-parallel 1",
        )
    return Parallel(tensor, experts)


def clip_parallel(config: ClipConfig, parallel: Parallel) -> Parallel:
    """How devices share CLIP: as they do the decoder where its heads and inner width divide, else not at all."""
    divides = config.heads % parallel.tensor == 0 and config.width * config.mlp_ratio % parallel.tensor == 0
    return parallel if divides else ALONE


@frozen
class Tokens:
    """What is routed: ``requests`` of all devices that share experts, ``own`` of one, ``length`` positions each."""

    requests: Number
    own: Number
    length: Number

    def routed(self, forward: str) -> Number:
        """Tokens of all devices in a forward."""
        return self.requests * self.length if forward == PREFILL else self.requests

    def own_routed(self, forward: str) -> Number:
        """Those of one device."""
        return self.own * self.length if forward == PREFILL else self.own


def local_decoder(decoder: DecoderConfig, parallel: Parallel) -> DecoderConfig:
    """A decoder whose experts are of the size that one device has."""
    return evolve(decoder, moe_intermediate_size=decoder.moe_intermediate_size // parallel.expert_parts)


def spread_load(
    decoder: DecoderConfig, policy: str, tokens: Number, own: Number, decisions: Number, ranks: int
) -> Load:
    """The busiest device's load under balanced or worst routing of all devices' tokens, of which it has ``own``."""
    assert decoder.n_routed_experts and decoder.num_experts_per_tok
    top_k, held = decoder.num_experts_per_tok, decoder.n_routed_experts // ranks
    if policy == WorstRouting().name:
        # Of K experts that every token takes, a device has at most this many.
        chosen = ceil_div(top_k, ranks)
        load, most = worst_load(tokens, held, chosen, decisions), tokens * chosen
    else:
        most = ceil_div(tokens * top_k, ranks)
        load = heavier(decoder, balanced_load(most, held, 1, decisions), most, held)
    return evolve(load, most=most, exchanged=maximum(own * top_k, most) * decisions, decisions=decisions)


def counted_load(
    decoder: DecoderConfig, policy: RoutingPolicy, tokens: int, own: int, layers: int, forward: int, ranks: int
) -> Load:
    """The same counted from a policy's tables of one forward: in every layer, the device with the most copies."""
    import numpy as np

    assert decoder.n_routed_experts and decoder.num_experts_per_tok
    top_k = decoder.num_experts_per_tok
    rows = calls = most = exchanged = 0
    found = []
    for layer in range(layers):
        table = policy.table(tokens, decoder.n_routed_experts, top_k, call=layer, forward=forward)
        counts = np.bincount(table.ravel(), minlength=decoder.n_routed_experts)
        by_device = counts.reshape(-1, ranks).T
        busiest = int(by_device.sum(axis=1).argmax())
        here = int(by_device[busiest].sum())
        rows, most, exchanged = rows + here, max(most, here), exchanged + max(here, own * top_k)
        calls += int((by_device[busiest] > 0).sum())
        for mine in by_device:
            pairs = zip(mine.tolist(), (mine.cumsum() - mine).tolist(), strict=True)
            found.append(max((live_elements(decoder, *pair), *pair) for pair in pairs))
    _, running, waiting = max(found)
    return Load(rows, calls, running, waiting, most, exchanged, layers)


def spread_keys(layers: int, steps: Number) -> dict[str, Load]:
    """Loads of the busiest device as keys, whose values are counted from tables."""

    def load(forward: str, decisions: Number) -> Load:
        names = ("rows", "calls", "tokens", "waiting", "most", "exchanged")
        rows, calls, running, waiting, most, exchanged = (key(f"expert_{name}.{forward}") for name in names)
        return Load(rows, calls, running, waiting, most, exchanged, decisions)

    return {PREFILL: load(PREFILL, layers), DECODE: load(DECODE, layers * steps)}
