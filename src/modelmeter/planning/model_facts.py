"""What a report says of a model that has no family: sizes read off its configuration by their usual names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelmeter.contracts.operator_classes import category_of_class
from modelmeter.schema.cost import CostTree

_NAMES: dict[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "d_model", "n_embd", "embed_dim", "dim", "width"),
    "intermediate_size": ("intermediate_size", "ffn_dim", "d_ff", "n_inner", "encoder_ffn_dim", "decoder_ffn_dim"),
    "num_layers": ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "depth"),
    "num_attention_heads": ("num_attention_heads", "num_heads", "n_head", "n_heads", "encoder_attention_heads"),
}
"""A fact to the names that configurations have for it, as those of transformers' models do."""

_TEXT = ("text_config", "language_config", "llm_config", "decoder")
"""Where a model of several parts keeps the configuration of its language model."""


def facts_of(configuration: Mapping[str, Any], tree: CostTree) -> dict[str, Any]:
    """Sizes, layers, heads, vision backbone and experts for a report; 0 for a size that the configuration lacks."""
    places = [configuration, *(configuration[name] for name in _TEXT if isinstance(configuration.get(name), Mapping))]
    facts: dict[str, Any] = {name: _first(places, names) for name, names in _NAMES.items()}
    return {
        **facts,
        "vision_backbone": "other",
        "uses_moe": any(category_of_class(node.class_name) == "routing" for node in tree.nodes),
        "notes": "Costs were traced; sizes are the configuration's own, 0 where it has none by a usual name.",
    }


def _first(places: list[Any], names: tuple[str, ...]) -> int:
    found = [place[name] for place in places for name in names if type(place.get(name)) is int]
    return next((value for value in found if value > 0), 0)
