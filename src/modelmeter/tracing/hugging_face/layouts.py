"""Ways in which architectures take pictures and sounds, tried one after the other until the forward runs.

Nothing outside a forward says whether it wants an image, a clip, a pair or a row of patches under the name
``pixel_values``; a wrong layout fails in the first convolution or reshape. Axis letters as in ``makers``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from modelmeter.tracing.hugging_face.example import Example
from modelmeter.tracing.hugging_face.makers import mel_bins, mel_frames, patch_grid

Layout = Callable[[Example], Tensor]

FRAMES = 400
"""Frames of a sound, 4 seconds of 10 ms; a multiple of what encoders merge."""


def _image(example: Example) -> Tensor:
    """[B, C, H, W]"""
    return example.floats(example.batch, example.channels, *example.height_width)


def _stacked(example: Example) -> Tensor:
    """[B, 1, C, H, W]: one image for each prompt."""
    return _image(example).unsqueeze(1)


def _clip(example: Example) -> Tensor:
    """[B, F, C, H, W]"""
    return example.floats(example.batch, example.frames, example.channels, *example.height_width)


def _pair(example: Example) -> Tensor:
    """[B, 2, C, H, W]: two pictures that are compared."""
    return example.floats(example.batch, 2, example.channels, *example.height_width)


def flat_patches(example: Example) -> Tensor:
    """[N, C * patch volume]: the patches of all images in one row."""
    side = example.of_image("patch_size", default=14)
    depth = example.of_image("temporal_patch_size", "patch_temporal", default=1)
    rows, columns = patch_grid(example)
    return example.floats(example.batch * rows * columns, example.channels * depth * side * side)


def _square_patches(example: Example) -> Tensor:
    """[N, C, P, P]"""
    side = example.of_image("patch_size", default=14)
    rows, columns = patch_grid(example)
    return example.floats(example.batch * rows * columns, example.channels, side, side)


def _patches_of_each(example: Example) -> Tensor:
    """[B, N, C * P * P]"""
    side = example.of_image("patch_size", default=14)
    rows, columns = patch_grid(example)
    return example.floats(example.batch, rows * columns, example.channels * side * side)


def _frames_first(example: Example) -> Tensor:
    """[B, frames, M]"""
    return example.floats(example.batch, example.of_sound("max_length", default=FRAMES), mel_bins(example))


def _bins_first(example: Example) -> Tensor:
    """[B, M, frames]"""
    return example.floats(example.batch, mel_bins(example), FRAMES)


def _one_channel(example: Example) -> Tensor:
    """[B, 1, samples]"""
    return example.floats(example.batch, 1, example.of_sound("sampling_rate", "sample_rate", default=16_000))


def _mono(example: Example) -> Tensor:
    """[B, samples]"""
    return example.floats(example.batch, example.of_sound("sampling_rate", "sample_rate", default=16_000))


PICTURE_LAYOUTS: tuple[Layout, ...] = (
    _image,
    flat_patches,
    _stacked,
    _clip,
    _pair,
    _square_patches,
    _patches_of_each,
)
SOUND_LAYOUTS: tuple[Layout, ...] = (mel_frames, _frames_first, _bins_first, _one_channel, _mono)


def one_id(*shape: int) -> Tensor:
    """Token ids that every vocabulary has."""
    return torch.ones(shape, dtype=torch.int64)


PROMPT_LAYOUTS: tuple[Callable[[Example], dict[str, Tensor]], ...] = (
    lambda example: {"decoder_input_ids": one_id(example.batch, 1, example.codebooks)},
    lambda example: {"input_ids": one_id(example.batch, example.positions, example.codebooks)},
    lambda example: {"input_ids": one_id(example.batch, example.positions, example.codebooks + 1)},
    lambda example: {"input_ids": one_id(example.batch * example.codebooks, example.positions)},
)
"""Prompts of models whose positions have several ids, one for each codebook of a sound and one for text."""
