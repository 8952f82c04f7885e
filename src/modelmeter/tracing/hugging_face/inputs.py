"""The inputs of a forward, made from its signature, its configuration and its processor.

First what is not text (images, sound, series), by the library's own processor where one is there and by
name elsewhere; then what must be given and is not there yet; then the prompt, with as many placeholder
tokens as the model makes feature vectors of its media.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn

from modelmeter.errors import ScenarioError, UnknownNameError
from modelmeter.tracing.hugging_face.documented import documented
from modelmeter.tracing.hugging_face.example import Example
from modelmeter.tracing.hugging_face.layouts import PROMPT_LAYOUTS
from modelmeter.tracing.hugging_face.makers import MAKERS
from modelmeter.tracing.hugging_face.media import add_media
from modelmeter.tracing.hugging_face.own_inputs import OwnInput
from modelmeter.tracing.hugging_face.placeholders import Placeholders, placeholders

_PROMPTS = ("input_ids", "decoder_input_ids")
_BESIDE_THE_PROMPT = ("attention_mask", "bbox")
"""As long as the prompt, which grows with its placeholders."""

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
    processors: Mapping[str, Mapping[str, Any]] | None = None,
    own: Mapping[str, OwnInput] | None = None,
    also: Collection[str] = (),
    layouts: tuple[int, int, int] = (0, 0, 0),
) -> Inputs:
    """Arguments for a module's forward.

    ``positions`` is the length of the prompt; without ``fixed_length`` it grows where placeholders need
    more. ``processors`` are the settings of the snapshot's ``image_processor`` and ``feature_extractor``,
    ``own`` are the user's inputs, which come first, ``also`` are optional arguments that are made like
    those that must be given; the layouts are places in ``layouts``. Raises UnknownNameError for own inputs
    that the forward does not take, and ScenarioError for arguments that nobody knows how to make and
    prompts without room for their placeholders.
    """
    example = Example(module, config, batch, positions, dtype, processors or {})
    example.picture_layout, example.sound_layout, example.prompt_layout = layouts
    arguments = example.arguments
    for name in own or {}:
        if name not in arguments:
            raise UnknownNameError(f"input of {type(module).__name__}", name, arguments)
    example.made.update({name: value.tensor(dtype) for name, value in (own or {}).items()})
    add_media(example)
    missing = [
        name
        for name, needed in arguments.items()
        if (needed or name in also) and name not in example.made and name not in (*_PROMPTS, *_BESIDE_THE_PROMPT)
    ]
    for name in missing:
        example.made[name] = _made(example, name)
    if example.prompt_layout:
        example.made |= PROMPT_LAYOUTS[example.prompt_layout - 1](example)
    length = _add_prompt(example, also, fixed_length)
    for name in _BESIDE_THE_PROMPT:
        if name in arguments and (arguments[name] or name in also) and name not in example.made:
            example.made[name] = _made(example, name)
    return Inputs({name: example.made[name] for name in arguments if name in example.made}, length)


def _made(example: Example, name: str) -> Tensor:
    """An argument by its maker, or as the forward documents it."""
    made = MAKERS[name](example) if name in MAKERS else documented(example, name)
    if made is None:
        raise ScenarioError(
            f"{type(example.module).__name__} must be given {name}, which is not known how to make",
            remedy=f"describe it in a file for --inputs: {name}: {{shape: [...], dtype: ...}}",
        )
    return made


def _add_prompt(example: Example, also: Collection[str], fixed_length: bool) -> int:
    """Add token ids where the forward takes any; gives the positions of the prompt."""
    arguments, made = example.arguments, example.made
    has_media = bool(made)
    is_text = "input_ids" in arguments and (
        not has_media
        or arguments["input_ids"]
        or "input_ids" in also
        or example.main_input == "input_ids"
        or "pixel_values" in made
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
