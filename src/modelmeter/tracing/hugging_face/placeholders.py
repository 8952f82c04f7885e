"""Placeholder tokens: how many positions of a prompt an image, a video or a sound takes, and which id they have.

The count is the model's own answer: its ``get_image_features`` (or video, audio) runs once, without
weights and unrecorded, on the inputs that were made.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from attrs import frozen
from torch import Tensor, nn

from modelmeter.tracing.devices import HostFunctions, pretend_gpu
from modelmeter.tracing.hugging_face.sizes import TEXT, parts
from modelmeter.tracing.shape_only import fake_mode_of, weightless_parameters
from modelmeter.tracing.values import ValuePolicy
from modelmeter.tracing.weightless import WeightlessExecutor, WeightlessMode

T = TypeVar("T")


@frozen
class Medium:
    """A kind of input that takes positions of the prompt, and what it is called."""

    method: str
    words: tuple[str, ...]
    inputs: tuple[str, ...]
    token_type: int


MEDIA = (
    Medium(
        "get_image_features",
        ("image", "img_context", "media_placeholder", "vision"),
        ("pixel_values", "flattened_patches", "pixel_values_images", "image_pixel_values"),
        1,
    ),
    Medium("get_video_features", ("video",), ("pixel_values_videos",), 2),
    Medium(
        "get_audio_features",
        ("audio", "sound", "speech"),
        ("input_features", "input_values", "audio_input_features"),
        3,
    ),
)


_ENDINGS = ("token_id", "token_index", "token_idx", "patch_id", "pad_id")


@frozen
class Placeholders:
    """So many positions of one prompt with this token id and token type."""

    token_id: int
    count: int
    token_type: int


def placeholders(module: nn.Module, config: Any, inputs: Mapping[str, Any], batch: int) -> list[Placeholders]:
    """What the media among the inputs take of each of ``batch`` prompts; empty without media or token ids."""
    found = []
    for medium in MEDIA:
        name = next((name for name in medium.inputs if name in inputs), None)
        method = next((getattr(part, medium.method) for part in module.modules() if hasattr(part, medium.method)), None)
        token = _token_id(config, medium.words)
        if name is None or method is None or token is None:
            continue
        accepted = inspect.signature(method).parameters
        given = {key: value for key, value in inputs.items() if key in accepted and key != "input_ids"}
        if name not in accepted:  # it calls the tensor by another name, in the first place
            given[next(iter(accepted))] = inputs[name]
        if _needs(accepted, "input_ids"):
            given["input_ids"] = torch.ones(batch, 1, dtype=torch.int64)
        features = unrecorded(module, partial(method, **given))
        found.append(Placeholders(token, _rows(features) // batch, medium.token_type))
    return found


def _needs(accepted: Mapping[str, inspect.Parameter], name: str) -> bool:
    return name in accepted and accepted[name].default is inspect.Parameter.empty


def _token_id(config: Any, words: tuple[str, ...]) -> int | None:
    names = [f"{word}_{ending}" for word in words for ending in _ENDINGS]
    for part in (config, *parts(config, TEXT)):
        for name in names:
            value = getattr(part, name, None)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    return None


def _rows(features: Any) -> int:
    """How many feature vectors there are: all axes but the last, summed over lists."""
    pooled = getattr(features, "pooler_output", None)
    if pooled is None:
        pooled = getattr(features, "last_hidden_state", features)
    if isinstance(pooled, Tensor):
        return math.prod(pooled.shape[:-1])
    return sum(_rows(item) for item in pooled if isinstance(item, (Tensor, list, tuple)))


def unrecorded(module: nn.Module, call: Callable[[], T]) -> T:
    """Run something with a module outside of any trace; without weights where the module has none."""
    mode = fake_mode_of(module)
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        if mode is not None:
            executor = WeightlessExecutor(mode, ValuePolicy())
            stack.enter_context(weightless_parameters(module, mode))
            stack.enter_context(pretend_gpu())
            stack.enter_context(WeightlessMode(executor))
            stack.enter_context(HostFunctions(executor))
        with _as_it_was(module):
            return call()


@contextmanager
def _as_it_was(module: nn.Module) -> Iterator[None]:
    """Attributes of modules (caches, counters) and their hooks are afterwards what they were."""
    before = [
        (part, dict(vars(part)), {name: dict(value) for name, value in vars(part).items() if name.endswith("_hooks")})
        for part in module.modules()
    ]
    try:
        yield
    finally:
        for part, attributes, hooks in before:
            vars(part).clear()
            vars(part).update(attributes)
            for name, held in hooks.items():
                vars(part)[name].clear()
                vars(part)[name].update(held)
