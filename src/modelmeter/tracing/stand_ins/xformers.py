"""The part of the package xformers that models use: memory-efficient attention and its masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from modelmeter.tracing.stand_ins.attention import attention, packed_attention

VERSION = "0.0.28"


class AttentionBias:
    """Base of masks that say by their type what they hide."""


@frozen
class LowerTriangularMask(AttentionBias):
    """Each query sees the keys up to its own place, counted from the first."""

    def materialize(self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: Any = "cpu") -> Tensor:
        """The mask as a bias [..., L, S]."""
        hidden = torch.full(tuple(shape), -torch.inf, dtype=dtype, device=device)
        return hidden.triu(1)


@frozen
class BlockDiagonalMask(AttentionBias):
    """Sequences one after the other in one row, each of which sees itself only."""

    q_lengths: tuple[int, ...]
    k_lengths: tuple[int, ...]
    causal: bool = False

    @classmethod
    def from_seqlens(cls, q_seqlen: Sequence[int], kv_seqlen: Sequence[int] | None = None) -> BlockDiagonalMask:
        """From the sequences' lengths; those of the keys are the queries' if not given."""
        return cls(tuple(q_seqlen), tuple(q_seqlen if kv_seqlen is None else kv_seqlen))

    @classmethod
    def from_tensor_list(cls, tensors: Sequence[Tensor]) -> tuple[BlockDiagonalMask, Tensor]:
        """The mask of tensors [B, L, ...], and the tensors in one row [1, B·L, ...]."""
        lengths = [tensor.shape[1] for tensor in tensors for _ in range(tensor.shape[0])]
        row = torch.cat([tensor.reshape(1, -1, *tensor.shape[2:]) for tensor in tensors], dim=1)
        return cls.from_seqlens(lengths), row

    def make_causal(self) -> BlockDiagonalMask:
        """The same with a causal mask in every block."""
        return BlockDiagonalMask(self.q_lengths, self.k_lengths, True)


def memory_efficient_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Tensor | AttentionBias | None = None,
    p: float = 0.0,
    scale: float | None = None,
    *,
    op: Any = None,
    output_dtype: torch.dtype | None = None,
) -> Tensor:
    """q [B, L, N, C], k and v [B, S, N, C] to [B, L, N, C]; without the heads' axis N there is one head.

    With heads in groups there is one axis more, [B, L, G, N / G, C].
    """
    shape = (*query.shape[:-1], value.shape[-1])
    given = query.dim()
    if given == 3:
        query, key, value = (part.unsqueeze(2) for part in (query, key, value))
    elif given == 5:
        query, key, value = (part.flatten(2, 3) for part in (query, key, value))
    if isinstance(attn_bias, BlockDiagonalMask):
        rows = (part.flatten(0, 1) for part in (query, key, value))
        lengths = list(attn_bias.q_lengths), list(attn_bias.k_lengths)
        out = packed_attention(*rows, *lengths, scale, attn_bias.causal, -1, -1, 0.0)[0]
    else:
        causal = isinstance(attn_bias, LowerTriangularMask)
        bias = attn_bias if isinstance(attn_bias, Tensor) else None
        if bias is not None:
            bias = bias.reshape((1,) * (4 - bias.dim()) + tuple(bias.shape)) if bias.dim() < 4 else bias
        if isinstance(attn_bias, LowerTriangularMask) and query.shape[1] != key.shape[1]:
            # It counts from the first key, and the operator's causal mask from the last.
            causal, bias = False, attn_bias.materialize((1, 1, query.shape[1], key.shape[1]))
        out = attention(query, key, value, bias, scale, causal, -1, -1, 0.0)[0]
    out = out.view(shape)
    return out if output_dtype is None else out.to(output_dtype)


def unbind(x: Tensor, dim: int) -> tuple[Tensor, ...]:
    """Views along an axis, as torch's own."""
    return x.unbind(dim)


_MASKS = {
    "AttentionBias": AttentionBias,
    "BlockDiagonalMask": BlockDiagonalMask,
    "LowerTriangularMask": LowerTriangularMask,
}

MODULES: dict[str, dict[str, Any]] = {
    "xformers": {"__version__": VERSION},
    "xformers.ops": {
        "AttentionBias": AttentionBias,
        "LowerTriangularMask": LowerTriangularMask,
        "memory_efficient_attention": memory_efficient_attention,
        "unbind": unbind,
    },
    "xformers.ops.fmha": {
        "BlockDiagonalMask": BlockDiagonalMask,
        "memory_efficient_attention": memory_efficient_attention,
    },
    "xformers.ops.fmha.attn_bias": _MASKS,
}
"""Module name to what is in it."""
