"""Results of operators that torch cannot run on shapes alone, or refuses to for some dtypes.

Axes: B sequences, L queries, S keys, D width, G groups, M rows, N columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from modelmeter.tracing.shape_only import new_shape_only, shape_only_view


def _multi_head(mode: FakeTensorMode, q: Tensor, k: Tensor, v: Tensor, width: int, heads: int, *rest: Any) -> Any:
    """The fast path of nn.MultiheadAttention: [B, L, D], and its weights if they are asked for."""
    need_weights, averaged = (*rest[5:7], True, True)[:2]
    batch, queries, keys = q.shape[0], q.shape[1], k.shape[1]
    out = _contiguous(mode, (batch, queries, width), q.dtype)
    if not need_weights:
        return out, None
    heads_apart = () if averaged else (heads,)
    return out, _contiguous(mode, (batch, *heads_apart, queries, keys), q.dtype)


def _encoder_layer(mode: FakeTensorMode, x: Tensor, *_: Any) -> Tensor:
    """The fast path of nn.TransformerEncoderLayer."""
    return _contiguous(mode, tuple(x.shape), x.dtype)


def _pack(mode: FakeTensorMode, x: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
    """Sequences of known lengths one after the other; the sizes of the batch at each step are real."""
    of_one = torch.empty((*x.shape[:2], 1))
    rows, batch_sizes = torch.ops.aten._pack_padded_sequence(of_one, lengths, batch_first)
    return _contiguous(mode, (rows.shape[0], *x.shape[2:]), x.dtype), batch_sizes


def _grouped(
    mode: FakeTensorMode,
    a: Tensor,
    b: Tensor,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """Ragged products: [M, N] where the groups divide rows or columns, [G, M, N] where neither."""
    groups = () if a.dim() != b.dim() else (a.shape[0] if a.dim() == 3 or offs is None else offs.shape[0],)
    dtype = out_dtype or a.dtype
    shape = (*groups, a.shape[-2], b.shape[-1])
    # CUDA builds of torch align rows to 16 bytes.
    step = 16 // dtype.itemsize if torch.version.cuda else 1
    row = -(-shape[-1] // step) * step
    stride = (shape[-2] * row, row, 1)[-len(shape) :]
    return new_shape_only(mode, shape, stride, dtype)


def _detached(mode: FakeTensorMode, x: Tensor) -> Tensor:
    """The same tensor once more. torch's own holds a weak reference, with which ``module.half()`` refuses it."""
    offset = int(x.storage_offset())
    return shape_only_view(mode, x.untyped_storage(), offset, tuple(x.shape), x.stride(), x.dtype)


def _batch_norm_backward(mode: FakeTensorMode, gradient: Tensor, x: Tensor, weight: Tensor | None, *rest: Any) -> Any:
    """Gradients of input, scale and shift, those that are asked for; torch's shapes come with all of them."""
    of_input, *of_parameters = rest[6]
    dtype = x.dtype if weight is None else weight.dtype
    vectors = [_contiguous(mode, (x.shape[1],), dtype) if asked else None for asked in of_parameters]
    return new_shape_only(mode, tuple(x.shape), x.stride(), x.dtype) if of_input else None, *vectors


FAST_PATHS: dict[str, Callable[..., Any]] = {
    "aten._native_multi_head_attention": _multi_head,
    "aten._transformer_encoder_layer_fwd": _encoder_layer,
    "aten._pack_padded_sequence": _pack,
    "aten._grouped_mm": _grouped,
    "aten.detach": _detached,
    "aten.native_batch_norm_backward": _batch_norm_backward,
}
"""Operator name to what makes its result: takes the mode and the operator's positional arguments."""


def _contiguous(mode: FakeTensorMode, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    stride, step = [], 1
    for length in reversed(shape):
        stride.append(step)
        step *= max(length, 1)
    return new_shape_only(mode, shape, tuple(reversed(stride)), dtype)
