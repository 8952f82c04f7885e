"""What the operators of a backward compute: matrix FLOPs, vector FLOPs, and which only move data.

The gradient of a product is a product with each of its two factors, each as large as the product
itself: a linear layer's backward is two products, or one where its input needs no gradient. Those
are dispatched as ``mm`` and ``bmm`` and count as such; here are the operators that do it in one.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from modelmeter.tracing.matrix_flops import attention_flops, matrix_flops, product_flops

_B = "_backward"


@matrix_flops("aten.convolution_backward", "aten.convolution_backward_overrideable")
def _convolution(gradient: Tensor, x: Tensor, weight: Tensor, *arguments: Any, out: Any, **__: Any) -> int:
    """The gradients of the input and of the weight that are asked for, each as much as the forward.

    Every multiply-add of the forward, of one output with one tap, is one of each gradient. So groups
    drop out as they do there (torch's own count does not divide the weight's gradient by them).
    ``arguments`` are sizes of the bias, stride, padding, dilation, transposed, output padding, groups, mask.
    """
    transposed, mask = arguments[4], arguments[7]
    positions = (x if transposed else gradient).shape[2:]
    forward = 2 * x.shape[0] * positions.numel() * weight.shape.numel()
    return forward * (int(mask[0]) + int(mask[1]))


@matrix_flops(
    f"aten._scaled_dot_product_flash_attention{_B}",
    f"aten._scaled_dot_product_flash_attention_for_cpu{_B}",
    f"aten._scaled_dot_product_efficient_attention{_B}",
    f"aten._scaled_dot_product_cudnn_attention{_B}",
    f"aten._scaled_dot_product_fused_attention_overrideable{_B}",
)
def _attention(gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any, out: Any, **__: Any) -> int:
    """Scores once more, then the gradients of v, of the probabilities, of q and of k: five products.

    q [..., L, C], k [..., S, C], v [..., S, V]; scores, dq and dk are over C, dv and the probabilities over V.
    """
    heads, queries, keys = q.shape[:-2].numel(), q.shape[-2], k.shape[-2]
    scores = product_flops(queries, q.shape[-1], keys, heads)
    return scores + 2 * attention_flops(heads, queries, keys, q.shape[-1], v.shape[-1])


@matrix_flops("aten.mkldnn_rnn_layer_backward")
def _rnn_layer(x: Tensor, w_input: Tensor, w_hidden: Tensor, *_: Any, out: Any, **__: Any) -> int:
    """One direction of one layer: gradients of inputs and states, and of both weights, at every step."""
    return 2 * 2 * x.shape[0] * x.shape[1] * (w_input.shape.numel() + w_hidden.shape.numel())


BACKWARD_MOVES = frozenset(
    "aten." + name
    for name in (
        "slice_backward select_backward diagonal_backward unfold_backward value_selecting_reduction_backward "
        "upsample_nearest1d_backward upsample_nearest2d_backward upsample_nearest3d_backward"
    ).split()
)
"""Operators that put gradients in their places among zeros."""

BACKWARD_PER_INPUT: dict[str, int] = {
    "aten.embedding_dense_backward": 1,
    "aten._softmax_backward_data": 4,
    "aten._log_softmax_backward_data": 4,
    "aten.native_layer_norm_backward": 14,
    "aten.native_group_norm_backward": 14,
    "aten.native_batch_norm_backward": 14,
    "aten._fused_rms_norm_backward": 10,
}
"""Vector FLOPs per element of the largest input. Embedding: rows are added to the table's gradient. Softmax p, gradient
g: p·g, its sum, a difference, a product. Norms: normalise again (2), two products summed for scale and shift (3), g
times scale (1), two sums over the features (3), their combination (5). RMS norm: without the mean."""

BACKWARD_PER_OUTPUT: dict[str, int] = {
    "aten.gelu_backward": 8,
    "aten.silu_backward": 6,
    "aten.sigmoid_backward": 3,
    "aten.tanh_backward": 3,
    "aten.hardswish_backward": 3,
    "aten.upsample_linear1d_backward": 4,
    "aten.upsample_bilinear2d_backward": 8,
    "aten.upsample_bicubic2d_backward": 32,
}
"""Vector FLOPs per element of the input's gradient. Sigmoid y, gradient g: g·y·(1-y). Interpolation: one multiply-add
per tap, as forward. All others count one."""


def vector_flops_inside(name: str, args: Any, softmax_flops: int) -> int | None:
    """Vector FLOPs of what runs within a fused operator of a backward; None for any other operator."""
    if name.startswith("aten.convolution_backward"):
        return args[0].numel() if args[10][2] else 0  # the bias's gradient is a sum
    if name.startswith("aten._scaled_dot_product") and name.endswith(_B):
        q, k = args[1].shape, args[2].shape
        scores = q[:-1].numel() * k[-2]
        return scores * (softmax_flops + BACKWARD_PER_INPUT["aten._softmax_backward_data"])
    return None
