"""The inputs of a forward, made from its signature, its configuration and its processor.

First what is not text (images, sound, series), by the library's own processor where one is there and by
name elsewhere; then what must be given and is not there yet; then the prompt, with as many placeholder
tokens as the model makes feature vectors of its media.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn

from modelmeter.errors import ScenarioError, UnknownNameError
from modelmeter.tracing.hugging_face.example import Example
from modelmeter.tracing.hugging_face.makers import MAKERS
from modelmeter.tracing.hugging_face.own_inputs import OwnInput
from modelmeter.tracing.hugging_face.placeholders import Placeholders, placeholders
from modelmeter.tracing.hugging_face.processors import image_inputs, sound_inputs

_PICTURES = ("pixel_values", "flattened_patches", "pixel_values_images", "image_pixel_values", "hidden_states")
_SOUNDS = ("input_features", "input_values", "audio_input_features", "audio_mel")
_PROMPTS = ("input_ids", "decoder_input_ids")

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

TEXT_AROUND = 16
"""Tokens of text beside the placeholders, where the prompt's length is not given."""


@frozen
class Inputs:
    """Arguments of the first forward by name, and the positions of its prompt (0: it has none)."""

    arguments: dict[str, Any]
    positions: int


def make_inputs(
    module: nn.Module,
    config: Any,
    *,
    batch: int,
    positions: int,
    dtype: torch.dtype,
    fixed_length: bool = True,
    settings: Mapping[str, Any] | None = None,
    own: Mapping[str, OwnInput] | None = None,
) -> Inputs:
    """Arguments for a module's forward.

    ``positions`` is the length of the prompt; without ``fixed_length`` it grows where placeholders need
    more. ``settings`` is what the snapshot's processor file holds, ``own`` are the user's inputs, which
    come first. Raises UnknownNameError for own inputs that the forward does not take, and ScenarioError
    for arguments that nobody knows how to make and prompts without room for their placeholders.
    """
    example = Example(module, config, batch, positions, dtype, settings or {})
    arguments = example.arguments
    for name in own or {}:
        if name not in arguments:
            raise UnknownNameError(f"input of {type(module).__name__}", name, arguments)
    example.made.update({name: value.tensor(dtype) for name, value in (own or {}).items()})
    _add_media(example)
    missing = [
        name for name, needed in arguments.items() if needed and name not in example.made and name not in _PROMPTS
    ]
    for name in missing:
        if name not in MAKERS:
            raise ScenarioError(
                f"{type(module).__name__} must be given {name}, which is not known how to make",
                remedy=f"describe it in a file for --inputs: {name}: {{shape: [...], dtype: ...}}",
            )
        example.made[name] = MAKERS[name](example)
    length = _add_prompt(example, fixed_length)
    return Inputs({name: example.made[name] for name in arguments if name in example.made}, length)


def _wanted(example: Example, names: tuple[str, ...]) -> str | None:
    """The argument for one kind of medium: one that must be given, the main one, or the first that may be."""
    arguments = example.arguments
    present = [name for name in names if name in arguments]
    # Hidden states are patches only where their grid comes with them.
    present = [name for name in present if name != "hidden_states" or "grid_thw" in arguments]
    ranked = sorted(present, key=lambda name: (not arguments[name], name != example.main_input))
    return ranked[0] if ranked else None


def _add_media(example: Example) -> None:
    picture, sound = _wanted(example, _PICTURES), _wanted(example, _SOUNDS)
    for name, process in ((picture, image_inputs), (sound, sound_inputs)):
        if name is None or name in example.made:
            continue
        found = process(example.config, example.folder, example.settings, example.batch)
        taken = {
            key: found[source]
            for key in example.arguments
            if (source := key if key in found else _OTHER_NAMES.get(key, key)) in found and key not in example.made
        }
        taken = {key: value for key, value in taken.items() if key != "input_ids"}
        if "attention_mask" in taken and "input_ids" in example.arguments:
            del taken["attention_mask"]  # that of the sound; here the argument is the text's
        if name in taken and not _contradicts(example, name, taken):
            example.made |= {key: _cast(value, example.dtype) for key, value in taken.items()}
        elif name in MAKERS:
            example.made[name] = MAKERS[name](example)
    if picture is None and "pixel_values_videos" in example.arguments and "pixel_values_videos" not in example.made:
        example.made["pixel_values_videos"] = MAKERS["pixel_values_videos"](example)


def _contradicts(example: Example, name: str, taken: Mapping[str, Tensor]) -> bool:
    """Whether a processor's plain picture is not what the configuration is for: it was made for other sizes."""
    value = taken[name]
    if name != "pixel_values" or value.dim() not in (4, 5) or set(taken) - {"pixel_values", "pixel_mask"}:
        return False
    made: Tensor = MAKERS["pixel_values"](example)
    return made.dim() != value.dim() or made.shape[1:] != value.shape[1:]


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.dtype.is_floating_point else value


def _add_prompt(example: Example, fixed_length: bool) -> int:
    """Add token ids where the forward takes any; gives the positions of the prompt."""
    arguments, made = example.arguments, example.made
    has_media = bool(made)
    is_text = "input_ids" in arguments and (
        not has_media or arguments["input_ids"] or example.main_input == "input_ids" or "pixel_values" in made
    )
    if is_text and "input_ids" not in made:
        taken = placeholders(example.module, example.config, made, example.batch)
        needed = sum(item.count for item in taken)
        if needed >= example.positions:
            if fixed_length:
                raise ScenarioError(
                    f"{needed} positions of images and sounds leave no room in a prompt of {example.positions}",
                    remedy="give more positions (--input-ids), or leave them out",
                )
            example.positions = needed + TEXT_AROUND
        made["input_ids"] = _prompt(example, taken)
        if taken and "mm_token_type_ids" in arguments:
            made["mm_token_type_ids"] = _types(example, taken)
    if "decoder_input_ids" in arguments and "decoder_input_ids" not in made:
        made["decoder_input_ids"] = MAKERS["decoder_input_ids"](example)
    return int(made["input_ids"].shape[1]) if isinstance(made.get("input_ids"), Tensor) else 0


def _prompt(example: Example, taken: list[Placeholders]) -> Tensor:
    """[B, T]: one token, the placeholders one kind after the other, then text."""
    ids: Tensor = MAKERS["input_ids"](example)
    at = 1
    for item in taken:
        ids[:, at : at + item.count] = item.token_id
        at += item.count
    return ids


def _types(example: Example, taken: list[Placeholders]) -> Tensor:
    """[B, T]: 0 for text, and a number for each kind of placeholder."""
    types = torch.zeros(example.batch, example.positions, dtype=torch.int64)
    at = 1
    for item in taken:
        types[:, at : at + item.count] = item.token_type
        at += item.count
    return types
