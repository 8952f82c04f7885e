"""Attention: fused (scores never leave the chip), or written out."""

from __future__ import annotations

from collections.abc import Sequence

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.operators.pointwise import copy
from modelmeter.cost.operators.products import batched_product
from modelmeter.cost.operators.registry import operator
from modelmeter.cost.precision import WIDE_BYTES, Precision
from modelmeter.cost.tape import Part, Read, Tape, Tensor

SOFTMAX_FLOPS = 5
"""An element: maximum, subtract, exponential, add, divide."""


@operator
def flash_attention(
    tape: Tape,
    q: Read,
    k: Read,
    v: Read,
    mask: Read | None,
    *,
    batch: Number,
    heads: Number,
    queries: Number,
    keys: Number,
    head_dim: Number,
    value_dim: Number | None = None,
    precision: Precision,
) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask) v in one kernel: 2 * batch * heads * queries * keys * (d + d_v) FLOPs.

    A causal mask does not halve it: every score is computed. The softmax inside counts 5 vector FLOPs a
    score. The kernel also writes the logarithm of each row's sum, in float32.
    q [batch, heads, queries, d], k [batch, heads, keys, d], v [batch, heads, keys, d_v].
    Source: Vaswani et al., Attention Is All You Need (2017); Dao et al., FlashAttention (2022).
    """
    value_dim = head_dim if value_dim is None else value_dim
    scores = batch * heads * queries * keys
    width = precision.activation_bytes
    with tape.operator("attention", dtype=precision.activations):
        return tape.kernel(
            [q, k, v] if mask is None else [q, k, v, mask],
            batch * heads * queries * value_dim * width,
            discards=batch * heads * queries * max(WIDE_BYTES, width),
            matrix_flops=2 * scores * (head_dim + value_dim),
            vector_flops=SOFTMAX_FLOPS * scores,
            keep=True,
        )


@operator
def relative_attention(
    tape: Tape,
    q: Read,
    k: Read,
    v: Read,
    rows: Read,
    columns: Read,
    then_free: Sequence[Tensor],
    *,
    batch: Number,
    heads: Number,
    side: Number,
    head_dim: Number,
    precision: Precision,
) -> tuple[Tensor, Tensor]:
    """Fused attention over a map whose mask is a bias by row plus one by column, [batch, heads, side^2, side] each.

    4 * batch * heads * side^4 * d matrix FLOPs; 5 vector FLOPs a score for the softmax and 1 for the sum of
    the biases. Run in two kernels, of which the first writes a bias for every score; ideally, as scores
    never leave the chip, neither does it. ``then_free`` is not needed once the bias is there. Gives the result,
    and the biases, which live as long as the caller runs.
    Source: Li et al., MViTv2 (2022), section 4.1; Dao et al., FlashAttention (2022).
    """
    positions = side * side
    scores = batch * heads * positions * positions
    width = precision.activation_bytes
    with tape.operator("attention", dtype=precision.activations) as operation:
        bias = operation.linger(tape.kernel([rows, columns], scores * width, vector_flops=scores))
        tape.free(*then_free)
        result = tape.kernel(
            [q, k, v, bias],
            batch * heads * positions * head_dim * width,
            discards=batch * heads * positions * max(WIDE_BYTES, width),
            matrix_flops=4 * scores * head_dim,
            vector_flops=SOFTMAX_FLOPS * scores,
            keep=True,
        )
        return result, bias


@operator
def eager_attention(
    tape: Tape,
    q: Tensor | Part,
    k: Tensor | Part,
    v: Tensor | Part,
    mask: Read | None,
    *,
    batch: Number,
    heads: Number,
    queries: Number,
    keys: Number,
    head_dim: Number,
    precision: Precision,
    copies_queries: Number,
    copies_keys: Number,
) -> Tensor:
    """The same in two batched products with a float32 softmax between them; scores are written to memory.

    ``copies_queries`` and ``copies_keys`` are 1 where queries, or keys and values, lie interleaved in
    memory and must be brought together before they are multiplied.
    Source: Vaswani et al., Attention Is All You Need (2017).
    """
    width = precision.activation_bytes
    products = batch * heads
    grouped_q = copy(tape, _some(q, copies_queries), q.bytes * copies_queries, present=copies_queries)
    grouped_k = copy(tape, _some(k, copies_keys), k.bytes * copies_keys, present=copies_keys)
    scores = batched_product(tape, q, k, products, queries, head_dim, keys, precision.activations, width)
    tape.free(grouped_q, grouped_k)
    weights, lingering = softmax(tape, scores, mask, products * queries * keys, precision)
    grouped_v = copy(tape, _some(v, copies_keys), v.bytes * copies_keys, present=copies_keys)
    out = batched_product(tape, weights, v, products, queries, keys, head_dim, precision.activations, width)
    tape.free(grouped_v, weights, lingering)
    return out


@operator
def softmax(
    tape: Tape, scores: Tensor, mask: Read | None, elements: Number, precision: Precision
) -> tuple[Tensor, Tensor]:
    """softmax(scores / sqrt(d) + mask) in float32: 6 FLOPs a score, 7 with a mask.

    Frees ``scores``; gives the weights, and the scaled scores, which live as long as the caller runs.
    """
    whole, wide = elements * precision.activation_bytes, elements * WIDE_BYTES
    with tape.operator("softmax") as operation:
        scaled = tape.kernel([scores], whole, vector_flops=elements)
        tape.free(scores)
        if mask is not None:
            masked = tape.kernel([scaled, mask], whole, vector_flops=elements)
            tape.free(scaled)
            scaled = masked
        operation.linger(scaled)
        source = tape.kernel([scaled], wide) if precision.widens else scaled
        weights = tape.kernel([source], wide, vector_flops=SOFTMAX_FLOPS * elements)
        if precision.widens:
            tape.free(source)
            narrow = tape.kernel([weights], whole)
            tape.free(weights)
            weights = narrow
        return operation.keep(weights), scaled


def _some(read: Tensor | Part, present: Number) -> Part:
    tensor = read.tensor if isinstance(read, Part) else read
    return Part(tensor, read.bytes * present)
