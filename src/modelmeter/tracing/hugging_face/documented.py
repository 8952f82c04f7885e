"""Arguments from what a forward's own documentation says of them: ``visual_feats (Tensor of shape (batch_size, ...))``.

Words of a shape are sizes of the example (``batch_size``, ``sequence_length``), or keys of the configuration;
sums, differences, products and quotients of them are worked out. A word that stands for neither counts 1.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from modelmeter.tracing.hugging_face.example import Example

_SHAPE = r"[`\s]*\(?[^\n]*?of\s+shape\s+`?[\(\[]([^`\n]*?)[\)\]]`"
_TYPES = (("Long", torch.int64), ("Int", torch.int64), ("Bool", torch.bool))

_WORDS: dict[str, Callable[[Example], int]] = {
    "batch_size": lambda example: example.batch,
    "batch": lambda example: example.batch,
    "sequence_length": lambda example: example.positions,
    "seq_length": lambda example: example.positions,
    "seq_len": lambda example: example.positions,
    "text_sequence_length": lambda example: example.positions,
    "num_images": lambda example: example.batch,
    "num_images_or_videos": lambda example: example.batch,
    "channels": lambda example: example.channels,
    "num_channels": lambda example: example.channels,
    "height": lambda example: example.height_width[0],
    "width": lambda example: example.height_width[1],
    "image_size": lambda example: example.height_width[0],
    "num_frames": lambda example: example.frames,
    "hidden_size": lambda example: example.of_text("hidden_size", "d_model", default=768),
}


def is_documented(module: nn.Module, name: str) -> bool:
    """Whether a shape of an argument is documented, be it one that can be worked out or not."""
    return any(_found(text, name) for text in _texts(module))


def documented(example: Example, name: str) -> Tensor | None:
    """An argument as it is documented: zeros for floats, ones for everything else; None where it is not."""
    for text in _texts(example.module):
        found = _found(text, name)
        if found is None:
            continue
        words = found.group(0)
        try:
            shape = tuple(_length(example, part) for part in _parts(found.group(1)))
        except (SyntaxError, ValueError, ZeroDivisionError):
            continue
        dtype = next((kind for word, kind in _TYPES if f"{word}Tensor" in words), example.dtype)
        if name.endswith(("_mask", "_ids")):
            dtype = torch.int64
        return torch.zeros(shape, dtype=dtype) if dtype.is_floating_point else torch.ones(shape, dtype=dtype)
    return None


def _found(text: str, name: str) -> re.Match[str] | None:
    return re.search(rf"\b{re.escape(name)}\b\s*\(?{_SHAPE}", text)


def _texts(module: Any) -> Iterator[str]:
    """Documentation of the forward and of the methods that make features."""
    for name in ("forward", "get_image_features", "get_audio_features", "get_video_features"):
        text = inspect.getdoc(getattr(type(module), name, None))
        if text:
            yield text


def _parts(text: str) -> list[str]:
    return [part for part in (piece.strip() for piece in text.split(",")) if part]


def _length(example: Example, text: str) -> int:
    return max(int(_value(example, ast.parse(text, mode="eval").body)), 1)


def _value(example: Example, node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.BinOp):
        left, right = _value(example, node.left), _value(example, node.right)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, (ast.Div, ast.FloorDiv)):
            return left // right
    if isinstance(node, ast.Attribute):  # config.hidden_size
        return _word(example, node.attr)
    if isinstance(node, ast.Name):
        return _word(example, node.id)
    raise ValueError(ast.dump(node))


def _word(example: Example, word: str) -> int:
    if word in _WORDS:
        return _WORDS[word](example)
    return example.of_text(word, default=1)
