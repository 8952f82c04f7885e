"""The category of a traced operator: by what it is where that is plain, else by the class that runs it.

A product is a product anywhere; a multiplication is a norm's in a norm and a gate's in an MLP.
"""

from __future__ import annotations

from modelmeter.contracts.operator_classes import OTHER, category_of_class

_BY_OPERATOR: dict[str, str] = {
    name: category
    for category, names in {
        "linear": "mm addmm linear mv addmv _grouped_mm _scaled_mm _int_mm addbmm _transformer_encoder_layer_fwd",
        "convolution": "convolution _convolution conv1d conv2d conv3d",
        "norm": (
            "native_layer_norm native_group_norm rms_norm _fused_rms_norm native_batch_norm "
            "_native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm batch_norm"
        ),
        "activation": (
            "silu silu_ gelu gelu_ relu relu_ sigmoid sigmoid_ tanh tanh_ hardswish hardswish_ hardtanh hardtanh_ "
            "leaky_relu leaky_relu_ elu elu_ softplus mish mish_ glu _prelu_kernel hardsigmoid erf"
        ),
        "embedding": "embedding _embedding_bag embedding_bag",
        "routing": "topk bincount",
    }.items()
    for name in names.split()
}
"""Operators that are of one category whoever runs them, but for a router, which keeps its own."""

_IN_ATTENTION = frozenset("bmm baddbmm _softmax _safe_softmax dot".split())
"""Products of two activations, and softmax: attention's, but for positions and routers."""

_ELSEWHERE: dict[str, str] = {
    name: category
    for category, names in {
        "residual": "add add_ sub sub_",
        "positions": "cos sin arange tril triu outer polar",
        "activation": "mul mul_ exp pow neg clamp div log",
        "data movement": (
            "_to_copy copy_ clone cat stack index select_scatter slice_scatter index_select gather scatter "
            "masked_fill masked_fill_ masked_scatter where constant_pad_nd repeat roll flip zeros ones full zeros_like "
            "index_put_ contiguous fill_ upsample_bilinear2d upsample_bicubic2d upsample_nearest2d index_add_ "
            "max_pool2d_with_indices avg_pool2d mean _adaptive_avg_pool2d"
        ),
    }.items()
    for name in names.split()
}
"""What is left, where the class says nothing."""


def traced_category(operator: str, class_name: str) -> str:
    """The category of an operator by torch's name, run by a module of a class; ``other`` where nothing says."""
    name = operator.removeprefix("aten.")
    of_class = category_of_class(class_name).replace("_", " ")
    if of_class == "routing":
        return of_class
    if name in _BY_OPERATOR:
        return _BY_OPERATOR[name]
    if "attention" in name:
        return "attention"
    if name in _IN_ATTENTION:
        return of_class if of_class in ("positions", "norm") else "attention"
    return of_class if of_class != OTHER else _ELSEWHERE.get(name, OTHER)
