"""What a scenario's keys may be, for schemas: the class checks them with functions, which say nothing to others.

A test compares each with what the class takes.
"""

from __future__ import annotations

from typing import Any

from modelmeter.schema.scenario import ATTENTION_KINDS, RESOLUTION_MODES
from modelmeter.units import FLOAT_DTYPES

NAMES: dict[str, tuple[str, ...]] = {
    "mode": tuple(RESOLUTION_MODES),
    "dtype": tuple(FLOAT_DTYPES),
    "activation_dtype": tuple(FLOAT_DTYPES),
    "kv_dtype": tuple(FLOAT_DTYPES),
    "attention": ATTENTION_KINDS,
    "vision_attention": ATTENTION_KINDS,
    "decoder_attention": ATTENTION_KINDS,
    "head": ("all", "last"),
    "execution": ("eager", "graph"),
}
"""Key to the names that it may have."""

OPTIONAL = frozenset(("activation_dtype", "kv_dtype", "vision_attention", "decoder_attention"))
"""Those of them that may be null: derived."""

MINIMA = {
    "base_size": 1,
    "image_size": 1,
    "text_tokens": 0,
    "seq_len": 1,
    "decode_steps": 0,
    "batch": 1,
    "devices": 1,
    "tensor_parallel": 1,
    "expert_parallel": 1,
}
"""Key to the smallest number that it may have."""


def scenario_key(key: str) -> dict[str, Any]:
    """What a key's schema has beyond its type."""
    if key in NAMES:
        return {"enum": [*NAMES[key], *([None] if key in OPTIONAL else [])]}
    if key in MINIMA:
        return {"minimum": MINIMA[key]}
    return {}
