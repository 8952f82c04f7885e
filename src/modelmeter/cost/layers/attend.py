"""Scores, softmax and the sum over values: what every kind of attention has in its middle.

Axes: B requests, T queries, P keys, N heads, G key-value heads, C channels of a head.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import in_

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.layers.decoder import Step
from modelmeter.cost.layers.sliding_window import band_scores
from modelmeter.cost.operators import (
    append_to_cache,
    band_attention,
    batched_product,
    copy,
    flash_attention,
    softmax,
)
from modelmeter.cost.precision import Precision
from modelmeter.cost.tape import Read, Tape, Tensor

KINDS = ("sdpa", "eager", "band")
"""One kernel that computes all scores; written out, scores in memory; one kernel that keeps to the band."""

Cache = tuple[Tensor, Tensor]


@frozen
class Heads:
    """N query heads over G key-value heads; keys and values may be of different sizes.

    ``repeats``: whether code that writes attention out copies keys and values for every head of a group,
    as transformers does; if not, the heads of a group are further rows of one product.
    """

    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    repeats: bool = True


@frozen
class Manner:
    """How attention is run: its kind, and the window if there is one."""

    kind: str = field(default="sdpa", validator=in_(KINDS))
    window: int | None = None


def attend(
    tape: Tape,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Read | None,
    heads: Heads,
    step: Step,
    manner: Manner,
    precision: Precision,
) -> Tensor:
    """softmax(q k^T / sqrt(C) + mask) v, [B, T, N * C_v]: 2 * B * N * T * P * (C_k + C_v) matrix FLOPs.

    In the kind ``band`` a prefill has ``band_scores`` scores a head instead of T * P. In one kernel, groups
    of heads read the same keys; written out, keys and values are repeated for every head first.
    Sources: Vaswani et al., Attention Is All You Need (2017); Ainslie et al., GQA (2023).
    """
    if manner.kind == "eager":
        return _written_out(tape, q, k, v, mask, heads, step, precision)
    if manner.kind == "band":
        # A step's keys are those in the cache: all of them are inside.
        one = band_scores(step.queries, step.keys, manner.window) if step.is_prefill else step.queries * step.keys
        return band_attention(
            tape,
            q,
            k,
            v,
            rows=step.rows * heads.heads,
            scores=step.batch * heads.heads * one,
            head_dim=heads.key_dim,
            value_dim=heads.value_dim,
            precision=precision,
        )
    return flash_attention(
        tape,
        q,
        k,
        v,
        mask,
        batch=step.batch,
        heads=heads.heads,
        queries=step.queries,
        keys=step.keys,
        head_dim=heads.key_dim,
        value_dim=heads.value_dim,
        precision=precision,
    )


def _written_out(
    tape: Tape,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Read | None,
    heads: Heads,
    step: Step,
    precision: Precision,
) -> Tensor:
    width, dtype = precision.activation_bytes, precision.activations
    products = step.batch * heads.heads
    repeated: list[Tensor] = []
    if heads.kv_heads != heads.heads and heads.repeats:
        each = products * step.keys * width
        repeated = [copy(tape, k, each * heads.key_dim), copy(tape, v, each * heads.value_dim)]
        k, v = repeated
    scores = batched_product(tape, q, k, products, step.queries, heads.key_dim, step.keys, dtype, width)
    weights, scaled = softmax(tape, scores, mask, products * step.queries * step.keys, precision)
    out = batched_product(tape, weights, v, products, step.queries, step.keys, heads.value_dim, dtype, width)
    tape.free(weights, scaled, *repeated)
    if not step.is_prefill or heads.heads == 1:
        return out
    # Heads are brought side by side, position by position.
    joined = copy(tape, out, out.bytes)
    tape.free(out)
    return joined


def remember(
    tape: Tape,
    new: Cache,
    held: Cache | None,
    sizes: tuple[int, int],
    step: Step,
    precision: Precision,
) -> tuple[Cache, Cache]:
    """New rows behind those held: (what the cache holds then, what attention reads).

    ``sizes`` are the elements of a position in the cache's two tensors. What was held is freed.
    """
    stored, reads = [], []
    for fresh, old, size in zip(new, held or (None, None), sizes, strict=True):
        kept, read = append_to_cache(tape, old, fresh, step.rows * size, step.batch * step.past * size, precision)
        stored.append(kept)
        reads.append(read)
        if old is not None:
            tape.free(old)
        if fresh is not kept and fresh is not read:
            tape.free(fresh)
    return (stored[0], stored[1]), (reads[0], reads[1])


def forget(tape: Tape, cache: Cache, sizes: tuple[int, int], held: Number, step: Step, precision: Precision) -> Cache:
    """The cache cut to ``held`` positions: what left the window is overwritten, no kernel needed."""
    tape.free(*cache)
    rows = step.batch * held * precision.kv_bytes
    return tape.given(rows * sizes[0]), tape.given(rows * sizes[1])
