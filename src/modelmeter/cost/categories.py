"""Operators by what they are, for people: shares of FLOPs and of time are given by category."""

from __future__ import annotations

from modelmeter.schema.cost import Amount, total
from modelmeter.schema.timing import OperatorTime, Span, TimedTree, span

COMMUNICATION, OTHER = "communication", "other"

COLLECTIVES = ("all_reduce", "all_gather", "all_to_all")
"""Operators that send something to other devices."""

CATEGORIES: dict[str, tuple[str, ...]] = {
    "linear": ("linear",),
    "attention": ("attention", "batched_product", "softmax"),
    "convolution": ("convolution",),
    "routing": ("gate", "dispatch", "combine"),
    "norm": ("layer_norm", "channel_norm", "rms_norm"),
    "activation": ("activation", "quick_gelu", "multiply"),
    "positions": ("rotary_angles", "rotate", "relative_table", "resize_table", "causal_mask"),
    "residual": ("add",),
    "embedding": ("embedding",),
    "data movement": ("copy", "concatenate", "to_float", "scatter_features", "append_to_cache"),
    COMMUNICATION: COLLECTIVES,
}
"""Category to the operators in it. Batched products outside of a fused kernel are attention's: scores,
values, and relative positions. An operator that is in none is ``other``, never dropped."""

DESCRIPTIONS = {
    "linear": "Products with a weight matrix.",
    "attention": "Scores, softmax and values, fused or written out, and the products of relative positions.",
    "convolution": "Convolutions over pixels and feature maps.",
    "routing": "Choosing experts, bringing their tokens together, and adding up what they gave.",
    "norm": "Norms over channels or the last axis.",
    "activation": "Activation functions and the products that gate them.",
    "positions": "Rotary angles and their use, position tables, and the causal mask.",
    "residual": "Sums of a layer's input and result.",
    "embedding": "Rows of a table looked up by token.",
    "data movement": "Copies, joins, conversions and the cache.",
    COMMUNICATION: "What devices that share the layers send to each other.",
    OTHER: "What is in no other category.",
}
"""What is in a category, in words."""

_OF = {operator: category for category, operators in CATEGORIES.items() for operator in operators}


def category_of(operator: str) -> str:
    """The category of an operator, by its name here or by one that carries it, such as ``norm/aten.mul``."""
    category, slash, _ = operator.partition("/")
    return category if slash and category in CATEGORIES else _OF.get(operator, OTHER)


def by_category(timed: TimedTree) -> dict[str, tuple[Amount, Span]]:
    """Costs and time of every category that there is any of, in the order of ``CATEGORIES``."""
    parts: dict[str, list[OperatorTime]] = {category: [] for category in (*CATEGORIES, OTHER)}
    for times in timed.operators.values():
        for time in times:
            parts[category_of(time.costs.operator)].append(time)
    return {
        category: (total(time.costs.amount for time in found), span(found))
        for category, found in parts.items()
        if found
    }
