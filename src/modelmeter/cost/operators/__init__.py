"""Closed forms of single operators: FLOPs, bytes, launches, and what is live meanwhile."""

from modelmeter.cost.operators.angles import angle_table, position_numbers
from modelmeter.cost.operators.attention import eager_attention, flash_attention, relative_attention, softmax
from modelmeter.cost.operators.bands import band_attention, band_mask
from modelmeter.cost.operators.collectives import all_gather, all_reduce, all_to_all
from modelmeter.cost.operators.experts import combine, dispatch, gate
from modelmeter.cost.operators.gates import sigmoid_gate, softmax_gate
from modelmeter.cost.operators.norms import channel_norm, layer_norm, rms_norm
from modelmeter.cost.operators.pointwise import (
    activation,
    add,
    concatenate,
    copy,
    embedding,
    multiply,
    quick_gelu,
    to_float,
)
from modelmeter.cost.operators.positions import relative_table, resize_table, rotary_angles, rotate
from modelmeter.cost.operators.products import batched_product, convolution, linear
from modelmeter.cost.operators.registry import OPERATORS
from modelmeter.cost.operators.sequences import append_to_cache, causal_mask, scatter_features
from modelmeter.cost.operators.shared_weights import shared_linear

__all__ = [
    "OPERATORS",
    "activation",
    "add",
    "all_gather",
    "all_reduce",
    "all_to_all",
    "angle_table",
    "append_to_cache",
    "band_attention",
    "band_mask",
    "batched_product",
    "causal_mask",
    "channel_norm",
    "combine",
    "concatenate",
    "convolution",
    "copy",
    "dispatch",
    "eager_attention",
    "embedding",
    "flash_attention",
    "gate",
    "layer_norm",
    "linear",
    "multiply",
    "position_numbers",
    "quick_gelu",
    "relative_attention",
    "relative_table",
    "resize_table",
    "rms_norm",
    "rotary_angles",
    "rotate",
    "scatter_features",
    "shared_linear",
    "sigmoid_gate",
    "softmax",
    "softmax_gate",
    "to_float",
]
