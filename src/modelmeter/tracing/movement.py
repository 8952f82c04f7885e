"""Bytes that an operation moves and vector FLOPs that it takes, from its arguments and results."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from modelmeter.tracing.operators import PER_OUTPUT_ELEMENT, Operator
from modelmeter.tracing.training_flops import vector_flops_inside

SOFTMAX_FLOPS = PER_OUTPUT_ELEMENT["aten._softmax"]
LAYER_NORM_FLOPS = PER_OUTPUT_ELEMENT["aten.native_layer_norm"]


def vector_flops(operator: Operator, args: Any, inputs: list[Tensor], outputs: list[Tensor]) -> int:
    """Vector FLOPs of one operation, by the table in ``operators``."""
    if operator.vector is not None:
        return operator.vector(*args, out=outputs)
    if operator.matrix is not None:
        return _inside_fused(operator.name, args)
    if operator.per_output and outputs:
        # The first result is the one computed; others (means, indices) come with it. Lists are all results.
        counted = outputs if "_foreach_" in operator.name else outputs[:1]
        return operator.per_output * sum(tensor.numel() for tensor in counted)
    if operator.per_input:
        return operator.per_input * max((tensor.numel() for tensor in inputs), default=0)
    return 0


def _inside_fused(name: str, args: Any) -> int:
    """The softmax inside fused attention, as many FLOPs as one written out, and the norms of a fused layer."""
    of_backward = vector_flops_inside(name, args, SOFTMAX_FLOPS)
    if of_backward is not None:
        return of_backward
    if name == "aten._native_multi_head_attention":
        (batch, queries, _), keys, heads = args[0].shape, args[1].shape[1], args[4]
        return SOFTMAX_FLOPS * batch * heads * queries * keys
    if name == "aten._transformer_encoder_layer_fwd":
        (batch, length, width), heads = args[0].shape, args[2]
        return SOFTMAX_FLOPS * batch * heads * length * length + 2 * LAYER_NORM_FLOPS * batch * length * width
    if "attention" not in name or len(args) < 2 or args[0].dim() != 4:
        return 0
    q, k = args[0].shape, args[1].shape
    if name.startswith("aten._scaled_dot_product") or name == "aten.scaled_dot_product_attention":
        return SOFTMAX_FLOPS * q[0] * q[1] * q[2] * k[2]
    return SOFTMAX_FLOPS * q[0] * q[2] * q[1] * k[1]


def moved_bytes(operator: Operator, inputs: list[Tensor], outputs: list[Tensor]) -> tuple[int, int]:
    """Bytes that one operation reads and writes, each tensor once; a gather reads rows, not its table."""
    written = 0
    for tensor in outputs:
        written += tensor.numel() * tensor.element_size()
    if operator.gathers:
        indices = sum(stored_bytes(tensor) for tensor in inputs[1:] if not tensor.dtype.is_floating_point)
        return written + indices, written
    if operator.scatters and len(inputs) > 1:
        moved = sum(stored_bytes(tensor) for tensor in inputs[1:])
        # A number that is scattered is no tensor: as many elements are written as there are indices.
        scalar = len(inputs) == 2
        rows = inputs[1].numel() * inputs[0].element_size() if scalar else stored_bytes(inputs[-1])
        return moved, rows
    if operator.only_shaped_like:
        return 0, written
    read = 0
    for tensor in inputs[1:] if operator.overwrites else inputs:
        read += stored_bytes(tensor)
    return read, written


def stored_bytes(tensor: Tensor) -> int:
    """Bytes of the distinct elements of a tensor: a broadcast dimension is stored once."""
    size = tensor.element_size()
    if 0 in tensor.stride():
        for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
            size *= 1 if stride == 0 and length else length
        return size
    return tensor.numel() * size
