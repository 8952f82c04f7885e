"""Norms: over the last axis, over channels, and by the root mean square."""

from __future__ import annotations

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.operators.registry import operator
from modelmeter.cost.precision import WIDE_BYTES, Precision
from modelmeter.cost.tape import Read, Tape, Tensor

LAYER_NORM_FLOPS = 8
"""An element: two for the mean and its use, three for the variance, one to scale, two for weight and bias."""


@operator
def layer_norm(tape: Tape, x: Read, rows: Number, width: Number, precision: Precision) -> Tensor:
    """(x - mean) / sqrt(var + eps) * w + b over the last axis: 8 FLOPs an element.

    x [rows, width]. The kernel also writes each row's mean and reciprocal deviation, which nobody reads.
    Source: Ba, Kiros and Hinton, Layer Normalization (2016); ``torch.native_layer_norm``.
    """
    weight = tape.weight("weight", width, precision.weight_bytes)
    bias = tape.weight("bias", width, precision.weight_bytes)
    elements = rows * width
    with tape.operator("layer_norm"):
        return tape.kernel(
            [x, weight, bias],
            elements * precision.activation_bytes,
            discards=2 * rows * precision.activation_bytes,
            vector_flops=LAYER_NORM_FLOPS * elements,
            keep=True,
        )


@operator
def channel_norm(tape: Tape, x: Tensor, rows: Number, channels: Number, precision: Precision) -> Tensor:
    """Layer norm over the channels of a map, written out: 8 FLOPs an element and 2 a position.

    x [batch, channels, height, width] with rows = batch * height * width positions: subtract the mean,
    square, take the mean again, add epsilon and take the root (these two a position), divide, multiply, add.
    Source: Kirillov et al., Segment Anything (2023), ``LayerNorm2d``.
    """
    weight = tape.weight("weight", channels, precision.weight_bytes)
    bias = tape.weight("bias", channels, precision.weight_bytes)
    elements = rows * channels
    whole, one_each = elements * precision.activation_bytes, rows * precision.activation_bytes
    with tape.operator("channel_norm"):
        mean = tape.kernel([x], one_each, vector_flops=elements)
        centred = tape.kernel([x, mean], whole, vector_flops=elements)
        tape.free(mean)
        squares = tape.kernel([centred], whole, vector_flops=elements)
        variance = tape.kernel([squares], one_each, vector_flops=elements)
        tape.free(squares)
        shifted = tape.kernel([variance], one_each, vector_flops=rows)
        deviation = tape.kernel([shifted], one_each, vector_flops=rows)
        tape.free(shifted)
        normal = tape.kernel([centred, deviation], whole, vector_flops=elements)
        tape.free(deviation)
        scaled = tape.kernel([weight, normal], whole, vector_flops=elements)
        return tape.kernel([scaled, bias], whole, vector_flops=elements, keep=True)


@operator
def rms_norm(tape: Tape, x: Tensor, rows: Number, width: Number, precision: Precision) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * w, in float32: 4 FLOPs an element and 2 a row.

    x [rows, width]: square, mean, scale and multiply by the weight; add epsilon and take the root.
    Source: Zhang and Sennrich, Root Mean Square Layer Normalization (2019).
    """
    weight = tape.weight("weight", width, precision.weight_bytes)
    elements = rows * width
    wide_bytes, narrow_bytes = elements * WIDE_BYTES, elements * precision.activation_bytes
    with tape.operator("rms_norm"):
        wide = tape.kernel([x], wide_bytes) if precision.widens else x
        squares = tape.kernel([wide], wide_bytes, vector_flops=elements)
        mean = tape.kernel([squares], rows * WIDE_BYTES, vector_flops=elements)
        tape.free(squares)
        shifted = tape.kernel([mean], rows * WIDE_BYTES, vector_flops=rows)
        tape.free(mean)
        scale = tape.kernel([shifted], rows * WIDE_BYTES, vector_flops=rows)
        tape.free(shifted)
        normal = tape.kernel([wide, scale], wide_bytes, vector_flops=elements)
        if precision.widens:
            narrow = tape.kernel([normal], narrow_bytes)
            tape.free(normal)
            normal = narrow
        return tape.kernel([weight, normal], narrow_bytes, vector_flops=elements, keep=True)
