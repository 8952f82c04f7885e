"""Pictures and sounds among the inputs: from the library's own processor where one is there, else by layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from modelmeter.tracing.hugging_face.example import Example
from modelmeter.tracing.hugging_face.layouts import PICTURE_LAYOUTS, SOUND_LAYOUTS, Layout, flat_patches
from modelmeter.tracing.hugging_face.makers import MAKERS
from modelmeter.tracing.hugging_face.processors import image_inputs, sound_inputs

PICTURES = ("pixel_values", "flattened_patches", "pixel_values_images", "image_pixel_values", "hidden_states")
SOUNDS = ("input_features", "input_values", "audio_input_features", "audio_mel", "audio_values")

_OTHER_NAMES = {
    "hidden_states": "pixel_values",
    "grid_thw": "image_grid_thw",
    "merge_sizes": "image_merge_sizes",
    "audio_mel": "input_features",
    "audio_mel_mask": "input_features_mask",
    "feature_attention_mask": "attention_mask",
    "input_features_mask": "attention_mask",
    "pixel_position_ids": "image_position_ids",
    "image_pixel_values": "pixel_values",
}
"""A forward's argument to what a processor calls it, where that is something else."""

_SOUND_MASKS = ("input_features_mask", "feature_attention_mask", "audio_mel_mask")
"""What says that no frame of a sound is padding; optional by their signatures, and needed by many forwards."""

_GRIDS = frozenset(("grid_thw", "image_grid_thw"))
"""What comes with pictures that are rows of patches."""

_TOWERS = {"image_processor": ("vision_config",), "feature_extractor": ("audio_config", "speech_config")}
"""Parts of a configuration without which it has no tower for a kind of medium."""


def add_media(example: Example) -> None:
    """Add a picture and a sound, each with what comes with it, where the forward takes them."""
    picture, sound = _wanted(example, PICTURES), _wanted(example, SOUNDS)
    _add(example, picture, "image_processor", image_inputs, PICTURE_LAYOUTS, example.picture_layout)
    _add(example, sound, "feature_extractor", sound_inputs, SOUND_LAYOUTS, example.sound_layout)
    if sound in example.made and sound != "input_values":  # that is a waveform, which has no frames
        for name in _SOUND_MASKS:
            if name in example.arguments and name not in example.made:
                example.made[name] = MAKERS[name](example)
    if picture is None and "pixel_values_videos" in example.arguments and "pixel_values_videos" not in example.made:
        example.made["pixel_values_videos"] = MAKERS["pixel_values_videos"](example)


def _wanted(example: Example, names: tuple[str, ...]) -> str | None:
    """The argument for one kind of medium: one that must be given, the main one, or the first that may be."""
    arguments = example.arguments
    present = [name for name in names if name in arguments]
    # Hidden states are patches only where their grid comes with them.
    present = [name for name in present if name != "hidden_states" or "grid_thw" in arguments]
    ranked = sorted(present, key=lambda name: (not arguments[name], name != example.main_input))
    return ranked[0] if ranked else None


def _add(
    example: Example,
    name: str | None,
    kind: str,
    process: Callable[[Any, str, Mapping[str, Any], int], dict[str, Tensor]],
    layouts: tuple[Layout, ...],
    layout: int,
) -> None:
    if name is None or name in example.made or _has_no_tower(example.config, kind):
        return
    if layout:
        example.made[name] = layouts[layout - 1](example)
        return
    settings = example.processors.get(kind, {})
    taken = _taken(example, process(example.config, example.folder, settings, example.batch))
    if name in taken and (settings or not _contradicts(example, name, taken)):
        example.made |= {key: _cast(value, example.dtype) for key, value in taken.items()}
    elif name == "hidden_states" or (kind == "image_processor" and _GRIDS.intersection(example.arguments)):
        example.made[name] = flat_patches(example)
    elif name in MAKERS:
        example.made[name] = MAKERS[name](example)


def _has_no_tower(config: Any, kind: str) -> bool:
    return any(hasattr(config, part) and getattr(config, part) is None for part in _TOWERS[kind])


def _taken(example: Example, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the forward takes of a processor's results, under its own names."""
    taken = {
        key: found[source]
        for key in example.arguments
        if (source := key if key in found else _OTHER_NAMES.get(key, key)) in found and key not in example.made
    }
    taken.pop("input_ids", None)
    if "input_ids" in example.arguments:
        taken.pop("attention_mask", None)  # that of the sound; here the argument is the text's
    return taken


def _contradicts(example: Example, name: str, taken: Mapping[str, Tensor]) -> bool:
    """Whether a processor's plain picture is not what the configuration is for: it was made for other sizes."""
    value = taken[name]
    if name != "pixel_values" or value.dim() not in (4, 5) or set(taken) - {"pixel_values", "pixel_mask"}:
        return False
    made: Tensor = MAKERS["pixel_values"](example)
    return made.dim() != value.dim() or made.shape[1:] != value.shape[1:]


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.dtype.is_floating_point else value
