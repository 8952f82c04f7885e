"""Sliding windows: how many keys are seen, how many are held, how many scores a band has.

With a window of W a query at position p (from 1) sees the keys p - W + 1 to p: itself and W - 1 before.

There are two ways to run a prefill of T positions:

- *dense*: every score is computed and a mask hides those outside, T * P of them. This is what
  ``torch.nn.functional.scaled_dot_product_attention`` and written-out attention do, and what is counted
  unless asked otherwise: a mask halves nothing.
- *band*: a kernel with a window argument computes only what is inside, ``band_scores`` of them.

A decode step sees ``keys_seen`` either way, since nothing else is in the cache.

Source: Jiang et al., Mistral 7B (2023), section 2, figures 1 and 2 (rolling buffer cache).
"""

from __future__ import annotations

from modelmeter.cost.arithmetic import Number, maximum, minimum


def keys_seen(position: Number, window: Number | None) -> Number:
    """Keys that a query at a position (from 1) sees: min(W, position), or all without a window."""
    return position if window is None else minimum(window, position)


def cache_length(positions: Number, window: Number | None) -> Number:
    """Positions that a rolling buffer holds after so many: min(W, positions).

    transformers' ``DynamicSlidingWindowLayer`` holds one fewer, min(W - 1, positions): the next query's
    own key takes the last place.
    """
    return positions if window is None else minimum(window, positions)


def dense_scores(queries: Number, keys: Number) -> Number:
    """Scores of one head that a kernel with a mask computes: T * P."""
    return queries * keys


def band_scores(queries: Number, keys: Number, window: Number | None) -> Number:
    """Scores of one head inside the band, for the last T of P positions: the sum of min(W, p) over p = P-T+1..P.

    Written out: n = the queries whose window is not full yet = min(max(W - (P - T), 0), T), and then
    n (P - T) + n (n + 1) / 2 + (T - n) W. Without a window n = T, the causal triangle.

    The same sum over decode steps, with T steps that end at P positions, is the keys that they see.
    """
    past = keys - queries
    if window is None:
        return queries * past + queries * (queries + 1) // 2
    growing = minimum(maximum(window - past, 0), queries)
    return growing * past + growing * (growing + 1) // 2 + (queries - growing) * window
