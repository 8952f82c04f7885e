"""Sizes that a configuration gives under one of several names, itself or in the part for one kind of input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

IMAGE, AUDIO, TEXT = "image", "audio", "text"

_PARTS = {
    IMAGE: ("vision", "visual", "image", "vit", "backbone", "encoder", "vqmodel", "vq"),
    AUDIO: ("audio", "speech", "sound", "acoustic", "encoder"),
    TEXT: ("text", "language", "llm", "decoder"),
}
"""What the name of a sub-configuration begins with, by kind of input, the likeliest first."""


def parts(config: Any, kind: str) -> list[Any]:
    """The sub-configurations for a kind of input and all below them, then the configuration itself, then the rest."""
    inner = list(_inner(config))
    order = _PARTS[kind]
    chosen = [
        value
        for start in order
        for name, value in inner
        if name.startswith(start) or name.split("_config")[0].endswith(start)
    ]
    everything = [*chosen, *(below for value in chosen for _, below in _deep(value)), config]
    everything.extend(value for _, value in _deep(config))
    return list({id(value): value for value in everything}.values())


def _inner(config: Any) -> Iterator[tuple[str, Any]]:
    for name, value in sorted(vars(config).items()):
        if hasattr(value, "to_dict") and hasattr(value, "model_type"):
            yield name, value


def _deep(config: Any) -> Iterator[tuple[str, Any]]:
    for name, value in _inner(config):
        yield name, value
        yield from _deep(value)


def size(config: Any, kind: str, *names: str, default: int) -> int:
    """The first whole number of at least 1 under one of the names, the part for the kind before the rest."""
    for part in parts(config, kind):
        for name in names:
            value = getattr(part, name, None)
            if isinstance(value, (list, tuple)) and value:
                value = value[0]
            if isinstance(value, dict):
                value = value.get("height", value.get("shortest_edge"))
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return default


def sides(config: Any) -> tuple[int, int] | None:
    """Height and width of the images that a configuration is for; None where it takes any."""
    for part in parts(config, IMAGE):
        for name in ("image_size", "img_size", "max_img_size", "input_size"):
            value = getattr(part, name, None)
            if isinstance(value, dict):
                value = (value.get("height"), value.get("width"))
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value, value
            if isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(n, int) for n in value):
                return int(value[0]), int(value[1])
    return None
