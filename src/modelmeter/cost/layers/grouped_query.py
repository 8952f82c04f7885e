"""Multi-head, grouped-query and multi-query attention with rotary positions and a cache.

Axes: B requests, T positions, P positions with the cache, D hidden size, N heads, G key-value heads
(G = N is multi-head, G = 1 multi-query), C channels of a head.

DeepSeek-OCR's own attention, which takes its rotary angles in every layer, is ``decoder.self_attention``.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.layers.attend import Cache, Heads, Manner, attend, remember
from modelmeter.cost.layers.decoder import Step
from modelmeter.cost.operators import linear, rms_norm, rotate
from modelmeter.cost.precision import Precision
from modelmeter.cost.tape import Read, Tape, Tensor


@frozen
class GroupedQueryShape:
    """Sizes of one layer. ``bias``: of queries', keys' and values' projections; ``out_bias``: of the last one."""

    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    bias: bool = False
    out_bias: bool = False
    norms: str = ""
    """Class of the norms over every head's query and key; none if empty."""

    @property
    def cache_sizes(self) -> tuple[int, int]:
        """Elements of one position in the cache: keys and values, G * C each."""
        return self.kv_heads * self.head_dim, self.kv_heads * self.head_dim

    @property
    def rotary_dim(self) -> int:
        """Channels of a head that are turned."""
        return self.head_dim


def grouped_query_attention(
    tape: Tape,
    x: Tensor,
    mask: Read | None,
    angles: tuple[Tensor, Tensor],
    held: Cache | None,
    shape: GroupedQueryShape,
    step: Step,
    manner: Manner,
    precision: Precision,
) -> tuple[Tensor, Cache]:
    """Attention of one layer, inside the module that owns the projections: (result, cache).

    2 B T D (2 N C + 2 G C) matrix FLOPs for the projections and 4 B N T P C for scores and values; the
    cache holds 2 G C elements a position.
    Sources: Ainslie et al., GQA (2023); Touvron et al., Llama 2 (2023); biases as in Qwen2 (2024) and
    norms of queries and keys as in Qwen3 (2025).
    """
    width = precision.activation_bytes
    q_size, kv_size = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    alike = q_size == kv_size
    names = ["[q_proj,k_proj,v_proj]"] * 3 if alike else ["q_proj", *["[k_proj,v_proj]"] * 2]
    q = _projected(tape, x, names[0], q_size, shape, step, precision)
    q = _normed(tape, q, step.rows * shape.heads, shape, precision)
    k = _projected(tape, x, names[1], kv_size, shape, step, precision)
    k = _normed(tape, k, step.rows * shape.kv_heads, shape, precision)
    v = _projected(tape, x, names[2], kv_size, shape, step, precision)
    turned_q = rotate(tape, q, angles, step.rows * q_size, width)
    turned_k = rotate(tape, k, angles, step.rows * kv_size, width)
    tape.free(q, k)
    cache, reads = remember(tape, (turned_k, v), held, shape.cache_sizes, step, precision)
    heads = Heads(shape.heads, shape.kv_heads, shape.head_dim, shape.head_dim)
    mixed = attend(tape, turned_q, *reads, mask, heads, step, manner, precision)
    tape.free(turned_q, *(tensor for tensor in reads if tensor not in cache))
    with tape.module("o_proj", "Linear", in_features=q_size, out_features=shape.hidden_size, bias=shape.out_bias):
        result = linear(tape, mixed, step.rows, q_size, shape.hidden_size, precision, bias=shape.out_bias)
        tape.returns(result)
    tape.free(mixed)
    tape.returns(result)
    return result, cache


def _projected(
    tape: Tape, x: Read, name: str, size: int, shape: GroupedQueryShape, step: Step, precision: Precision
) -> Tensor:
    members = tape.here.members * name.count("_proj")
    configuration: dict[str, Any] = {"in_features": shape.hidden_size, "out_features": size, "bias": shape.bias}
    with tape.module(name, "Linear", members=members, **configuration):
        result = linear(tape, x, step.rows, shape.hidden_size, size, precision, bias=shape.bias)
        tape.returns(result)
    return result


def _normed(tape: Tape, x: Tensor, rows: Number, shape: GroupedQueryShape, precision: Precision) -> Tensor:
    """Every head's query or key divided by its root mean square, where the model has such norms."""
    if not shape.norms:
        return x
    with tape.module("[q_norm,k_norm]", shape.norms, members=tape.here.members * 2, hidden_size=shape.head_dim):
        result = rms_norm(tape, x, rows, shape.head_dim, precision)
        tape.returns(result)
    tape.free(x)
    return result
