"""A decoder layer in closed form: norms, attention with a cache, a dense or an expert feed-forward part.

Axes: B requests, T positions, P positions with the cache, D hidden size, N heads, G key-value heads,
C channels of a head, E experts, K experts a token. Module names are those of the Llama and DeepSeek
checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.layers.parallel import ALONE, Parallel, add_up
from modelmeter.cost.operators import (
    add,
    append_to_cache,
    copy,
    eager_attention,
    flash_attention,
    linear,
    rms_norm,
    rotary_angles,
    rotate,
)
from modelmeter.cost.precision import Precision
from modelmeter.cost.tape import Tape, Tensor


@frozen
class AttentionShape:
    """Sizes that do not change from call to call."""

    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    kind: str
    """``sdpa`` or ``eager``."""
    parallel: Parallel = ALONE
    """Heads are those of one device; what devices have of the result is added up."""
    grouped: bool = False
    """Whether the whole layer has fewer key-value heads, though a device may have equally many of both."""


@frozen
class Step:
    """One forward of the decoder: B requests, T new positions, P positions with the cache."""

    batch: Number
    queries: Number
    keys: Number
    past: Number
    """Positions in the cache before: 0, and only then, in a prefill."""
    is_prefill: bool
    several: Number
    """1 where there is more than one request, else 0."""

    @property
    def rows(self) -> Number:
        """Positions of all requests."""
        return self.batch * self.queries


def self_attention(
    tape: Tape,
    x: Tensor,
    mask: Tensor,
    ids: Tensor,
    held: tuple[Tensor, Tensor] | None,
    shape: AttentionShape,
    step: Step,
    precision: Precision,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Multi-head or grouped-query attention with rotary positions and a cache: (result, cache).

    Source: Touvron et al., Llama 2 (2023), with Ainslie et al., GQA (2023).
    """
    width = precision.activation_bytes
    q_size, kv_size = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    with tape.module("self_attn", "LlamaAttention"):
        together = q_size == kv_size and not shape.grouped
        names = ["[q_proj,k_proj,v_proj]"] * 3 if together else ["q_proj", *["[k_proj,v_proj]"] * 2]
        projected = []
        for name, size in zip(names, (q_size, kv_size, kv_size), strict=True):
            members = tape.here.members * name.count("_proj")
            with tape.module(name, "Linear", members=members, in_features=shape.hidden_size, out_features=size):
                projected.append(linear(tape, x, step.rows, shape.hidden_size, size, precision))
                tape.returns(projected[-1])
        q, k, v = projected
        with tape.module("rotary_emb", "LlamaRotaryEmbedding"):
            angles = rotary_angles(tape, step.batch, step.queries, shape.head_dim, precision, ids)
            tape.returns(*angles)
        turned_q = rotate(tape, q, angles, step.rows * q_size, width)
        turned_k = rotate(tape, k, angles, step.rows * kv_size, width)
        tape.free(q, k)
        new_elements, past_elements = step.rows * kv_size, step.batch * step.past * kv_size
        before = held or (None, None)
        cache, reads = [], []
        for new, old in zip((turned_k, v), before, strict=True):
            stored, read = append_to_cache(tape, old, new, new_elements, past_elements, precision)
            cache.append(stored)
            reads.append(read)
            if read is not stored:
                tape.free(read)
        # Both are stored before either is converted back, so none of it is live before.
        for read in reads:
            if read not in cache:
                tape.hold(read)
        tape.free(*(tensor for tensor in (turned_k, v) if tensor not in cache))
        k_read, v_read = reads
        groups = shape.heads // shape.kv_heads
        repeated = []
        if groups > 1:
            grown = step.batch * shape.heads * step.keys * shape.head_dim * width
            repeated = [copy(tape, k_read, grown), copy(tape, v_read, grown)]
            tape.free(*(tensor for tensor in reads if tensor not in cache))
        k_used, v_used = repeated or (k_read, v_read)
        sizes = {"batch": step.batch, "heads": shape.heads, "queries": step.queries, "keys": step.keys}
        if shape.kind == "sdpa":
            out = flash_attention(
                tape, turned_q, k_used, v_used, mask, **sizes, head_dim=shape.head_dim, precision=precision
            )
        else:
            # A prefill's keys lie token by token; those of a cache, and repeated ones, head by head.
            interleaved = step.several if step.is_prefill and shape.heads > 1 else 0
            out = eager_attention(
                tape,
                turned_q,
                k_used,
                v_used,
                mask,
                **sizes,
                head_dim=shape.head_dim,
                precision=precision,
                copies_queries=interleaved,
                copies_keys=interleaved if groups == 1 else 0,
            )
        # Heads are brought side by side, unless there is one position or the kernel wrote them so.
        joins = shape.kind == "eager" and step.is_prefill and shape.heads > 1
        joined = copy(tape, out, step.rows * q_size * width) if joins else out
        with tape.module("o_proj", "Linear", in_features=q_size, out_features=shape.hidden_size):
            result = linear(tape, joined, step.rows, q_size, shape.hidden_size, precision)
            tape.returns(result)
        add_up(tape, result, precision, shape.parallel)
        tape.returns(result)
        tape.free(joined, out, *angles, turned_q, *repeated, *(tensor for tensor in reads if tensor not in cache))
    return result, (cache[0], cache[1])


def decoder_layer(
    tape: Tape,
    x: Tensor,
    mask: Tensor,
    ids: Tensor,
    held: tuple[Tensor, Tensor] | None,
    attention: AttentionShape,
    step: Step,
    precision: Precision,
    feed_forward: Callable[[Tensor], Tensor],
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """x + attention(norm(x)), then that + feed_forward(norm(that)): (result, cache)."""
    elements = step.rows * attention.hidden_size
    width = precision.activation_bytes
    norm: dict[str, Any] = {"hidden_size": attention.hidden_size}
    with tape.module("input_layernorm", "DeepseekV2RMSNorm", **norm):
        normal = rms_norm(tape, x, step.rows, attention.hidden_size, precision)
        tape.returns(normal)
    mixed, cache = self_attention(tape, normal, mask, ids, held, attention, step, precision)
    between = add(tape, x, mixed, elements, width)
    tape.free(mixed)
    # The caller's x lives on, and so does the first norm: both are the function's own variables.
    with tape.module("post_attention_layernorm", "DeepseekV2RMSNorm", **norm):
        again = rms_norm(tape, between, step.rows, attention.hidden_size, precision)
        tape.returns(again)
    fed = feed_forward(again)
    tape.free(again)
    result = add(tape, between, fed, elements, width)
    tape.returns(result)
    tape.free(fed, between, normal)
    return result, cache
