"""Fused attention: one operator for sequences of one length, one for packed sequences of several.

    B: sequences; L, S: queries and keys of each; T: tokens of all sequences; N, G: query and key-value heads,
    G divides N; C: channels of a head

Matrix FLOPs are those of ``aten.scaled_dot_product_attention`` on the same sequences: 2·B·N·L·S·2C. A causal
mask, a window and a bias do not lessen them (docs/numbers.md).
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from modelmeter.tracing.matrix_flops import attention_flops
from modelmeter.tracing.stand_ins.operator import define

SOFTMAX_FLOPS = 5
"""Operations for each score: as many as those of a softmax that is written out."""


def _scores(
    q: Tensor, k: Tensor, scale: float | None, causal: bool, left: int, right: int, cap: float, bias: Tensor | None
) -> Tensor:
    """Scores [B, N, L, S] in float32; the last query sees the last key, whatever their numbers."""
    heads = q.shape[2] // k.shape[2]
    keys = k.repeat_interleave(heads, dim=2)
    scores = torch.einsum("blnc,bsnc->bnls", q.float(), keys.float())
    scores = scores * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if cap > 0:
        scores = cap * torch.tanh(scores / cap)
    if bias is not None:
        scores = scores + (bias if bias.dim() == 4 else _alibi(bias, q.shape[1], k.shape[1]))
    ahead = torch.arange(k.shape[1]) - (torch.arange(q.shape[1])[:, None] + k.shape[1] - q.shape[1])
    hidden = torch.zeros_like(ahead, dtype=torch.bool)
    right = 0 if causal else right
    if right >= 0:
        hidden |= ahead > right
    if left >= 0:
        hidden |= ahead < -left
    return scores.masked_fill(hidden, -torch.inf)


def _alibi(slopes: Tensor, queries: int, keys: int) -> Tensor:
    """Bias [B or 1, N, L, S] that falls with the distance; slopes [N] or [B, N]."""
    distance = (torch.arange(queries)[:, None] + keys - queries - torch.arange(keys)).abs()
    return -slopes.reshape(-1, slopes.shape[-1], 1, 1) * distance


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    scale: float | None,
    causal: bool,
    left: int,
    right: int,
    cap: float,
) -> tuple[Tensor, Tensor]:
    """Attention and the logarithm of each softmax's sum: [B, L, N, C], [B, N, L] in float32."""
    scores = _scores(q, k, scale, causal, left, right, cap, bias)
    weights = torch.softmax(scores, dim=-1).nan_to_num()  # a query that sees nothing takes nothing
    values = v.repeat_interleave(q.shape[2] // v.shape[2], dim=2)
    found = torch.einsum("bnls,bsnc->blnc", weights, values.float())
    return found.to(q.dtype).contiguous(), torch.logsumexp(scores, dim=-1)


def _attend_shapes(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    batch, queries, heads, _size = q.shape
    out = q.new_empty(batch, queries, heads, v.shape[-1])
    return out, q.new_empty(batch, heads, queries, dtype=torch.float32)


def _matrix(q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> int:
    batch, queries, heads, size = q.shape
    return attention_flops(batch * heads, queries, k.shape[1], size, v.shape[-1])


def _vector(q: Tensor, k: Tensor, *_: Any, **__: Any) -> int:
    batch, queries, heads, _size = q.shape
    return SOFTMAX_FLOPS * batch * heads * queries * k.shape[1]


_OPTIONS = "float? scale, bool causal, int left, int right, float cap) -> (Tensor, Tensor)"

attention = define(
    f"attention(Tensor q, Tensor k, Tensor v, Tensor? bias, {_OPTIONS}",
    _attend,
    _attend_shapes,
    stands_for="stands for a fused attention kernel (flash-attn, xformers)",
    matrix=_matrix,
    vector=_vector,
)
"""q [B, L, N, C], k and v [B, S, G, C] to [B, L, N, C] and [B, N, L].

``bias`` is added to the scores [B, N, L, S], or holds the slopes [N] or [B, N] of ALiBi. ``left`` and ``right``
of -1: no window; ``cap`` of 0: none.
"""


def _packed(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_lengths: list[int],
    k_lengths: list[int],
    scale: float | None,
    causal: bool,
    left: int,
    right: int,
    cap: float,
) -> tuple[Tensor, Tensor]:
    parts = zip(q.split(q_lengths), k.split(k_lengths), v.split(k_lengths), strict=True)
    found = [_attend(a[None], b[None], c[None], None, scale, causal, left, right, cap) for a, b, c in parts]
    return torch.cat([out[0] for out, _ in found]), torch.cat([sums[0] for _, sums in found], dim=1)


def _packed_shapes(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    tokens, heads, _size = q.shape
    return q.new_empty(tokens, heads, v.shape[-1]), q.new_empty(heads, tokens, dtype=torch.float32)


def _packed_matrix(
    q: Tensor, k: Tensor, v: Tensor, q_lengths: list[int], k_lengths: list[int], *_: Any, **__: Any
) -> int:
    pairs = zip(q_lengths, k_lengths, strict=True)
    return sum(attention_flops(q.shape[1], queries, keys, q.shape[2], v.shape[2]) for queries, keys in pairs)


def _packed_vector(
    q: Tensor, k: Tensor, v: Tensor, q_lengths: list[int], k_lengths: list[int], *_: Any, **__: Any
) -> int:
    return SOFTMAX_FLOPS * q.shape[1] * sum(a * b for a, b in zip(q_lengths, k_lengths, strict=True))


packed_attention = define(
    f"packed_attention(Tensor q, Tensor k, Tensor v, int[] q_lengths, int[] k_lengths, {_OPTIONS}",
    _packed,
    _packed_shapes,
    stands_for="stands for a fused attention kernel over packed sequences (flash-attn, xformers)",
    matrix=_packed_matrix,
    vector=_packed_vector,
)
"""q [T, N, C], k and v [T', G, C], one sequence after the other, to [T, N, C] and [N, T]."""


def lengths_of(ends: Any, tokens: int) -> list[int]:
    """Lengths of sequences from their cumulative lengths; equal ones where these have no true values."""
    values = ends.tolist() if isinstance(ends, Tensor) else list(ends)
    lengths = [after - before for before, after in itertools.pairwise(values)]
    if sum(lengths) == tokens:
        return lengths
    count = max(len(lengths), 1)
    return [tokens * (i + 1) // count - tokens * i // count for i in range(count)]
