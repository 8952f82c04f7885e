"""Writes to a cache are repeated with the calls that made them, layer by layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelmeter import Scenario, TraceOptions
from modelmeter.tracing.hugging_face.run import trace_hugging_face
from replays import RUNS, WIDTH, Counted, documents

LAYERS = 6
STEPS = 2


class Layer:
    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.steps = 0


class GrowingCache:
    """Keys of every layer, which are joined to what was there."""

    def __init__(self, made: int = LAYERS) -> None:
        self.layers = [Layer() for _ in range(made)]

    def update(self, keys: Tensor, layer_idx: int) -> Tensor:
        while len(self.layers) <= layer_idx:
            self.layers.append(Layer())
        layer = self.layers[layer_idx]
        layer.keys = keys if layer.keys is None else torch.cat((layer.keys, keys))
        layer.steps += 1
        return layer.keys


class Attention(Counted):
    def __init__(self, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.key = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, cache: GrowingCache) -> tuple[Tensor, GrowingCache]:
        self.count()
        keys = cache.update(self.key(x), self.layer_idx)
        return torch.softmax(x @ keys.T, -1) @ keys, cache


class Neighbour(Attention):
    """Looks at the keys of the layer before it."""

    def forward(self, x: Tensor, cache: GrowingCache) -> tuple[Tensor, GrowingCache]:
        x, cache = super().forward(x, cache)
        before = cache.layers[max(self.layer_idx - 1, 0)].keys
        assert before is not None
        return x + before[-1], cache


class First(Attention):
    """Looks at the keys of the first layer."""

    def forward(self, x: Tensor, cache: GrowingCache) -> tuple[Tensor, GrowingCache]:
        x, cache = super().forward(x, cache)
        assert cache.layers[0].keys is not None
        return x + cache.layers[0].keys.sum(0), cache


class Generating(nn.Module):
    """A prefill and two steps on one cache."""

    def __init__(self, kind: type[Attention], made: int, kept: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(kind(index) for index in range(LAYERS))
        self.made = made
        self.kept = kept

    def forward(self, x: Tensor) -> list[Any]:
        cache = GrowingCache(self.made)
        held: list[Any] = []
        for rows in (4, 1, 1):
            hidden = x[:rows]
            for layer in self.layers:
                hidden, given_back = layer(hidden, cache)
                assert given_back is cache
            if self.kept:
                held.append(cache.layers[3].keys)
        assert [layer.steps for layer in cache.layers] == [3] * LAYERS
        return [cache.layers[-1].keys, *held]


@pytest.mark.parametrize("made", [LAYERS, 0])
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("kind", [Attention, Neighbour, First])
def test_a_growing_cache_is_the_same(kind: type[Attention], made: int, kept: bool) -> None:
    RUNS.clear()
    replayed, run = documents(Generating(kind, made, kept), torch.zeros(4, WIDTH))
    assert replayed == run
    forwards = 1 + STEPS
    ran = RUNS[kind.__name__] - forwards * LAYERS
    if kind is Attention:
        assert ran <= forwards * 4, "the first layer, one between, the last; and one whose keys are held elsewhere"
    else:
        assert ran == forwards * LAYERS


SMALL = {"hidden_size": 32, "num_hidden_layers": 5, "vocab_size": 50}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 48}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "llama": {**SMALL, **HEADS, "architectures": ["LlamaForCausalLM"]},
    "gemma3_text": {
        **SMALL,
        **HEADS,
        "architectures": ["Gemma3ForCausalLM"],
        "sliding_window": 5,
        "sliding_window_pattern": 2,
    },
    "mixtral": {**SMALL, **HEADS, "architectures": ["MixtralForCausalLM"], "num_local_experts": 4},
    "mamba": {**SMALL, "architectures": ["MambaForCausalLM"]},
    "rwkv": {**SMALL, "architectures": ["RwkvForCausalLM"], "attention_hidden_size": 32},
    "gpt2": {"n_embd": 32, "n_layer": 5, "n_head": 4, "vocab_size": 50, "architectures": ["GPT2LMHeadModel"]},
    "t5": {
        "architectures": ["T5ForConditionalGeneration"],
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 4,
        "num_heads": 4,
        "vocab_size": 50,
        "decoder_start_token_id": 0,
    },
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_prefill_and_decode_of_transformers_models(name: str) -> None:
    made = [
        trace_hugging_face(
            {"model_type": name, **CONFIGURATIONS[name]},
            Scenario(decode_steps=2),
            batch=2,
            positions=7,
            name=name,
            options=TraceOptions(replay=replay, max_events=10_000, forward_operators=True, tensor_details=True),
        )
        for replay in (True, False)
    ]
    assert made[0].to_json() == made[1].to_json()
