"""Which category the operators of a module class are of, by default: data, read from above to below.

The categories are those of ``modelmeter.cost.categories``; a test compares. A class's category is that of the
operators that the class runs itself, not of its children.
"""

from __future__ import annotations

import re

OTHER = "other"

CATEGORY_NAMES = {
    "linear": "Matrix products with weights",
    "attention": "Attention: scores, softmax and values",
    "convolution": "Convolutions",
    "routing": "Choice of experts, and tokens sent to them and back",
    "norm": "Normalisations",
    "activation": "Activations and gates",
    "positions": "Positions: rotary angles, relative tables, masks",
    "residual": "Residual additions",
    "embedding": "Embedding rows",
    "data_movement": "Copies, concatenations and casts",
    "communication": "Collectives between devices",
    OTHER: "What is in no other category",
}
"""Category to what it holds, in words."""

RULES: tuple[tuple[str, str], ...] = (
    (r".*Norm[0-9]*d?|.*NormGated", "norm"),
    (r".*(Gate|Router|TopK)", "routing"),
    (r".*(MoE|MoEBlock|SparseMoeBlock|MixtureOfExperts)", "routing"),
    (r".*(Rotary|Position|RelPos).*", "positions"),
    (r".*Embed(ding|dings|dingBag)", "embedding"),
    (r".*Linear.*|.*LMHead|Conv1D|.*Projector|.*Projection", "linear"),
    (r"(Lazy)?Conv.*|.*Conv[0-9]d", "convolution"),
    (r"PatchEmbed.*", "convolution"),
    (r".*(Attention|Attn|SdpaAttention|FlashAttention2?)", "attention"),
    (r"Softmax.*|LogSoftmax", "attention"),
    (r".*(GELU.*|GeLU.*|ReLU6?|SiLU|Sigmoid|Tanh|Swish|Mish|Softplus|Hardswish|Activation|GLU)", "activation"),
    (r".*(MLP|MLPBlock|FeedForward|FFN|Experts?)", "activation"),
    (r".*(Block|Layer|EncoderLayer|DecoderLayer)", "residual"),
    (r"Flatten|Unflatten|PixelShuffle|PixelUnshuffle|Fold|Unfold|Upsample.*|.*Pool[0-9]d", "data_movement"),
)
"""Expressions for a class name without its module; the first that fits the whole name decides."""

_RULES = tuple((re.compile(expression), category) for expression, category in RULES)


def category_of_class(class_name: str) -> str:
    """The default category of a class, by its name with or without its module; ``other`` where no rule fits."""
    short = class_name.rpartition(".")[2]
    return next((category for rule, category in _RULES if rule.fullmatch(short)), OTHER)
