"""The functions of the package flash-attn, as its version 2.6 has them, over the stand-ins' operators.

Arguments have the names and the order of the real ones, since vendors' code gives them by name and by place;
what has no part in shapes and FLOPs (``deterministic``) is taken and left.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from modelmeter.tracing.stand_ins.attention import attention, lengths_of, packed_attention
from modelmeter.tracing.stand_ins.norms import norm, rotary

VERSION = "2.6.3"
"""The last one whose ``unpad_input`` returns four values, as vendors' code mostly expects."""


def flash_attn_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Any:
    """q [B, L, N, C], k and v [B, S, G, C] to [B, L, N, C]."""
    out, sums = attention(q, k, v, alibi_slopes, softmax_scale, causal, *window_size, float(softcap))
    return (out, sums, None) if return_attn_probs else out


def flash_attn_qkvpacked_func(qkv: Tensor, *options: Any, **named: Any) -> Any:
    """qkv [B, L, 3, N, C]."""
    q, k, v = qkv.unbind(dim=2)
    return flash_attn_func(q, k, v, *options, **named)


def flash_attn_kvpacked_func(q: Tensor, kv: Tensor, *options: Any, **named: Any) -> Any:
    """kv [B, S, 2, G, C]."""
    k, v = kv.unbind(dim=2)
    return flash_attn_func(q, k, v, *options, **named)


def flash_attn_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    block_table: Tensor | None = None,
) -> Any:
    """q [T, N, C], k and v [T', G, C], sequences one after the other, to [T, N, C]."""
    if alibi_slopes is not None or block_table is not None:
        raise NotImplementedError("the stand-in for flash_attn_varlen_func has neither ALiBi nor paged keys")
    queries, keys = lengths_of(cu_seqlens_q, q.shape[0]), lengths_of(cu_seqlens_k, k.shape[0])
    out, sums = packed_attention(q, k, v, queries, keys, softmax_scale, causal, *window_size, float(softcap))
    return (out, sums, None) if return_attn_probs else out


def flash_attn_varlen_qkvpacked_func(
    qkv: Tensor, cu_seqlens: Tensor, max_seqlen: int, *options: Any, **named: Any
) -> Any:
    """qkv [T, 3, N, C]."""
    q, k, v = qkv.unbind(dim=1)
    return flash_attn_varlen_func(q, k, v, cu_seqlens, cu_seqlens, max_seqlen, max_seqlen, *options, **named)


def flash_attn_varlen_kvpacked_func(
    q: Tensor,
    kv: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    *options: Any,
    **named: Any,
) -> Any:
    """kv [T', 2, G, C]."""
    k, v = kv.unbind(dim=1)
    lengths = cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k
    return flash_attn_varlen_func(q, k, v, *lengths, *options, **named)


def apply_rotary_emb(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    interleaved: bool = False,
    inplace: bool = False,
    seqlen_offsets: int | Tensor = 0,
    cu_seqlens: Tensor | None = None,
    max_seqlen: int | None = None,
) -> Tensor:
    """x [B, L, N, C], or [T, N, C] with ``cu_seqlens``; cos and sin [positions, C / 2]."""
    start = 0 if isinstance(seqlen_offsets, Tensor) else seqlen_offsets
    lengths = [] if cu_seqlens is None else lengths_of(cu_seqlens, x.shape[0])
    turned: Tensor = rotary(x, cos[start:], sin[start:], interleaved, lengths)
    return x.copy_(turned) if inplace else turned


def layer_norm_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None = None,
    eps: float = 1e-6,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    is_rms_norm: bool = False,
    **_: Any,
) -> Any:
    """The norm of ``x + residual``; with ``prenorm`` also that sum."""
    wide = residual_in_fp32 or (residual is not None and residual.dtype == torch.float32 != x.dtype)
    out, total = norm(x, residual, weight, bias, eps, is_rms_norm, wide)
    if not prenorm:
        return out
    return out, x if residual is None and not wide else total


def rms_norm_fn(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None = None, **named: Any) -> Any:
    """``layer_norm_fn`` without the mean."""
    return layer_norm_fn(x, weight, bias, residual, is_rms_norm=True, **named)


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """x [..., D], weight [D]."""
    out: Tensor = norm(x, None, weight, None, epsilon, True, False)[0]
    return out


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """x [..., D], weight and bias [D]."""
    out: Tensor = norm(x, None, weight, bias, epsilon, False, False)[0]
    return out


class RMSNorm(nn.Module):
    """The fused RMS norm as a module."""

    def __init__(self, hidden_size: int, eps: float = 1e-5, device: Any = None, dtype: Any = None, **_: Any) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, device=device, dtype=dtype))
        self.register_parameter("bias", None)

    def forward(self, x: Tensor, residual: Tensor | None = None, **named: Any) -> Any:
        return rms_norm_fn(x, self.weight, None, residual, eps=self.eps, **named)


def index_first_axis(x: Tensor, indices: Tensor) -> Tensor:
    """Rows of x [T, ...]."""
    return x[indices]


def unpad_input(hidden_states: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """The rows of x [B, L, ...] that the mask [B, L] keeps, their indices, cumulative lengths, and the longest."""
    lengths = attention_mask.sum(dim=-1, dtype=torch.int32)
    indices = torch.nonzero(attention_mask.flatten(), as_tuple=False).flatten()
    ends = nn.functional.pad(torch.cumsum(lengths, dim=0, dtype=torch.int32), (1, 0))
    return hidden_states.flatten(0, 1)[indices], indices, ends, int(lengths.max().item())


def pad_input(hidden_states: Tensor, indices: Tensor, batch: int, seqlen: int) -> Tensor:
    """Rows [T, ...] back at their places in zeros [B, L, ...]."""
    padded = hidden_states.new_zeros(batch * seqlen, *hidden_states.shape[1:])
    padded[indices] = hidden_states
    return padded.unflatten(0, (batch, seqlen))


_FUNCTIONS = {
    function.__name__: function
    for function in (
        flash_attn_func,
        flash_attn_qkvpacked_func,
        flash_attn_kvpacked_func,
        flash_attn_varlen_func,
        flash_attn_varlen_qkvpacked_func,
        flash_attn_varlen_kvpacked_func,
    )
}

TRITON_NORMS = {"RMSNorm": RMSNorm, "layer_norm_fn": layer_norm_fn, "rms_norm_fn": rms_norm_fn}

MODULES: dict[str, dict[str, Any]] = {
    "flash_attn": {"__version__": VERSION, **_FUNCTIONS},
    "flash_attn.flash_attn_interface": _FUNCTIONS,
    "flash_attn.bert_padding": {
        "index_first_axis": index_first_axis,
        "pad_input": pad_input,
        "unpad_input": unpad_input,
    },
    "flash_attn.layers": {},
    "flash_attn.layers.rotary": {"apply_rotary_emb": apply_rotary_emb, "apply_rotary_emb_func": apply_rotary_emb},
    "flash_attn.ops": {},
    "flash_attn.ops.layer_norm": {"layer_norm": layer_norm},
    "flash_attn.ops.rms_norm": {"RMSNorm": RMSNorm, "rms_norm": rms_norm},
    "flash_attn.ops.triton": {},
    "flash_attn.ops.triton.layer_norm": TRITON_NORMS,
}
"""Module name to what is in it."""
