"""Decode steps without a word from the host, so that one can be captured as a CUDA graph and replayed.

Eager decoding cannot be captured: its cache grows, its mask does too, and each expert layer asks the
device how many tokens each expert got. Here the cache has its final length from the start, positions
that do not exist yet are masked, and experts are found by index on the device. Imports torch.

Axes: B requests, P positions of the whole cache, T tokens, K experts a token, E experts, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelmeter.families.deepseek_ocr.network import DeepseekOCRForCausalLM, KeyValueCache, ModelOutput
from modelmeter.families.deepseek_ocr.network.decoder import DeepseekV2MoE
from modelmeter.families.protocol import ForwardCall

_GATHER_TRAFFIC = 3
"""Gathered weights are read, written and read again."""

RunExperts = Callable[[Tensor, Tensor, Tensor], Tensor]


class StaticCache(KeyValueCache):
    """Keys and values of a fixed length [B, G, P, C]; a step writes the position that ``position`` holds."""

    def __init__(self, num_layers: int, dtype: torch.dtype | None, position: Tensor) -> None:
        super().__init__(num_layers, dtype)
        self.position = position

    def begin(self, held: KeyValueCache, positions: int) -> None:
        """Copy a cache into the beginning of this one."""
        for layer, source in zip(self.layers, held.layers, strict=True):
            assert source.keys is not None and source.values is not None
            if layer.keys is None or layer.values is None:
                batch, groups, _, channels = source.keys.shape
                layer.keys = source.keys.new_zeros(batch, groups, positions, channels)
                layer.values = torch.zeros_like(layer.keys)
            length = source.keys.shape[2]
            layer.keys[:, :, :length].copy_(source.keys)
            layer.values[:, :, :length].copy_(source.values)

    def update(self, keys: Tensor, values: Tensor, layer_idx: int) -> tuple[Tensor, Tensor]:
        """Write one position; all positions come back, those that do not exist yet too."""
        layer = self.layers[layer_idx]
        assert layer.keys is not None and layer.values is not None
        layer.keys.index_copy_(2, self.position, keys.to(layer.keys.dtype))
        layer.values.index_copy_(2, self.position, values.to(layer.values.dtype))
        return layer.keys.to(keys.dtype), layer.values.to(values.dtype)


class StaticDecode:
    """Decode steps of a batch B over P positions, on tensors that keep their places."""

    def __init__(self, network: DeepseekOCRForCausalLM, batch: int, positions: int, device: str) -> None:
        self._network = network
        self._positions = positions
        self._dtype = network.lm_head.weight.dtype
        self._position = torch.zeros(1, dtype=torch.int64, device=device)  # where the next token is written
        self._turns = torch.zeros(batch, 1, dtype=torch.int64, device=device)  # its rotary position, by request
        self._attended = torch.ones(batch, positions, dtype=torch.bool, device=device)
        self._index = torch.arange(positions, device=device)
        self._cache = StaticCache(len(network.model.layers), network.kv_dtype, self._position)
        self._experts = ExpertsByIndex(network)
        self.ids = torch.zeros(batch, 1, dtype=torch.int64, device=device)
        self.logits = torch.zeros(batch, network.lm_head.out_features, device=device)

    def begin(self, prefill: ForwardCall, output: ModelOutput) -> None:
        """Take over from a prefill: its cache and its mask."""
        held = output.past_key_values
        length = held.get_seq_length()
        self._cache.begin(held, self._positions)
        self._position.fill_(length)
        self._turns.fill_(length)
        self._attended.fill_(True)
        mask = prefill.kwargs.get("attention_mask")
        if mask is not None:
            self._attended[:, :length].copy_(mask != 0)
            self._turns.copy_(mask.sum(-1, keepdim=True))

    def step(self) -> None:
        """One forward of one token; ``logits`` are those that the network itself gives."""
        model = self._network.model
        visible = (self._index <= self._position)[None] & self._attended
        bias = torch.zeros(visible.shape, dtype=self._dtype, device=visible.device)
        bias = bias.masked_fill(~visible, torch.finfo(self._dtype).min)[:, None, None]
        hidden = model.embed_tokens(self.ids)
        with self._experts.installed():
            for layer in model.layers:
                hidden = layer(hidden, bias, self._turns, self._cache)
        self.logits.copy_(self._network.lm_head(model.norm(hidden))[:, -1])
        self._position.add_(1)
        self._turns.add_(1)


class ExpertsByIndex:
    """Another way for expert layers to run their experts: found on the device, without a count for the host.

    The experts' weights are put side by side in one tensor, of which each keeps its part: they hold the
    same values in as many bytes as before.
    """

    def __init__(self, network: nn.Module) -> None:
        layers = [module for module in network.modules() if isinstance(module, DeepseekV2MoE)]
        self._layers = [(layer, _by_index(layer)) for layer in layers]

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The network's layers go this way for the time of a block."""
        try:
            for layer, run_experts in self._layers:
                layer.__dict__["run_experts"] = run_experts
            yield
        finally:
            for layer, _ in self._layers:
                layer.__dict__.pop("run_experts", None)


def _by_index(layer: DeepseekV2MoE) -> RunExperts:
    gate, up, down = (_side_by_side(layer, name) for name in ("gate_proj", "up_proj", "down_proj"))
    number = len(layer.experts)

    def feed_forward(x: Tensor, chosen: Tensor | slice) -> Tensor:
        """x [N, T, D] through N experts."""
        hidden = F.silu(x @ gate[chosen].transpose(1, 2)) * (x @ up[chosen].transpose(1, 2))
        return hidden @ down[chosen].transpose(1, 2)

    def run_experts(tokens: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        count, top_k = experts.shape
        if _GATHER_TRAFFIC * count * top_k <= number:
            pairs = tokens[:, None].expand(-1, top_k, -1).reshape(count * top_k, 1, -1)
            out = feed_forward(pairs, experts.flatten()).view(count, top_k, -1)
            return (out.to(weights.dtype) * weights.unsqueeze(-1)).sum(dim=1).to(tokens.dtype)
        # With many tokens nearly all experts are read anyway: all run on all tokens, most with weight 0.
        out = feed_forward(tokens.expand(number, -1, -1), slice(None))
        mixed = torch.zeros(count, number, dtype=weights.dtype, device=weights.device).scatter(1, experts, weights)
        return torch.einsum("te,etd->td", mixed, out.to(weights.dtype)).to(tokens.dtype)

    return run_experts


def _side_by_side(layer: DeepseekV2MoE, name: str) -> Tensor:
    """One projection of all experts, [E, out, in]; each expert's weight becomes its part of it."""
    parameters = [expert.get_submodule(name).get_parameter("weight") for expert in layer.experts]
    together = torch.stack([parameter.detach() for parameter in parameters])
    for parameter, part in zip(parameters, together, strict=True):
        parameter.data = part
    return together
