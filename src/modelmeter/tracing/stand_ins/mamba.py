"""The functions of the packages causal-conv1d and mamba-ssm, over the stand-ins' operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from modelmeter.tracing.stand_ins.flash_attn import TRITON_NORMS
from modelmeter.tracing.stand_ins.norms import gated_norm, norm
from modelmeter.tracing.stand_ins.state_space import convolution, scan

CONVOLUTION_VERSION, SCAN_VERSION = "1.4.0", "2.2.2"


def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
) -> Any:
    """x [B, D, L], weight [D, W] to [B, D, L]; with ``return_final_states`` also the last W - 1 inputs."""
    out = convolution(x, weight, bias, initial_states, activation in ("silu", "swish"))
    if not return_final_states:
        return out
    taps = weight.shape[1]
    final = functional.pad(x, (taps - 1, 0)) if initial_states is None else torch.cat((initial_states, x), dim=-1)
    final = final[..., final.shape[-1] - taps + 1 :]
    return out, final if final_states_out is None else final_states_out.copy_(final)


def causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    **_: Any,
) -> Tensor:
    """One or more positions x [B, D] or [B, D, L] after a state [B, D, W or W - 1], which takes them in."""
    new = x.unsqueeze(-1) if x.dim() == 2 else x
    taps, held = weight.shape[1], conv_state.shape[-1]
    before = conv_state[..., held - taps + 1 :].clone()
    out: Tensor = convolution(new, weight, bias, before, activation in ("silu", "swish"))
    conv_state.copy_(torch.cat((conv_state, new.to(conv_state.dtype)), dim=-1)[..., -held:])
    return out.squeeze(-1) if x.dim() == 2 else out


def _grouped(part: Tensor) -> Tensor:
    """[B, N, L] or [B, G, N, L] to the latter."""
    return part.unsqueeze(1) if part.dim() == 3 else part


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,  # noqa: N803
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    D: Tensor | None = None,  # noqa: N803
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Any:
    """u, delta, z [B, D, L]; A [D, N]; B, C [B, N, L], [B, G, N, L], or [D, N] if they do not change."""
    b, c = (_constant(part, u) if part.dim() == 2 else _grouped(part) for part in (B, C))
    out, state = scan(u, delta, A, b, c, D, z, delta_bias, delta_softplus, None)
    return (out, state) if return_last_state else out


def _constant(part: Tensor, u: Tensor) -> Tensor:
    """[D, N], the same at every position, as [B, D, N, L]."""
    return part[None, :, :, None].expand(u.shape[0], -1, -1, u.shape[2])


def mamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,  # noqa: N803
    B: Tensor | None = None,  # noqa: N803
    C: Tensor | None = None,  # noqa: N803
    D: Tensor | None = None,  # noqa: N803
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,  # noqa: N803
    C_proj_bias: Tensor | None = None,  # noqa: N803
    delta_softplus: bool = True,
) -> Tensor:
    """A whole mixer, xz [B, 2D, L] to [B, L, width]: convolution, projections, scan, gate, output projection."""
    x, z = xz.chunk(2, dim=1)
    x = causal_conv1d_fn(x, conv1d_weight.flatten(1), conv1d_bias, activation="silu")
    projected = functional.linear(x.transpose(1, 2), x_proj_weight)
    rank, states = delta_proj_weight.shape[1], A.shape[-1]
    step = functional.linear(projected[..., :rank], delta_proj_weight).transpose(1, 2)
    rest = projected[..., rank:]
    if B is None:
        B, rest = _biased(rest[..., :states], B_proj_bias), rest[..., states:]  # noqa: N806
    if C is None:
        C = _biased(rest[..., :states], C_proj_bias)  # noqa: N806
    y = selective_scan_fn(x, step, A, B, C, D, z, delta_bias, delta_softplus)
    return functional.linear(y.transpose(1, 2), out_proj_weight, out_proj_bias)


def _biased(part: Tensor, bias: Tensor | None) -> Tensor:
    """[B, L, N] to [B, N, L]."""
    return (part if bias is None else part + bias).transpose(1, 2)


def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,  # noqa: N803
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    D: Tensor | None = None,  # noqa: N803
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
) -> Tensor:
    """One position x [B, D] after the state [B, D, N], which takes it in; B, C [B, N] or [B, G, N].

    With heads (x [B, H, P], state [B, H, P, N]) they are one axis D = H·P here.
    """
    shape = x.shape
    wide, flat_a = state.flatten(1, -2), A.reshape(-1, A.shape[-1])
    b, c = (part.unsqueeze(1) if part.dim() == 2 else part for part in (B, C))
    flat = [None if part is None else part.reshape(shape[0], -1).unsqueeze(-1) for part in (x, dt, z)]
    skip, bias = (None if part is None else part.reshape(-1) for part in (D, dt_bias))
    out, after = scan(
        flat[0], flat[1], flat_a, b.unsqueeze(-1), c.unsqueeze(-1), skip, flat[2], bias, dt_softplus, wide
    )
    state.copy_(after.view_as(state))
    return out.squeeze(-1).view(shape)


def rmsnorm_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    z: Tensor | None = None,
    eps: float = 1e-6,
    group_size: int | None = None,
    norm_before_gate: bool = True,
) -> Tensor:
    """RMS norm of x [..., D] with the gate z, before or after it."""
    size = group_size or x.shape[-1]
    if z is not None:
        return gated_norm(x, z, weight, eps, size, norm_before_gate)
    if size == x.shape[-1]:
        return norm(x, None, weight, bias, eps, True, False)[0]
    return norm(x.unflatten(-1, (-1, size)), None, None, None, eps, True, False)[0].flatten(-2) * weight


class GatedRMSNorm(nn.Module):
    """The gated norm as a module."""

    def __init__(
        self,
        hidden_size: int,
        eps: float = 1e-5,
        group_size: int | None = None,
        norm_before_gate: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.eps, self.group_size, self.norm_before_gate = eps, group_size, norm_before_gate
        self.weight = nn.Parameter(torch.ones(hidden_size, device=device, dtype=dtype))

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        return rmsnorm_fn(x, self.weight, None, z, self.eps, self.group_size, self.norm_before_gate)


_SCANS = {"mamba_inner_fn": mamba_inner_fn, "selective_scan_fn": selective_scan_fn}

MODULES: dict[str, dict[str, Any]] = {
    "causal_conv1d": {
        "__version__": CONVOLUTION_VERSION,
        "causal_conv1d_fn": causal_conv1d_fn,
        "causal_conv1d_update": causal_conv1d_update,
    },
    "mamba_ssm": {"__version__": SCAN_VERSION, **_SCANS},
    "mamba_ssm.ops": {},
    "mamba_ssm.ops.selective_scan_interface": _SCANS,
    "mamba_ssm.ops.triton": {},
    "mamba_ssm.ops.triton.layer_norm": TRITON_NORMS,
    "mamba_ssm.ops.triton.layernorm": TRITON_NORMS,
    "mamba_ssm.ops.triton.layernorm_gated": {"RMSNorm": GatedRMSNorm, "rmsnorm_fn": rmsnorm_fn},
    "mamba_ssm.ops.triton.selective_state_update": {"selective_state_update": selective_state_update},
}
"""Module name to what is in it."""
