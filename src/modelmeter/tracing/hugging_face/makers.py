"""One maker an argument name: what to give a forward that asks for it, from the configuration alone.

Axis letters: B batch, T positions, C channels, H and W pixels, F frames, N patches or views, M mel bins.
A name stands for the same thing in all of the library's architectures, but for the few that the makers tell apart.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from modelmeter.tracing.hugging_face.example import Example

Maker = Callable[[Example], Tensor]

_MEL_BINS = (
    "num_mel_bins",
    "input_feat_size",
    "feature_projection_input_dim",
    "feature_size",
    "input_dim",
    "n_mels",
    "num_mel_filters",
    "feat_dim",
)

MAKERS: dict[str, Maker] = {}
"""Argument name to its maker; a second maker for a name is refused."""


def makes(*names: str) -> Callable[[Maker], Maker]:
    """Register a maker for argument names."""

    def register(maker: Maker) -> Maker:
        for name in names:
            if name in MAKERS:
                raise ValueError(f"{name} has a maker already")
            MAKERS[name] = maker
        return maker

    return register


@makes("input_ids", "input", "qformer_input_ids", "classes_input_ids", "tasks_input_ids", "text_inputs")
def token_ids(example: Example) -> Tensor:
    """[B, T]"""
    return example.ones(example.batch, example.positions)


@makes("decoder_input_ids")
def first_token(example: Example) -> Tensor:
    """[B, 1]: generation begins with one token; the prompt is the encoder's."""
    return example.ones(example.batch, 1)


@makes("attention_mask", "qformer_attention_mask", "classes_attention_mask", "tasks_attention_mask")
def all_tokens(example: Example) -> Tensor:
    """[B, T]"""
    return example.ones(example.batch, example.positions)


@makes("inputs_embeds")
def embedded(example: Example) -> Tensor:
    """[B, T, width]"""
    width = example.of_text("hidden_size", "d_model", "n_embd", default=768)
    return example.floats(example.batch, example.positions, width)


@makes("encoder_hidden_states")
def encoded(example: Example) -> Tensor:
    """[B, T, width of the encoder]"""
    names = ("encoder_hidden_size", "cross_attention_hidden_size", "hidden_size", "d_model")
    return example.floats(example.batch, example.positions, example.of_text(*names, default=768))


@makes("bbox")
def boxes(example: Example) -> Tensor:
    """[B, T, 4]"""
    return torch.zeros(example.batch, example.positions, 4, dtype=torch.int64)


@makes("pixel_values", "pixel_values_images")
def image(example: Example) -> Tensor:
    """[B, C, H, W]; a clip [B, F, C, H, W] for an architecture that counts frames."""
    height, width = example.height_width
    shape = (example.channels, height, width)
    if any(isinstance(getattr(example.config, name, None), int) for name in ("num_frames", "frames_per_clip")):
        return example.floats(example.batch, example.frames, *shape)
    return example.floats(example.batch, *shape)


@makes("pixel_values_videos")
def video(example: Example) -> Tensor:
    """[B, F, C, H, W]"""
    height, width = example.height_width
    return example.floats(example.batch, example.frames, example.channels, height, width)


@makes("pixel_mask")
def all_pixels(example: Example) -> Tensor:
    """[B, H, W]"""
    return example.ones(example.batch, *example.made["pixel_values"].shape[-2:])


@makes("grid_thw", "image_grid_thw")
def grids(example: Example) -> Tensor:
    """[B, 3]: frames, rows and columns of patches of each image."""
    rows, columns = patch_grid(example)
    return torch.tensor([[1, rows, columns]] * example.batch)


def patch_grid(example: Example) -> tuple[int, int]:
    """Rows and columns of patches of an image, multiples of what is merged."""
    side = example.of_image("patch_size", default=14)
    merged = example.of_image("spatial_merge_size", "merge_size", default=2)
    height, width = example.height_width
    return max(height // side // merged, 1) * merged, max(width // side // merged, 1) * merged


@makes("merge_sizes", "image_merge_sizes")
def merges(example: Example) -> Tensor:
    """[B]"""
    return torch.full((example.batch,), example.of_image("spatial_merge_size", "merge_size", default=2))


@makes("spatial_shapes", "target_sizes")
def shapes_of_images(example: Example) -> Tensor:
    """[B, 2]: rows and columns of patches of each image."""
    return torch.tensor([patch_grid(example)] * example.batch)


@makes("pixel_attention_mask")
def all_patches(example: Example) -> Tensor:
    """[B, N] for patches, [B, N, H, W] for pictures [B, N, C, H, W]: nothing is padding."""
    shape = example.made["pixel_values"].shape
    return example.ones(*shape[:2], *(shape[3:] if len(shape) == 5 else ()))


@makes("task_inputs")
def task_ids(example: Example) -> Tensor:
    """[B, T]"""
    return example.ones(example.batch, example.of_text("task_seq_len", default=example.positions))


@makes("input_values", "audio_values")
def waveform(example: Example) -> Tensor:
    """[B, 1, samples], a second of sound, where channels are counted; else [B, samples]."""
    samples = example.of_sound("sampling_rate", "sample_rate", default=16_000)
    channels = getattr(example.config, "audio_channels", None)
    if isinstance(channels, int):
        return example.floats(example.batch, channels, samples)
    return example.floats(example.batch, samples)


def mel_bins(example: Example) -> int:
    return example.of_sound(*_MEL_BINS, default=80)


@makes("input_features", "audio_mel", "audio_input_features")
def mel_frames(example: Example) -> Tensor:
    """[B, M, frames] where the encoder begins with a convolution over 2 x its positions, else [B, 400, M]."""
    bins = mel_bins(example)
    positions = example.of_sound("max_source_positions", default=0)
    convolved = any(isinstance(part, nn.Conv1d) and part.in_channels == bins for part in example.module.modules())
    if positions and convolved:
        return example.floats(example.batch, bins, 2 * positions)
    return example.floats(example.batch, 400, bins)


@makes("input_features_mask", "feature_attention_mask", "audio_mel_mask")
def all_frames(example: Example) -> Tensor:
    """[B, frames]: no frame is padding."""
    frames = _sound(example)
    length = frames.shape[-1] if frames.shape[1] == mel_bins(example) else frames.shape[1]
    return torch.ones(example.batch, length, dtype=torch.bool)


def _sound(example: Example) -> Tensor:
    for name in ("input_features", "audio_mel", "input_values"):
        if name in example.made:
            found: Tensor = example.made[name]
            return found
    return mel_frames(example)


@makes("past_values")
def series(example: Example) -> Tensor:
    """[B, time, channels]; one channel has no axis where the architecture says that its input has size 1."""
    lags = getattr(example.config, "lags_sequence", None)
    length = example.of_text("context_length", "horizon_length", default=512) + (max(lags) if lags else 0)
    if lags:
        width = example.of_text("input_size", default=1)
        return example.floats(example.batch, length, *([width] if width > 1 else []))
    if hasattr(example.config, "num_input_channels"):
        return example.floats(example.batch, length, example.of_text("num_input_channels", default=1))
    return example.floats(example.batch, length)


@makes("past_observed_mask")
def all_observed(example: Example) -> Tensor:
    """As the series."""
    return torch.ones_like(example.made["past_values"])


@makes("freq")
def frequencies(example: Example) -> Tensor:
    """[B, 1]: of the highest kind."""
    return torch.zeros(example.batch, 1, dtype=torch.int64)


@makes("past_values_padding")
def series_marks(example: Example) -> Tensor:
    """[B, time]: nothing is padding."""
    return torch.zeros(example.made["past_values"].shape, dtype=torch.int64)


@makes("past_time_features")
def time_features(example: Example) -> Tensor:
    """[B, time, features]"""
    count = int(getattr(example.config, "num_time_features", 0))
    return example.floats(example.batch, example.made["past_values"].shape[1], count)


@makes("latents", "inputs")
def latents(example: Example) -> Tensor:
    """[B, T, width]"""
    width = example.of_sound("hidden_size", "d_model", "d_latents", default=512)
    return example.floats(example.batch, example.positions, width)


@makes("query_embeds", "noise_embeds", "context_hidden_states")
def queries(example: Example) -> Tensor:
    """[B, T, width]"""
    return embedded(example)


@makes("prompt_pixel_values")
def prompt_image(example: Example) -> Tensor:
    """As the image."""
    return torch.zeros_like(example.made["pixel_values"])


@makes("prompt_masks")
def prompt_mask(example: Example) -> Tensor:
    """As the image."""
    return torch.zeros_like(example.made["pixel_values"])
