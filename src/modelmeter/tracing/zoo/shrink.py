"""A configuration with few layers and experts, by the names that configurations use for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from modelmeter.errors import ModelMeterError
from modelmeter.tracing.hugging_face.configuration import read_hugging_face

FEW_LAYERS = 2
FEW_EXPERTS = 8

_LAYERS = re.compile(r"(num_(hidden_|encoder_|decoder_)?layers|n_layers?|(encoder|decoder)_layers|depth)")
_EXPERTS = re.compile(r"(num_experts|n_routed_experts|num_local_experts|moe_num_experts|n_experts)")


def shrunken(name: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """Overrides that cut layers and experts besides the given ones; only these where that makes no configuration."""
    try:
        config = read_hugging_face({"model_type": name}, name, overrides)
        cut = {key: value for key, value in _cut(config, "") if key not in overrides}
        read_hugging_face({"model_type": name}, name, {**cut, **overrides})
    except ModelMeterError:
        return overrides
    return {**cut, **overrides}


def _cut(config: Any, prefix: str) -> Iterator[tuple[str, int]]:
    grouped = (getattr(config, "n_group", None) or 1) > 1  # experts in groups: their number must fit these
    for name, value in sorted(vars(config).items()):
        if hasattr(value, "to_dict") and hasattr(value, "model_type"):
            yield from _cut(value, f"{prefix}{name}.")
        elif isinstance(value, int) and not isinstance(value, bool):
            if _LAYERS.fullmatch(name) and value > FEW_LAYERS:
                yield f"{prefix}{name}", FEW_LAYERS
            elif _EXPERTS.fullmatch(name) and value > FEW_EXPERTS and not grouped:
                yield f"{prefix}{name}", FEW_EXPERTS
