"""The models that ModelMeter and its peers are tried on: each is made with its inputs, with weights or without."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn

from modelmeter.families.registry import get_family
from modelmeter.schema import Page, Scenario

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from own_models import ResNet, SharedTransformer
from small import SMALL_SIZES

VOCABULARY = 1000


@frozen
class Subject:
    """A model with the inputs of one forward."""

    module: nn.Module
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}


class Hostile(nn.Module):
    """What users write: one layer under two names, entered through ``forward``, and a module within itself.

    [R, 64]; how deep it goes into itself depends on values.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.again = self.first
        self.steps = nn.ModuleList([self.first, nn.Linear(64, 64)])

    def forward(self, x: Tensor, depth: int = 0) -> Tensor:
        x = torch.relu(self.again(self.first(x)))
        for step in self.steps:
            x = x + step.forward(x)
        x = x @ x.T @ x
        return self(x, depth + 1) if depth < 2 and x.isfinite().all() else x


def cnn() -> Subject:
    """ResNet-18 and one picture."""
    return Subject(ResNet(width=64, blocks=(2, 2, 2, 2), classes=1000).eval(), (torch.zeros(1, 3, 224, 224),))


def encoder() -> Subject:
    """torch's transformer encoder of six layers, in evaluation mode: it takes torch's fused layers."""
    layer = nn.TransformerEncoderLayer(512, nhead=8, dim_feedforward=2048, batch_first=True)
    return Subject(nn.TransformerEncoder(layer, 6).eval(), (torch.zeros(1, 256, 512),))


def shared() -> Subject:
    """A transformer of six layers that are one, as ALBERT's, with tied embeddings."""
    return Subject(SharedTransformer(width=512, times=6, vocabulary=VOCABULARY).eval(), (_ids(256),))


def moe() -> Subject:
    """A Qwen3 mixture of 32 experts, of which each token takes four; three layers."""
    from transformers import AutoModelForCausalLM, Qwen3MoeConfig

    config = Qwen3MoeConfig(
        vocab_size=VOCABULARY, hidden_size=512, intermediate_size=1024, moe_intermediate_size=256,
        num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=4, head_dim=64, num_experts=32,
        num_experts_per_tok=4, experts_implementation="eager",
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    return Subject(model, kwargs={"input_ids": _ids(256), "use_cache": False, "return_dict": False})


def hostile() -> Subject:
    """Modules that are shared, entered directly and called within themselves."""
    return Subject(Hostile().eval(), (torch.zeros(32, 64),))


def ocr_small() -> Subject:
    """DeepSeek-OCR shrunk to 216 thousand parameters, and a page of two crops."""
    family = get_family("deepseek-ocr")
    return _ocr(family.small_configuration(), Scenario(pages=(Page(grid=(2, 1)),), dtype="float32", **SMALL_SIZES))


def ocr() -> Subject:
    """DeepSeek-OCR at full size, and a page of two crops: 3.3 billion parameters, 6.7 GB of weights."""
    family = get_family("deepseek-ocr")
    return _ocr(family.default_configuration(), Scenario(pages=(Page(grid=(2, 1)),)))


def _ocr(config: Any, scenario: Scenario) -> Subject:
    family = get_family("deepseek-ocr")
    module = family.build(config, scenario)
    call = next(family.forwards(module, config, scenario))
    return Subject(module, call.args, call.kwargs)


def _ids(positions: int) -> Tensor:
    return (torch.arange(positions) % VOCABULARY)[None]


MODELS: dict[str, Callable[[], Subject]] = {
    "cnn": cnn,
    "encoder": encoder,
    "shared": shared,
    "moe": moe,
    "hostile": hostile,
    "ocr-small": ocr_small,
    "ocr": ocr,
}
"""By the names that the command takes, in the order of the table."""
