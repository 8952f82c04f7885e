"""Backwards of random networks and of transformers' models: as torch counts them, and without weights as with them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from flop_counter import counting
from modelmeter import TraceOptions, trace
from test_own_modules import assert_unchanged, ids, state
from test_training import assert_adds_up
from test_weightless_equals_real import Selects, differences, document

SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 50, "max_position_embeddings": 256,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "bert": {},
}
MOE = {"moe_intermediate_size": 16, "num_experts": 6, "num_experts_per_tok": 2}


def model(name: str, **more: Any) -> nn.Module:
    config = AutoConfig.for_model(name, **{**SIZES, **more})
    torch.manual_seed(0)
    made: nn.Module = (AutoModel if name == "bert" else AutoModelForCausalLM).from_config(config)
    return made


def real_flops(module: nn.Module, tokens: Tensor, labels: dict[str, Tensor]) -> int:
    module = copy.deepcopy(module).train()
    with counting() as counter:
        output = module(input_ids=tokens, **labels)
        if labels:
            output.loss.backward()
        else:
            outputs = [output.last_hidden_state, output.pooler_output]
            torch.autograd.backward(outputs, [torch.ones_like(tensor) for tensor in outputs])
    return counter.get_total_flops()


@pytest.mark.parametrize("name", MODELS)
def test_transformers_models_as_torch_counts_them(name: str) -> None:
    module, tokens = model(name, **MODELS[name]), ids(2, 12)
    labels = {} if name == "bert" else {"labels": tokens}
    before = state(module)
    graph = trace(module, input_ids=tokens, **labels, training=True)
    assert_unchanged(before, state(module))
    assert graph.total.matrix_flops == real_flops(module, tokens, labels)
    assert_adds_up(graph)


def test_experts_however_they_are_run() -> None:
    pytest.importorskip("transformers.integrations.moe", reason="experts are run one way by this transformers")
    found = {}
    for implementation in ("eager", "grouped_mm", "batched_mm"):
        module = model("qwen3_moe", **MOE)
        module.set_experts_implementation(implementation)
        found[implementation] = trace(module, input_ids=ids(2, 12), labels=ids(2, 12), training=True)
    real = model("qwen3_moe", **MOE)
    real.set_experts_implementation("eager")
    expected = real_flops(real, ids(2, 12), {"labels": ids(2, 12)})
    assert {name: graph.total.matrix_flops for name, graph in found.items()} == dict.fromkeys(found, expected)
    assert not any(graph.unknown_operators for graph in found.values())


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Conv2d(4, 4, 3, padding=1),
    "point": lambda: nn.Conv2d(4, 4, 1, bias=False),
    "transposed": lambda: nn.ConvTranspose2d(4, 4, 3, padding=1),
    "batch norm": lambda: nn.BatchNorm2d(4),
    "group norm": lambda: nn.GroupNorm(2, 4),
    "layer norm": lambda: nn.LayerNorm(6),
    "instance norm": lambda: nn.InstanceNorm2d(4, affine=True),
    "relu": lambda: nn.ReLU(inplace=True),
    "gelu": nn.GELU,
    "linear": lambda: nn.Linear(6, 6),
    "softmax": lambda: nn.Softmax(-1),
    "dropout": lambda: nn.Dropout(0.2),
    "largest": lambda: nn.MaxPool2d(3, 1, padding=1),
    "mean": lambda: nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.AvgPool2d(2)),
    "prelu": lambda: nn.PReLU(4),
}


class Stack(nn.Module):
    """Random layers over [N, C, H, W]: some frozen, one perhaps used again, some results added to their inputs."""

    def __init__(self, kinds: list[str], frozen: set[int], again: int | None) -> None:
        super().__init__()
        layers = [LAYERS[kind]() for kind in kinds]
        if again is not None:
            layers.append(layers[again % len(layers)])
        for place in frozen:
            layers[place % len(layers)].requires_grad_(False)
        self.layers, self.last = nn.ModuleList(layers), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        for place, layer in enumerate(self.layers):
            y = layer(x + 0)
            x = x + y if place % 3 == 0 else y
        return self.last(x)


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(
    kinds=st.lists(
        st.sampled_from(sorted(LAYERS)),
        min_size=1,
        max_size=6,
    ),
    frozen=st.sets(st.integers(0, 6), max_size=3),
    again=st.none() | st.integers(0, 6),
    gradient=st.booleans(),
)
def test_random_networks(kinds: list[str], frozen: set[int], again: int | None, gradient: bool) -> None:
    module = Stack(kinds, frozen, again)
    x = torch.randn(2, 4, 6, 6, requires_grad=gradient)
    before = state(module)
    graph = trace(module, x, training=True)
    real = trace(module, x, options=TraceOptions(training=True, weightless=False))
    assert_unchanged(before, state(module))
    assert x.grad is None
    assert differences(document(real), document(graph))[:8] == []
    assert_adds_up(graph)
    with counting() as counter:
        output = copy.deepcopy(module)(x)
        output.backward(torch.ones_like(output))
    assert graph.total.matrix_flops == counter.get_total_flops()


def torch_layers() -> Iterator[tuple[str, nn.Module, tuple[Any, ...]]]:
    x = torch.randn(2, 5, 8)
    yield "transformer", nn.Transformer(8, 2, 1, 1, 16, batch_first=True), (x, torch.randn(2, 4, 8))
    yield "attention", nn.MultiheadAttention(8, 2, batch_first=True), (x, x, x)
    yield "bilinear", nn.Bilinear(8, 8, 3), (x, x)
    yield "gru", nn.GRU(8, 6), (x,)
    yield "lstm cell", nn.LSTMCell(8, 6), (torch.randn(3, 8),)
    yield "adaptive", nn.AdaptiveLogSoftmaxWithLoss(8, 10, [4, 7]), (torch.randn(6, 8), torch.arange(6))
    yield "writes into a buffer", Selects(4, 5), (torch.randn(5, 4), torch.tensor([True, False, True, True, False]))


TORCH_LAYERS = {name: (module, inputs) for name, module, inputs in torch_layers()}


@pytest.mark.parametrize("name", TORCH_LAYERS)
def test_torch_s_own_layers_without_weights_as_with_them(name: str) -> None:
    module, inputs = TORCH_LAYERS[name]
    before = state(module)
    real = trace(module, *inputs, options=TraceOptions(training=True, weightless=False))
    graph = trace(module, *inputs, training=True)
    assert_unchanged(before, state(module))
    assert all(not buffer.requires_grad for buffer in module.buffers())
    assert differences(document(real), document(graph))[:8] == []
    assert graph.stages["backward"].matrix_flops > 0 and not graph.unknown_operators


def test_a_bilinear_layer_s_gradients_by_hand() -> None:
    rows, left, right, outputs = 10, 8, 7, 3
    inputs = torch.randn(rows, left, requires_grad=True), torch.randn(rows, right, requires_grad=True)
    forward, backward = trace(nn.Bilinear(left, right, outputs), *inputs, training=True).forwards
    whole = 2 * rows * left * right * outputs
    assert forward.costs["Bilinear"].own.matrix_flops == whole + 2 * rows * right * outputs
    of_left = whole + 2 * rows * left * right  # gradient and weight summed over the outputs, then the right input
    of_weight = 2 * rows * outputs * left + whole  # gradient and left input, then the right one summed over the rows
    of_right = whole + 2 * rows * right * outputs  # left input and weight as in the forward, then the gradient
    assert backward.costs["Bilinear"].own.matrix_flops == of_left + of_weight + of_right
