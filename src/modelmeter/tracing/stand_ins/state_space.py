"""Causal convolution and selective scan: the kernels of state-space models.

    B: sequences; D: channels; L: positions; W: taps; N: states of a channel; G: groups that share B and C

The scan (Gu and Dao, 2023, arXiv:2312.00752, section 3): h[t] = exp(Δ[t]·A)·h[t-1] + Δ[t]·B[t]·x[t],
y[t] = C[t]·h[t] + D·x[t], gated by SiLU(z). Written out, C[t]·h[t] is a product of matrices and the rest is
elementwise, and so it is counted: 2·B·D·L·N matrix FLOPs; for each of B·D·L·N two vector FLOPs for exp(Δ·A), one
for the product with B and two for the step; for each of B·D·L one for Δ·x and those of bias, softplus, D and gate.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from modelmeter.tracing.matrix_flops import product_flops
from modelmeter.tracing.stand_ins.operator import define

STATE_FLOPS = 5
"""Vector operations for each channel, position and state: Δ·A, exp, product with B, decay, sum."""


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, before: Tensor | None, silu: bool) -> Tensor:
    """x [B, D, L], weight [D, W]; ``before`` are the W - 1 inputs before the first."""
    taps = weight.shape[1]
    padded = functional.pad(x, (taps - 1, 0)) if before is None else torch.cat((before.to(x.dtype), x), dim=-1)
    found = functional.conv1d(padded, weight.to(x.dtype)[:, None], bias, groups=weight.shape[0])
    return functional.silu(found) if silu else found


convolution = define(
    "causal_convolution(Tensor x, Tensor weight, Tensor? bias, Tensor? before, bool silu) -> Tensor",
    _convolve,
    lambda x, *_: x.new_empty(x.shape),
    stands_for="stands for causal-conv1d's kernel",
    matrix=lambda x, weight, *_, **__: product_flops(x.shape[0] * x.shape[2], weight.shape[1], x.shape[1]),
    vector=lambda x, weight, bias, before, silu, **_: x.numel() * silu,
)
"""As torch's convolution of left-padded inputs: 2·B·D·L·W; its bias is part of it."""


def _scan(
    x: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
    before: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """x, delta, z [B, D, L]; a [D, N]; b, c [B, G, N, L]; ``before`` [B, D, N] is the state to go on from."""
    batch, channels, positions = x.shape
    step = delta.float() if delta_bias is None else delta.float() + delta_bias.float()[:, None]
    step = functional.softplus(step) if softplus else step
    b, c = (part.float().repeat_interleave(channels // part.shape[1], dim=1) for part in (b, c))
    state = x.new_zeros(batch, channels, a.shape[1], dtype=torch.float32) if before is None else before.float()
    found = []
    for t in range(positions):
        decay = torch.exp(step[:, :, t, None] * a.float())
        state = decay * state + (step[:, :, t] * x[:, :, t].float())[..., None] * b[..., t]
        found.append((state * c[..., t]).sum(dim=-1))
    y = torch.stack(found, dim=-1)
    y = y if skip is None else y + skip.float()[:, None] * x.float()
    y = y if z is None else y * functional.silu(z.float())
    return y.to(x.dtype), state.clone()


def _scan_shapes(x: Tensor, delta: Tensor, a: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape[0], x.shape[1], a.shape[1], dtype=torch.float32)


def _scan_matrix(x: Tensor, delta: Tensor, a: Tensor, *_: Any, **__: Any) -> int:
    return product_flops(x.numel(), a.shape[1], 1)


def _scan_vector(
    x: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
    *_: Any,
    **__: Any,
) -> int:
    each = 1 + (delta_bias is not None) + softplus + 2 * (skip is not None) + 2 * (z is not None)
    return x.numel() * (STATE_FLOPS * a.shape[1] + each)


scan = define(
    "selective_scan(Tensor x, Tensor delta, Tensor a, Tensor b, Tensor c, Tensor? skip, Tensor? z, "
    "Tensor? delta_bias, bool softplus, Tensor? before) -> (Tensor, Tensor)",
    _scan,
    _scan_shapes,
    stands_for="stands for mamba-ssm's selective scan",
    matrix=_scan_matrix,
    vector=_scan_vector,
)
"""Outputs [B, D, L], and the state [B, D, N] after the last position, in float32."""
