"""Fused norms and rotary positions: vector work only.

A norm counts as torch's own operator does: RMS 5 and layer norm 8 operations for each element
(``PER_OUTPUT_ELEMENT`` in tracing/operators.py), and one more where a residual is added or a gate multiplied.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from modelmeter.tracing.stand_ins.operator import define

RMS_FLOPS, LAYER_FLOPS, SILU_GATE_FLOPS = 5, 8, 2
"""Operations for each element: the norms, and a SiLU with the product that it gates."""


def _norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, rms: bool) -> Tensor:
    wide = x.float()
    if not rms:
        wide = wide - wide.mean(dim=-1, keepdim=True)
    wide = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    if weight is not None:
        wide = wide * weight.float()
    if bias is not None:
        wide = wide + bias.float()
    return wide.to(x.dtype)


def _norm_compute(
    x: Tensor, residual: Tensor | None, weight: Tensor | None, bias: Tensor | None, eps: float, rms: bool, wide: bool
) -> tuple[Tensor, Tensor]:
    if residual is None and not wide:
        return _norm(x, weight, bias, eps, rms), x.new_empty(0)
    total = x.float() if residual is None else x.float() + residual.float()
    total = total if wide else total.to(x.dtype)
    return _norm(total, weight, bias, eps, rms).to(x.dtype), total.clone()


def _norm_shapes(
    x: Tensor, residual: Tensor | None, weight: Tensor | None, bias: Tensor | None, eps: float, rms: bool, wide: bool
) -> tuple[Tensor, Tensor]:
    out = x.new_empty(x.shape)
    if residual is None and not wide:
        return out, x.new_empty(0)
    return out, x.new_empty(x.shape, dtype=torch.float32 if wide else x.dtype)


def _norm_vector(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    rms: bool,
    *_: Any,
    **__: Any,
) -> int:
    return x.numel() * ((RMS_FLOPS if rms else LAYER_FLOPS) + (residual is not None))


norm = define(
    "norm(Tensor x, Tensor? residual, Tensor? weight, Tensor? bias, float eps, bool rms, bool wide)"
    " -> (Tensor, Tensor)",
    _norm_compute,
    _norm_shapes,
    stands_for="stands for a fused norm kernel (flash-attn, mamba-ssm)",
    vector=_norm_vector,
)
"""The norm of ``x + residual``, and that sum (in float32 if ``wide``; empty where there is nothing to add)."""


def _gated(x: Tensor, z: Tensor, weight: Tensor, eps: float, group: int, after: bool) -> Tensor:
    """Norm over groups of channels; the gate SiLU(z) multiplies the norm's input, or its output if ``after``."""
    gate = functional.silu(z.float())
    wide = x.float() if after else x.float() * gate
    parts = _norm(wide.unflatten(-1, (-1, group)), None, None, eps, True).flatten(-2) * weight.float()
    return (parts * gate if after else parts).to(x.dtype)


gated_norm = define(
    "gated_norm(Tensor x, Tensor z, Tensor weight, float eps, int group, bool after) -> Tensor",
    _gated,
    lambda x, *_: x.new_empty(x.shape),
    stands_for="stands for a fused norm kernel (mamba-ssm)",
    vector=lambda x, *_, **__: x.numel() * (RMS_FLOPS + SILU_GATE_FLOPS),
)
"""RMS norm of x [..., D] with the gate z of its shape."""


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, lengths: list[int]) -> Tensor:
    if lengths:  # each sequence begins at its own first position
        rows = torch.cat([torch.arange(length) for length in lengths])
        return _rotate(x[None], cos[rows], sin[rows], interleaved, [])[0]
    size = 2 * cos.shape[-1]
    turned, rest = x[..., :size], x[..., size:]
    cos, sin = cos[: x.shape[1], None].to(x.dtype), sin[: x.shape[1], None].to(x.dtype)
    first, second = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, dim=-1)
    parts = (first * cos - second * sin, first * sin + second * cos)
    together = torch.stack(parts, dim=-1).flatten(-2) if interleaved else torch.cat(parts, dim=-1)
    return torch.cat((together, rest), dim=-1)


rotary = define(
    "rotary(Tensor x, Tensor cos, Tensor sin, bool interleaved, int[] lengths) -> Tensor",
    _rotate,
    lambda x, *_: x.new_empty(x.shape),
    stands_for="stands for a fused rotary kernel (flash-attn)",
    vector=lambda x, cos, *_, **__: 3 * math.prod(x.shape[:-1]) * 2 * cos.shape[-1],
)
"""x [B, L, N, C], or [T, N, C] of sequences of these lengths; cos and sin [positions, R / 2] turn the first R
channels of every head: two products and a sum for each turned element."""
