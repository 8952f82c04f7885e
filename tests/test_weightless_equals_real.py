"""A weightless trace is the trace of the same module with real weights, document for document."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from modelmeter import Page, Scenario, TraceOptions, build_weightless, trace
from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.routing import RecordedRouting, RoutingPolicy
from modelmeter.tracing import trace_family
from small import SMALL_SIZES, small_config

FEW = settings(max_examples=8, deadline=None, derandomize=True, database=None)


def document(graph: Any) -> dict[str, Any]:
    """All of a graph but what only a weightless trace has to assume."""
    data: dict[str, Any] = json.loads(graph.to_json())
    data.pop("assumptions")
    return data


def differences(real: Any, weightless: Any, place: str = "") -> list[str]:
    if isinstance(real, dict) and isinstance(weightless, dict):
        keys = sorted({*real, *weightless})
        return [d for k in keys for d in differences(real.get(k), weightless.get(k), f"{place}/{k}")]
    if isinstance(real, list) and isinstance(weightless, list) and len(real) == len(weightless):
        return [
            d for i, pair in enumerate(zip(real, weightless, strict=True)) for d in differences(*pair, f"{place}[{i}]")
        ]
    return [] if real == weightless else [f"{place}: really {real}, weightlessly {weightless}"]


def assert_same_documents(module: nn.Module, *args: Any, routing: RoutingPolicy | None = None, **kwargs: Any) -> None:
    real = trace(module, *args, options=TraceOptions(weightless=False, max_events=500), **kwargs)
    options = TraceOptions(max_events=500, **({"routing": routing} if routing else {}))
    weightless = trace(module, *args, options=options, **kwargs)
    assert real.total.launches > 0
    assert differences(document(real), document(weightless))[:8] == []


def record_routing(module: nn.Module, layers: int, tables: list[list[list[int]]]) -> None:
    """Keep what every gate of a real run decides, in order."""
    for submodule in module.modules():
        if type(submodule).__name__ == "MoEGate":
            submodule.register_forward_hook(lambda _, __, out: tables.append(out[0].tolist()))


@FEW
@given(
    grid=st.sampled_from([(1, 1), (2, 1), (1, 2)]),
    batch=st.integers(1, 2),
    decode_steps=st.integers(0, 2),
    vision=st.sampled_from(["eager", "sdpa"]),
    decoder=st.sampled_from(["eager", "sdpa"]),
    dtype=st.sampled_from(["bfloat16", "float32"]),
    head=st.sampled_from(["all", "last"]),
    language=st.sampled_from([{}, {"num_key_value_heads": 2}, {"n_routed_experts": 4, "num_experts_per_tok": 1}]),
)
def test_deepseek_ocr(
    grid: tuple[int, int],
    batch: int,
    decode_steps: int,
    vision: str,
    decoder: str,
    dtype: str,
    head: str,
    language: dict[str, int],
) -> None:
    config = small_config(**language)
    scenario = Scenario(
        pages=(Page(grid=grid),), batch=batch, decode_steps=decode_steps, vision_attention=vision,
        decoder_attention=decoder, dtype=dtype, head=head, text_tokens=7, **SMALL_SIZES,
    )  # fmt: skip
    torch.manual_seed(0)
    module = FAMILY.build(config, scenario)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.3)
    tables: list[list[list[int]]] = []
    record_routing(module, config.decoder.num_hidden_layers, tables)
    real = trace_family(FAMILY, scenario, config, module=module, options=TraceOptions(weightless=False))
    per_forward = len(tables) // (decode_steps + 1)
    assert per_forward == config.decoder.num_hidden_layers - 1
    routing = RecordedRouting(list(tables), decisions_per_forward=per_forward)
    built = build_weightless(lambda: FAMILY.build(config, scenario))
    weightless = trace_family(FAMILY, scenario, config, module=built, options=TraceOptions(routing=routing))
    assert len({name for name in real.call_counts if ".experts." in name}) > 1
    assert real.kv_cache and len(real.forwards) == decode_steps + 1
    assert differences(document(real), document(weightless))[:8] == []


class Selects(nn.Module):
    """Writes into preallocated real tensors, and reads and writes by real boolean masks."""

    def __init__(self, width: int, rows: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.register_buffer("memory", torch.zeros(rows + 2, width))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        y = self.first(x)
        self.memory[1:-1] = y
        picked = self.memory[1:-1][mask]
        out = torch.zeros_like(x)
        out[mask] = self.second(picked)
        out.index_add_(0, torch.arange(x.shape[0]).flip(0), y)
        grown = torch.zeros(3, *y.shape)
        for index in range(3):
            grown[index, mask] += picked * index
        return (grown.sum(0) + out).masked_fill(~mask[:, None], 0), out.masked_select(mask[:, None])


@FEW
@given(width=st.integers(1, 9), mask=st.lists(st.booleans(), min_size=1, max_size=7))
def test_a_module_that_writes_and_selects(width: int, mask: list[bool]) -> None:
    chosen = torch.tensor(mask)
    assert_same_documents(Selects(width, len(mask)), torch.randn(len(mask), width), chosen)


@FEW
@given(
    channels=st.sampled_from([4, 8]),
    groups=st.sampled_from([1, 2, 4]),
    stride=st.integers(1, 2),
    side=st.integers(8, 13),
    last=st.booleans(),
)
def test_a_convolutional_network(channels: int, groups: int, stride: int, side: int, last: bool) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, channels, 3, stride=stride, groups=groups, padding="same" if stride == 1 else 1),
        nn.GroupNorm(2, channels),
        nn.SiLU(),
        nn.ConvTranspose2d(channels, 4, 2, stride=2),
        nn.Upsample(scale_factor=1.5, mode="bilinear"),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 5),
        nn.Softmax(-1),
    )
    pixels = torch.randn(2, 3, side, side)
    if last:
        network, pixels = network.to(memory_format=torch.channels_last), pixels.to(memory_format=torch.channels_last)
    assert_same_documents(network.eval(), pixels)


@FEW
@given(
    heads=st.sampled_from([1, 2, 4]),
    norm_first=st.booleans(),
    training=st.booleans(),
    activation=st.sampled_from(["relu", "gelu"]),
    length=st.integers(1, 6),
    causal=st.booleans(),
)
def test_a_transformer_encoder(
    heads: int, norm_first: bool, training: bool, activation: str, length: int, causal: bool
) -> None:
    layer = nn.TransformerEncoderLayer(
        8, heads, 24, dropout=0.0, activation=activation, batch_first=True, norm_first=norm_first
    )
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).train(training)
    mask = nn.Transformer.generate_square_subsequent_mask(length) if causal else None
    assert_same_documents(encoder, torch.randn(2, length, 8), mask=mask)


SMALL: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50,
    "max_position_embeddings": 64,
}  # fmt: skip
GROUPED = {**SMALL, "num_key_value_heads": 2}
HUGGING_FACE: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", GROUPED),
    "llama, eager": ("llama", {**GROUPED, "attn_implementation": "eager"}),
    "bert": ("bert", SMALL),
    "gpt2": ("gpt2", {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 50}),
    # Every expert is taken by every token, so that no routing has to be read back.
    "qwen2_moe": (
        "qwen2_moe",
        {**GROUPED, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8, "num_experts": 4,
         "num_experts_per_tok": 4},
    ),
    "mamba": ("mamba", {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 50}),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "keys"), HUGGING_FACE.values(), ids=HUGGING_FACE)
def test_hugging_face(kind: str, keys: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    keys = dict(keys)
    attention = keys.pop("attn_implementation", "sdpa")
    config = transformers.AutoConfig.for_model(kind, **keys)
    given = {} if kind == "mamba" else {"attn_implementation": attention}
    module = transformers.AutoModel.from_config(config, **given).eval()
    assert_same_documents(module, input_ids=torch.ones(2, 7, dtype=torch.int64))
