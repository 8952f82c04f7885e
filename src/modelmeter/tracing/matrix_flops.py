"""Matrix FLOPs of every dispatched operator that multiplies matrices, from shapes alone.

One multiply-add is 2 FLOPs. Padding taps of a convolution count, a causal mask does not halve
attention: that is what the dense arithmetic of the published kernels does. torch's own registry
(``torch.utils.flop_counter``) lacks several of these operators, which then count as zero.

Each function takes the operator's own arguments and its output and returns an exact integer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor

MatrixFlops = Callable[..., int]
_F = TypeVar("_F", bound=MatrixFlops)

MATRIX_FLOPS: dict[str, MatrixFlops] = {}
"""Operator name without overload (``aten.mm``) to its formula."""


def matrix_flops(*operators: str) -> Callable[[_F], _F]:
    """Register a formula; a second one for the same operator is refused."""

    def register(formula: _F) -> _F:
        for operator in operators:
            if operator in MATRIX_FLOPS:
                raise ValueError(f"{operator} has a FLOP formula already")
            MATRIX_FLOPS[operator] = formula
        return formula

    return register


def product_flops(rows: int, inner: int, columns: int, batch: int = 1) -> int:
    """[rows, inner] x [inner, columns], ``batch`` times."""
    return 2 * batch * rows * inner * columns


def attention_flops(batch_heads: int, queries: int, keys: int, qk_size: int, v_size: int) -> int:
    """Scores q·k and their product with v, for all heads of all sequences."""
    return 2 * batch_heads * queries * keys * (qk_size + v_size)


@matrix_flops("aten.mm", "aten._int_mm", "aten._scaled_mm", "aten._scaled_mm_v2")
def _mm(a: Tensor, b: Tensor, *_: Any, out: Any, **__: Any) -> int:
    return product_flops(a.shape[0], a.shape[1], b.shape[1])


@matrix_flops("aten.addmm", "aten._addmm_activation")
def _addmm(_: Tensor, a: Tensor, b: Tensor, *__: Any, out: Any, **___: Any) -> int:
    return product_flops(a.shape[0], a.shape[1], b.shape[1])


@matrix_flops("aten.bmm")
def _bmm(a: Tensor, b: Tensor, *_: Any, out: Any, **__: Any) -> int:
    return product_flops(a.shape[1], a.shape[2], b.shape[2], a.shape[0])


@matrix_flops("aten.baddbmm", "aten.addbmm")
def _baddbmm(_: Tensor, a: Tensor, b: Tensor, *__: Any, out: Any, **___: Any) -> int:
    return product_flops(a.shape[1], a.shape[2], b.shape[2], a.shape[0])


@matrix_flops("aten.mv")
def _mv(a: Tensor, b: Tensor, *_: Any, out: Any, **__: Any) -> int:
    return product_flops(a.shape[0], a.shape[1], 1)


@matrix_flops("aten.addmv")
def _addmv(_: Tensor, a: Tensor, b: Tensor, *__: Any, out: Any, **___: Any) -> int:
    return product_flops(a.shape[0], a.shape[1], 1)


@matrix_flops("aten.dot", "aten.vdot")
def _dot(a: Tensor, b: Tensor, *_: Any, out: Any, **__: Any) -> int:
    return product_flops(1, a.shape[0], 1)


@matrix_flops("aten._foreach_mm")
def _foreach_mm(a: Sequence[Tensor], b: Sequence[Tensor], *_: Any, out: Any, **__: Any) -> int:
    return sum(_mm(left, right, out=None) for left, right in zip(a, b, strict=True))


@matrix_flops(
    "aten._weight_int8pack_mm",
    "aten._weight_int4pack_mm",
    "aten._weight_int4pack_mm_for_cpu",
    "aten._weight_int4pack_mm_with_scales_and_zeros",
)
def _packed_weight_mm(a: Tensor, *_: Any, out: Tensor, **__: Any) -> int:
    """Integer weights are packed in blocks, so the columns are read off the result."""
    return product_flops(a.shape[0], a.shape[1], out.shape[1])


@matrix_flops("aten.linear", "aten.mkldnn_linear")
def _linear(x: Tensor, weight: Tensor, *_: Any, out: Any, **__: Any) -> int:
    return product_flops(math.prod(x.shape[:-1]), x.shape[-1], weight.shape[0])


@matrix_flops("aten._grouped_mm", "aten._scaled_grouped_mm", "aten._scaled_grouped_mm_v2")
def _grouped_mm(a: Tensor, b: Tensor, *_: Any, out: Any, **__: Any) -> int:
    """Ragged products: the groups divide the rows (2-d x 3-d), the columns (3-d x 2-d) or the inner axis (2-d x 2-d).

    Each row (or column, or inner index) belongs to one group, so the groups' sizes drop out.
    """
    if a.dim() == 3 and b.dim() == 3:
        return product_flops(a.shape[1], a.shape[2], b.shape[2], a.shape[0])
    return product_flops(a.shape[-2], a.shape[-1], b.shape[-1])


@matrix_flops("aten.convolution", "aten._convolution", "aten.convolution_overrideable")
def _convolution(x: Tensor, weight: Tensor, *arguments: Any, out: Tensor, **__: Any) -> int:
    """Which way it goes is said after bias, stride, padding and dilation."""
    return _transposed_conv(x, weight, out=out) if arguments[4] else _forward_conv(x, weight, out=out)


@matrix_flops(
    "aten.cudnn_convolution",
    "aten.cudnn_convolution_relu",
    "aten.cudnn_convolution_add_relu",
    "aten.miopen_convolution",
    "aten.miopen_convolution_relu",
    "aten.miopen_convolution_add_relu",
    "aten.miopen_depthwise_convolution",
    "aten.mkldnn_convolution",
    "aten._conv_depthwise2d",
    "aten.conv_depthwise3d",
    "aten._slow_conv2d_forward",
    "aten.slow_conv3d_forward",
    "aten.slow_conv_dilated2d",
    "aten.slow_conv_dilated3d",
)
def _forward_conv(x: Tensor, weight: Tensor, *_: Any, out: Tensor, **__: Any) -> int:
    """Weight [outputs, inputs / groups, taps...]: every output position meets every weight once."""
    return 2 * x.shape[0] * math.prod(out.shape[2:]) * math.prod(weight.shape)


@matrix_flops(
    "aten.cudnn_convolution_transpose",
    "aten.miopen_convolution_transpose",
    "aten.slow_conv_transpose2d",
    "aten.slow_conv_transpose3d",
)
def _transposed_conv(x: Tensor, weight: Tensor, *_: Any, out: Tensor, **__: Any) -> int:
    """Weight [inputs, outputs / groups, taps...]: every input position meets every weight once."""
    return 2 * x.shape[0] * math.prod(x.shape[2:]) * math.prod(weight.shape)


@matrix_flops("aten.conv_tbc")
def _conv_tbc(x: Tensor, weight: Tensor, *_: Any, out: Tensor, **__: Any) -> int:
    """Layout [time, batch, channels], weight [taps, inputs, outputs]."""
    return 2 * out.shape[0] * out.shape[1] * math.prod(weight.shape)


def _heads_first(q: Tensor, k: Tensor, v: Tensor) -> int:
    """q [..., L, C], k [..., S, C], v [..., S, V]; grouped key-value heads are read by several queries."""
    return attention_flops(math.prod(q.shape[:-2]), q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1])


@matrix_flops(
    "aten.scaled_dot_product_attention",
    "aten._scaled_dot_product_flash_attention",
    "aten._scaled_dot_product_flash_attention_for_cpu",
    "aten._scaled_dot_product_efficient_attention",
    "aten._scaled_dot_product_cudnn_attention",
    "aten._scaled_dot_product_fused_attention_overrideable",
    "aten._scaled_dot_product_attention_math",
    "aten._scaled_dot_product_attention_math_for_mps",
)
def _sdpa(q: Tensor, k: Tensor, v: Tensor, *_: Any, out: Any, **__: Any) -> int:
    return _heads_first(q, k, v)


@matrix_flops("aten._flash_attention_forward", "aten._efficient_attention_forward", "aten._cudnn_attention_forward")
def _raw_attention(q: Tensor, k: Tensor, v: Tensor, *arguments: Any, out: Any, **keywords: Any) -> int:
    """Layout [B, L, N, C], or [tokens, N, C] with cumulative lengths, whose sequences are then summed."""
    if q.dim() == 3:
        ends = [a for a in arguments[:3] if hasattr(a, "tolist")][:2]
        lengths = [_differences(end) for end in ends] or [[q.shape[0]], [k.shape[0]]]
        pairs = zip(lengths[0], lengths[-1], strict=True)
        return sum(attention_flops(q.shape[1], a, b, q.shape[2], v.shape[2]) for a, b in pairs)
    batch_heads = q.shape[0] * q.shape[2]
    return attention_flops(batch_heads, q.shape[1], k.shape[1], q.shape[3], v.shape[3])


def _differences(ends: Any) -> list[int]:
    values: Sequence[int] = ends.tolist()
    return [b - a for a, b in itertools.pairwise(values)]


@matrix_flops("aten._native_multi_head_attention")
def _multi_head(q: Tensor, k: Tensor, v: Tensor, width: int, heads: int, *_: Any, out: Any, **__: Any) -> int:
    """The fast path of nn.MultiheadAttention: projections of q, k, v, attention, output projection."""
    batch, length, size = q.shape
    keys = k.shape[1]
    projections = product_flops(length, size, width, batch) * 2 + product_flops(keys, size, width, batch) * 2
    return projections + attention_flops(batch * heads, length, keys, width // heads, width // heads)


@matrix_flops("aten._transformer_encoder_layer_fwd")
def _encoder_layer(x: Tensor, width: int, heads: int, *arguments: Any, out: Any, **__: Any) -> int:
    """The fast path of nn.TransformerEncoderLayer: attention as above, and a feed-forward part.

    Its first weight [hidden, width] comes after attention's four, three switches and the norms' four.
    """
    batch, length, size = x.shape
    feed_forward: Tensor = arguments[11]
    return _multi_head(x, x, x, width, heads, out=out) + 2 * product_flops(length, size, feed_forward.shape[0], batch)


@matrix_flops("aten.mkldnn_rnn_layer")
def _rnn_layer(x: Tensor, w_input: Tensor, w_hidden: Tensor, *_: Any, out: Any, **__: Any) -> int:
    """One direction of one layer: every step multiplies the input and the state by their weights."""
    steps = x.shape[0] * x.shape[1]
    return 2 * steps * (math.prod(w_input.shape) + math.prod(w_hidden.shape))


@matrix_flops("aten.lstm", "aten.gru", "aten.rnn_tanh", "aten.rnn_relu")
def _rnn(x: Any, *arguments: Any, out: Any, **__: Any) -> int:
    """All layers and directions: every two-dimensional weight meets every step once."""
    lists = [a for a in arguments if isinstance(a, (list, tuple))]
    weights = [w for group in lists for w in group if getattr(w, "dim", int)() == 2]
    steps = math.prod(x.shape[:-1])
    return sum(2 * steps * math.prod(w.shape) for w in weights)


@matrix_flops("aten._cdist_forward", "aten._euclidean_dist")
def _cdist(a: Tensor, b: Tensor, *_: Any, out: Any, **__: Any) -> int:
    """Euclidean distances by the expansion |a|² - 2a·b + |b|²: the product a·b."""
    return product_flops(a.shape[-2], a.shape[-1], b.shape[-2], math.prod(a.shape[:-2]))


@matrix_flops("aten.linalg_solve_triangular")
def _solve_triangular(a: Tensor, b: Tensor, *_: Any, out: Tensor, **__: Any) -> int:
    """A [n, n], B [n, k] or [k, n]: substitution takes n·(n-1)/2 multiply-adds and n divisions for each of k."""
    return a.shape[-1] * math.prod(out.shape)


@matrix_flops("aten._trilinear")
def _trilinear(
    a: Tensor,
    b: Tensor,
    c: Tensor,
    expand_a: Sequence[int],
    expand_b: Sequence[int],
    expand_c: Sequence[int],
    summed: Sequence[int],
    *_: Any,
    out: Any,
    **__: Any,
) -> int:
    """nn.Bilinear and its gradients: a·b, summed over what c has not, then its product with c.

    Forward: a [R, I], b [O, I, J], c [R, J]. Each gets axes of length 1 where it is expanded.
    """
    shapes = [_expanded(tensor, axes) for tensor, axes in ((a, expand_a), (b, expand_b), (c, expand_c))]
    first = [max(pair) for pair in zip(shapes[0], shapes[1], strict=True)]
    kept = [1 if axis in summed and axis in expand_c else length for axis, length in enumerate(first)]
    return 2 * math.prod(first) + 2 * math.prod(max(pair) for pair in zip(kept, shapes[2], strict=True))


def _expanded(tensor: Tensor, axes: Sequence[int]) -> list[int]:
    """A tensor's shape with axes of length 1 put in."""
    shape = list(tensor.shape)
    for axis in sorted(axes):
        shape.insert(axis, 1)
    return shape
