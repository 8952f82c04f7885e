"""What each dispatched operator is: whether it starts a kernel, what it computes, what it moves.

The lists are data; a test checks them against the operators that torch has.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from attrs import frozen

from modelmeter.tracing.matrix_flops import MATRIX_FLOPS, MatrixFlops
from modelmeter.tracing.stand_ins.registry import STAND_INS
from modelmeter.tracing.training_flops import BACKWARD_MOVES, BACKWARD_PER_INPUT, BACKWARD_PER_OUTPUT

SKIPPED_NAMESPACES = ("prim", "prims_device")
"""Device and layout queries that are dispatched for fake tensors only: no operations at all."""

NO_LAUNCH = frozenset(
    "aten." + name
    for name in (
        "_unsafe_view empty empty_like empty_strided new_empty new_empty_strided empty_permuted detach detach_ alias "
        "lift_fresh lift set_ resize_ _reshape_alias is_pinned sym_size sym_stride sym_numel sym_storage_offset "
        "_has_compatible_shallow_copy_type is_same_size _nested_tensor_size _version record_stream is_set_to "
        "_has_same_storage_numel _fused_sdp_choice _assert_tensor_metadata _linalg_check_errors "
        "_nested_tensor_from_mask_left_aligned"
    ).split()
)
"""Operators that start no kernel although they are no views by their schema (in-place views have a tag)."""

MOVES = frozenset(
    "aten." + name
    for name in (
        "copy_ _to_copy clone cat stack contiguous copy index index_select index_put index_put_ _index_put_impl_ "
        "index_copy index_copy_ index_fill index_fill_ gather scatter scatter_ slice_scatter select_scatter "
        "diagonal_scatter as_strided_scatter embedding masked_fill masked_fill_ masked_scatter masked_scatter_ "
        "masked_select where constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d "
        "replication_pad2d replication_pad3d fill fill_ zero_ zero zeros ones full zeros_like ones_like full_like "
        "new_zeros new_ones new_full scalar_tensor arange linspace eye tril triu tril_ triu_ tril_indices "
        "triu_indices repeat repeat_interleave flip roll sort topk argsort argmax argmin nonzero unique_dim _unique2 "
        "unique_consecutive bincount one_hot searchsorted bucketize _local_scalar_dense item equal take take_along_dim "
        "pixel_shuffle pixel_unshuffle channel_shuffle im2col col2im unfold_copy expand_copy permute_copy view_copy "
        "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact2d native_dropout "
        "bernoulli bernoulli_ normal_ uniform_ rand randn randint randperm rand_like randn_like normal multinomial "
        "random_ exponential_ set_data max_unpool2d real imag view_as_real _pack_padded_sequence "
        "_pad_packed_sequence split_with_sizes_copy unbind_copy _conj_physical complex"
    ).split()
)
"""Operators that only move or make data: no vector FLOPs."""

PER_INPUT_ELEMENT: dict[str, int] = {
    "aten." + name: 1
    for name in (
        "sum mean prod max min amax amin any all cumsum cumprod cumsum_ logsumexp norm linalg_vector_norm nansum "
        "median mode kthvalue logcumsumexp cummax cummin aminmax avg_pool1d avg_pool2d avg_pool3d max_pool2d "
        "max_pool2d_with_indices max_pool3d_with_indices _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d "
        "count_nonzero index_add index_add_ scatter_add scatter_add_ scatter_reduce scatter_reduce_ index_reduce "
        "histc nll_loss_forward nll_loss2d_forward"
    ).split()
} | {"aten.var": 3, "aten.std": 3, "aten.var_mean": 3, "aten.std_mean": 3, **BACKWARD_PER_INPUT}
"""Reductions: operations per element of the largest input. Variance: subtract, square, add."""

PER_OUTPUT_ELEMENT: dict[str, int] = {
    "aten._softmax": 5,
    "aten._log_softmax": 5,
    "aten._safe_softmax": 5,
    "aten.native_layer_norm": 8,
    "aten.native_group_norm": 8,
    "aten.rms_norm": 5,
    "aten._fused_rms_norm": 5,
    "aten.native_batch_norm": 8,
    "aten._native_batch_norm_legit": 8,
    "aten._native_batch_norm_legit_no_training": 4,
    "aten.addcmul": 3,
    "aten.addcdiv": 3,
    "aten.lerp": 3,
    "aten.upsample_linear1d": 4,
    "aten.upsample_bilinear2d": 8,
    "aten._upsample_bilinear2d_aa": 8,
    "aten.upsample_trilinear3d": 16,
    "aten.upsample_bicubic2d": 32,
    "aten._upsample_bicubic2d_aa": 32,
    "aten.grid_sampler_2d": 8,
    **BACKWARD_PER_OUTPUT,
}
"""Fused vector operators: operations per output element. Softmax: maximum, subtract, exp, add, divide.
Layer norm: two for the mean and its use, three for the variance, one to scale, two for the affine part.
Interpolation: one multiply-add per tap without antialiasing's wider support. All others count one."""

GATHERS = frozenset("aten." + name for name in "embedding index index_select gather take take_along_dim".split())
"""Operators that read rows, not their whole first input."""

SCATTERS = frozenset(
    "aten." + name for name in "index_put_ index_copy_ scatter_ scatter_add_ index_add_ _index_put_impl_".split()
)
"""In-place operators that write rows, not their whole first input."""

OVERWRITES = frozenset(
    "aten." + name for name in "copy_ fill_ zero_ normal_ uniform_ random_ bernoulli_ exponential_".split()
)
"""In-place operators that do not read what they write."""

ONLY_SHAPED_LIKE = frozenset(
    "aten." + name
    for name in (
        "zeros_like ones_like full_like rand_like randn_like randint_like new_zeros new_ones new_full new_empty"
    ).split()
)
"""Operators that take a tensor for its shape alone and do not read it."""

_MATRIX_WORDS = re.compile(
    r"mm(?![a-z])|matmul|conv(?!ert)|attention|lstm|gru(?![a-z])|rnn|linear(?![a-z0-9])|bilinear(?![a-z0-9])|"
    r"\bfft|_fft|linalg_(?!vector_norm|check)|cholesky|einsum|multi_head|encoder_layer|quantized|svd|_mkl|"
    r"geqrf|ormqr|spsolve|(triangular|lu)_solve|matrix_exp|cdist"
)


@frozen
class Operator:
    """What is known of one operator overload."""

    name: str
    skipped: bool
    is_view: bool
    launches: bool
    matrix: MatrixFlops | None
    unknown: bool
    per_input: int
    per_output: int
    gathers: bool
    scatters: bool
    overwrites: bool
    only_shaped_like: bool
    in_place: bool
    vector: MatrixFlops | None = None
    """Vector FLOPs from arguments and result, where a number for each element does not say them."""
    stands_for: str = ""
    """Of a stand-in for a kernel that is not there: which kernel."""


def describe_operator(func: Any) -> Operator:
    """Classify an operator overload by name and schema."""
    namespace = func.namespace
    name = f"{namespace}.{func._schema.name.split('::')[1]}"
    computes = name if name in MOVES or name in PER_INPUT_ELEMENT else name.removesuffix("_")  # add_ is add
    stand_in = STAND_INS.get(name)
    matrix = MATRIX_FLOPS.get(computes) if stand_in is None else stand_in.matrix
    # A result that shares its input's storage, although the schema does not say so.
    is_view = bool(func.is_view) or name == "aten._unsafe_view"
    no_launch = is_view or name in NO_LAUNCH or torch.Tag.inplace_view in func.tags
    moves = no_launch or computes in MOVES or computes in BACKWARD_MOVES
    foreign = namespace not in ("aten", "prims")
    unknown = matrix is None and stand_in is None and not moves and (foreign or bool(_MATRIX_WORDS.search(name)))
    per_input = PER_INPUT_ELEMENT.get(computes, 0)
    per_output = 0 if moves or per_input or matrix is not None or unknown else PER_OUTPUT_ELEMENT.get(computes, 1)
    mutates = any(a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments)
    return Operator(
        name=name,
        skipped=namespace in SKIPPED_NAMESPACES or name.startswith("aten.sym_"),
        is_view=is_view,
        launches=not no_launch,
        matrix=matrix,
        unknown=unknown,
        per_input=per_input,
        per_output=per_output,
        gathers=name in GATHERS,
        scatters=name in SCATTERS,
        overwrites=name in OVERWRITES,
        only_shaped_like=name in ONLY_SHAPED_LIKE,
        in_place=mutates,
        vector=None if stand_in is None else stand_in.vector,
        stands_for="" if stand_in is None else stand_in.stands_for,
    )
