"""How many experts a layer's tokens reach, and so how much of the experts' weights is read.

Axes: T tokens, E experts, K distinct experts a token. ``decisions`` are layers times forwards: each
routes T tokens anew. Policies that have to be drawn (``zipf``, ``random``, recorded ones) are counted from their
tables instead; see ``modelmeter.routing``.
"""

from __future__ import annotations

from modelmeter.cost.arithmetic import Number, ceil_div, maximum, minimum
from modelmeter.cost.layers.feed_forward import Load


def experts_touched(tokens: Number, experts: Number, top_k: Number) -> Number:
    """Experts that are expected to get at least one token: E (1 - (1 - K / E)^T).

    Every token takes K distinct experts, uniformly and independently of the others; an expert is passed
    over by one with probability 1 - K / E. A real number, at least K and at most E and T K.
    """
    return experts * (1 - (1 - top_k / experts) ** tokens)


def expected_load(tokens: Number, experts: Number, top_k: Number, decisions: Number = 1) -> Load:
    """What uniform, independent routing is expected to give: ``calls`` is a real number.

    The expert that runs at the peak is taken to have the mean load of a touched one, rounded up.
    """
    copies = tokens * top_k
    touched = experts_touched(tokens, experts, top_k)
    return Load(copies * decisions, touched * decisions, ceil_div(copies, touched))


def balanced_load(tokens: Number, experts: Number, top_k: Number, decisions: Number = 1) -> Load:
    """Round robin: all experts are called once there are as many copies of tokens; min(T K, E) of them.

    The last one called has T K // E copies, and at least one.
    """
    copies = tokens * top_k
    return Load(copies * decisions, minimum(copies, experts) * decisions, maximum(copies // experts, 1))


def worst_load(tokens: Number, experts: Number, top_k: Number, decisions: Number = 1) -> Load:
    """The same K experts for every token."""
    return Load(tokens * top_k * decisions, top_k * decisions, tokens)
