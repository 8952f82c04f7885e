"""Shrunken architectures of all kinds: what a weightless trace counts is what a run with random weights counts."""

from __future__ import annotations

from typing import Any

import pytest

from hugging_face_models import DECODERS, SMALL
from modelmeter.schema.callgraph import CallGraph, Forward
from modelmeter.schema.scenario import Scenario
from modelmeter.tracing.hugging_face import trace_hugging_face
from modelmeter.tracing.runner import TraceOptions
from modelmeter.tracing.zoo.uncalled import READ, UNUSED, Readings

SILENT: dict[str, dict[str, str]] = {
    "mamba": {"layers.#.mixer.conv1d": READ, "layers.#.mixer.dt_proj": READ},
    "mamba2": {"layers.#.mixer.conv1d": READ},
    "qwen3_next": {"layers.#.linear_attn.conv1d": READ},
    "t5": {"shared": UNUSED},
    "bart": {"shared": UNUSED},
    "siglip": {"vision_model.head.attention.out_proj": READ},
    "siglip_vision_model": {"head.attention.out_proj": READ},
    "deepseek_ocr2": {"vision_tower.query_768_resolution": READ, "vision_tower.query_1024_resolution": UNUSED},
    "unlimited_ocr": {"vision_tower.vision_encoder.embeddings.position_embedding": READ},
    "gemma3": {"vision_tower.head.attention.out_proj": READ},
}
"""Modules that own parameters and are not called, by architecture: the tables of t5 and bart are their parts' own."""


def traced(name: str, *, weightless: bool = True, **given: Any) -> CallGraph:
    given = {"batch": 1, "positions": 20, "fixed_length": False, **given}
    steps = given.pop("decode_steps", 0)
    return trace_hugging_face(
        {"model_type": name, **SMALL[name]},
        Scenario(pages=(), dtype="float32", decode_steps=steps),
        name=name,
        options=TraceOptions(weightless=weightless),
        **given,
    )


def numbered(module: str) -> str:
    return ".".join("#" if part.isdigit() else part for part in module.split("."))


@pytest.mark.parametrize("name", SMALL)
def test_flops_and_calls_are_those_of_a_real_run(name: str) -> None:
    readings = Readings()
    with readings.watching():
        weightless = traced(name, built=readings.watch, progress=readings.forget)
    real = traced(name, weightless=False)
    assert weightless.total.matrix_flops == real.total.matrix_flops > 0
    assert weightless.call_counts == real.call_counts
    assert not weightless.unknown_operators
    silent = {numbered(module): why for module, why in readings.uncalled(weightless).items()}
    assert silent == SILENT.get(name, {})


@pytest.mark.parametrize("name", [*DECODERS, "t5", "bart", "whisper", "llava", "qwen2_5_vl", "gemma3"])
def test_decode_steps_with_the_cache_of_the_model(name: str) -> None:
    """Window, latent and recurrent caches included: a step costs as much as it does for real.

    An encoder runs once, and a picture is seen once.
    """
    found = [traced(name, weightless=weightless, decode_steps=2) for weightless in (True, False)]
    flops = [
        [forward.costs[next(iter(graph.module_types))].total.matrix_flops for forward in graph.forwards]
        for graph in found
    ]
    assert flops[0] == flops[1]
    assert 0 < flops[0][1] <= flops[0][2] < flops[0][0]


def _flops(graph: CallGraph, forward: Forward) -> int:
    return forward.costs[next(iter(graph.module_types))].total.matrix_flops
