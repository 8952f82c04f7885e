"""Attention inside a band: the mask that draws it, and the kernel that computes nothing outside it.

A query at position p sees the keys k <= p and, in a window of W, only those with k > p - W.
"""

from __future__ import annotations

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.operators.attention import SOFTMAX_FLOPS
from modelmeter.cost.operators.registry import operator
from modelmeter.cost.precision import BOOL_BYTES, INDEX_BYTES, WIDE_BYTES, Precision
from modelmeter.cost.tape import Read, Tape, Tensor


@operator
def band_attention(
    tape: Tape,
    q: Read,
    k: Read,
    v: Read,
    *,
    rows: Number,
    scores: Number,
    head_dim: Number,
    value_dim: Number,
    precision: Precision,
) -> Tensor:
    """softmax(q k^T / sqrt(d)) v over the band alone: 2 * scores * (d + d_v) matrix FLOPs, 5 vector FLOPs a score.

    ``rows`` = batch * heads * queries; ``scores`` are those inside the band, of all rows together (see
    ``layers.sliding_window.band_scores``). Kernels work on tiles and compute the band's tiles whole, so
    this is a lower bound, close where the band is wide beside a tile (64 to 128 positions).
    Source: Dao, FlashAttention-2 (2023), section 3.1; its ``window_size`` argument, version 2.3.
    """
    width = precision.activation_bytes
    with tape.operator("attention", dtype=precision.activations):
        return tape.kernel(
            [q, k, v],
            rows * value_dim * width,
            discards=rows * max(WIDE_BYTES, width),
            matrix_flops=2 * scores * (head_dim + value_dim),
            vector_flops=SOFTMAX_FLOPS * scores,
            keep=True,
        )


@operator
def band_mask(
    tape: Tape,
    queries: Number,
    keys: Number,
    precision: Precision,
    *,
    windowed: bool,
    additive: bool,
    present: Number = 1,
) -> Tensor:
    """Whether a query sees a key, [queries, keys], the same for all requests; where ``present`` is 1.

    1 vector FLOP a cell for the comparison with the query; in a window 2 more a cell (the other
    comparison, and both together) and 1 a query (where its window begins). ``additive``: as 0 and minus
    infinity in the activations' type, else as booleans.
    Source: Beltagy et al., Longformer (2020), section 3.1, with the causal window of Jiang et al.,
    Mistral 7B (2023), section 2.
    """
    cells = queries * keys * present
    with tape.operator("band_mask") as mask:
        of_queries = tape.kernel([], queries * INDEX_BYTES * present, launches=present)
        of_keys = tape.kernel([], keys * INDEX_BYTES * present, launches=present)
        seen = tape.kernel([of_queries, of_keys], cells * BOOL_BYTES, vector_flops=cells, launches=present)
        if windowed:
            first = tape.kernel(
                [of_queries], queries * INDEX_BYTES * present, vector_flops=queries * present, launches=present
            )
            near = tape.kernel([first, of_keys], cells * BOOL_BYTES, vector_flops=cells, launches=present)
            seen = tape.kernel([seen, near], cells * BOOL_BYTES, vector_flops=cells, launches=present)
        if additive:
            seen = tape.kernel([seen], cells * precision.activation_bytes, launches=present)
        return mask.keep(seen)
