"""Attention over [B, N, T, C] queries, written out (eager) or as torch's fused operator (sdpa)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def scaled_dot_product(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, kind: str) -> Tensor:
    """softmax(q·k / sqrt(C) + mask)·v, shape [B, N, T, C].

    Eager attention takes the softmax in float32 and writes the scores to memory; both kinds agree up
    to rounding. Source: Vaswani et al., Attention Is All You Need (2017).
    """
    if kind == "sdpa":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores + mask
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
    return torch.matmul(weights, v)
