"""What inputs are made for: the module, its forward's arguments, the prompt's size, and what was made so far."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from attrs import define, field
from torch import Tensor, nn

from modelmeter.tracing.hugging_face.sizes import AUDIO, IMAGE, TEXT, sides, size

DEFAULT_SIDE = 224
"""Height and width of an image where neither configuration nor processor has a size, in pixels."""


def codebooks(config: Any) -> int:
    """Ids of one position where a model's tokens are those of a sound's codebooks; 1 for plain text."""
    decoder = getattr(config, "decoder_config", None)
    channels = size(decoder, TEXT, "num_channels", default=1) if hasattr(decoder, "to_dict") else 1
    return size(config, TEXT, "num_codebooks", "n_codebooks", default=channels)


def forward_arguments(module: nn.Module) -> dict[str, bool]:
    """Names of the arguments of a module's forward, each with whether it must be given."""
    found = inspect.signature(type(module).forward).parameters
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: parameter.default is inspect.Parameter.empty
        for name, parameter in found.items()
        if name != "self" and parameter.kind in by_name
    }


@define
class Example:
    """One example being made; ``made`` maps argument names to values, in the order in which they came.

    The layout of an input is 0 for what processor and configuration say, or a place in ``layouts``.
    """

    module: nn.Module
    config: Any
    batch: int
    positions: int
    dtype: torch.dtype
    processors: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    picture_layout: int = 0
    sound_layout: int = 0
    prompt_layout: int = 0
    made: dict[str, Any] = field(factory=dict)

    @property
    def arguments(self) -> dict[str, bool]:
        """Names of the forward's arguments, each with whether it must be given."""
        return forward_arguments(self.module)

    @property
    def main_input(self) -> str:
        """The argument that the library calls the architecture's main one."""
        name = getattr(self.module, "main_input_name", None)
        return name if isinstance(name, str) else ""

    @property
    def folder(self) -> str:
        """The library's folder that the architecture's code is in."""
        return type(self.module).__module__.split(".")[-2]

    @property
    def height_width(self) -> tuple[int, int]:
        return sides(self.config) or (DEFAULT_SIDE, DEFAULT_SIDE)

    @property
    def channels(self) -> int:
        return size(self.config, IMAGE, "num_channels", "in_channels", "in_chans", default=3)

    @property
    def codebooks(self) -> int:
        """Ids of one position of a prompt."""
        return codebooks(self.config)

    @property
    def frames(self) -> int:
        """Frames of a video."""
        return size(
            self.config, IMAGE, "num_frames", "frames_per_clip", "num_image_with_embedding", "tubelet_size", default=8
        )

    def of_image(self, *names: str, default: int) -> int:
        return size(self.config, IMAGE, *names, default=default)

    def of_sound(self, *names: str, default: int) -> int:
        return size(self.config, AUDIO, *names, default=default)

    def of_text(self, *names: str, default: int) -> int:
        return size(self.config, TEXT, *names, default=default)

    def floats(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self.dtype)

    def ones(self, *shape: int) -> Tensor:
        return torch.ones(shape, dtype=torch.int64)
