"""CLIP-L's tower in closed form, over SAM's features.

Axes: B views, T tokens (the class token and the grid), D width, N heads, C channels of a head.
Source: Radford et al., Learning Transferable Visual Models (2021).
"""

from __future__ import annotations

from modelmeter.cost.arithmetic import Number, differs, less
from modelmeter.cost.layers.parallel import ALONE, Parallel, add_up
from modelmeter.cost.operators import (
    add,
    concatenate,
    copy,
    eager_attention,
    embedding,
    flash_attention,
    layer_norm,
    linear,
    quick_gelu,
    resize_table,
)
from modelmeter.cost.operators.positions import BICUBIC_FLOPS
from modelmeter.cost.precision import INDEX_BYTES, Precision
from modelmeter.cost.tape import Part, Tape, Tensor
from modelmeter.families.deepseek_ocr.config import ClipConfig
from modelmeter.families.deepseek_ocr.costs.parallel import clip_parallel
from modelmeter.patterns import one_of

COLOURS = 3


def clip_tower(
    tape: Tape,
    features: Tensor,
    views: Number,
    side: Number,
    config: ClipConfig,
    kind: str,
    precision: Precision,
    parallel: Parallel = ALONE,
) -> Tensor:
    """Features [B, D, side, side] to tokens [B, 1 + side^2, D]. Devices share heads and MLPs where these divide."""
    width, shared = config.width, clip_parallel(config, parallel)
    tokens = 1 + side * side
    rows = views * tokens
    with tape.module("vision_model", "VitModel", stage="vision", image_size=config.image_size):
        embedded = _embeddings(tape, features, views, side, config, precision)
        with tape.module("pre_layrnorm", "LayerNorm", hidden_size=width):
            normal = layer_norm(tape, embedded, rows, width, precision)
            tape.returns(normal)
        tape.free(embedded)
        with tape.module("transformer", "NoTPTransformer"):
            # The stack's input stays live, as the call's argument; with one layer it is that layer's own.
            layers = one_of(str(index) for index in range(config.layers))
            x = tape.given(normal.bytes) if config.layers > 1 else normal
            with tape.repeated(config.layers):
                with tape.module(f"layers.{layers}", "NoTPTransformerBlock", members=config.layers, series=True):
                    result = _block(tape, x, views, tokens, config, kind, precision, shared)
            tape.free(x)
            tape.returns(result)
        tape.free(normal)
        tape.returns(result)
    return result


def _embeddings(
    tape: Tape, features: Tensor, views: Number, side: Number, config: ClipConfig, precision: Precision
) -> Tensor:
    """Class token and features with the position table, resized where the grid has another size."""
    width, size = config.width, precision.activation_bytes
    own = config.image_size // config.patch_size
    grid = side * side
    elements = views * (1 + grid) * width
    with tape.module("embeddings", "CLIPVisionEmbeddings"):
        with tape.never_called("patch_embedding", "Conv2d", kernel_size=config.patch_size, stride=config.patch_size):
            tape.weight("weight", COLOURS * width * config.patch_size * config.patch_size, precision.weight_bytes)
        class_token = tape.weight("class_embedding", width, precision.weight_bytes)
        patches = Part(features, views * grid * width * size)
        tokens = concatenate(tape, [class_token, patches], elements * size)
        entries = own * own + 1
        with tape.module("position_embedding", "Embedding", num_embeddings=entries, embedding_dim=width):
            ids = Tensor(entries * INDEX_BYTES)
            table = embedding(tape, ids, entries, entries, width, precision)
            tape.returns(table)
        resizes = differs(own, side)
        resized, wide = resize_table(tape, table, own * own, grid, width, BICUBIC_FLOPS, precision, present=resizes)
        tape.free(wide)
        joined_bytes = (1 + grid) * width * precision.weight_bytes
        joined = concatenate(
            tape,
            [Part(table, width * precision.weight_bytes * resizes), resized],
            joined_bytes * resizes,
            present=resizes,
        )
        tape.free(resized)
        # The table itself is freed where a resized one has taken its place.
        tape.free(table)
        kept = tape.hold(Tensor(joined_bytes * (1 - resizes)))
        result = add(tape, tokens, Part(kept, joined_bytes), elements, size)
        tape.free(tokens, joined, kept)
        tape.returns(result)
    return result


def _block(
    tape: Tape,
    x: Tensor,
    views: Number,
    tokens: Number,
    config: ClipConfig,
    kind: str,
    precision: Precision,
    parallel: Parallel,
) -> Tensor:
    """x + attention(norm(x)), then that + mlp(norm(that))."""
    width, size = config.width, precision.activation_bytes
    rows = views * tokens
    elements = rows * width
    with tape.module("layer_norm1", "LayerNorm", hidden_size=width):
        normal = layer_norm(tape, x, rows, width, precision)
        tape.returns(normal)
    with tape.module("self_attn", "NoTPAttention", num_heads=config.heads // parallel.tensor):
        mixed = _attention(tape, normal, views, tokens, config, kind, precision, parallel)
    tape.free(normal)
    middle = add(tape, x, mixed, elements, size)
    tape.free(mixed)
    with tape.module("layer_norm2", "LayerNorm", hidden_size=width):
        again = layer_norm(tape, middle, rows, width, precision)
        tape.returns(again)
    fed = _mlp(tape, again, rows, config, precision, parallel)
    tape.free(again)
    result = add(tape, middle, fed, elements, size)
    tape.free(fed, middle)
    tape.returns(result)
    return result


def _attention(
    tape: Tape,
    x: Tensor,
    views: Number,
    tokens: Number,
    config: ClipConfig,
    kind: str,
    precision: Precision,
    parallel: Parallel = ALONE,
) -> Tensor:
    """Multi-head attention without a mask."""
    width, heads, size = config.width, config.heads // parallel.tensor, precision.activation_bytes
    inner, rows = width // parallel.tensor, views * tokens
    with tape.module("qkv_proj", "Linear", in_features=width, out_features=3 * inner):
        qkv = linear(tape, x, rows, width, 3 * inner, precision, bias=True)
        tape.returns(qkv)
    q, k, v = (Part(qkv, rows * inner * size) for _ in range(3))
    sizes = {"batch": views, "heads": heads, "queries": tokens, "keys": tokens, "head_dim": inner // heads}
    joined = Tensor(0)
    if kind == "sdpa":
        out = flash_attention(tape, q, k, v, None, **sizes, precision=precision)
    else:
        splits = less(1, views) if heads > 1 else 0
        out = eager_attention(
            tape, q, k, v, None, **sizes, precision=precision, copies_queries=splits, copies_keys=splits
        )
        if heads > 1:
            joined = copy(tape, out, rows * inner * size)
    with tape.module("out_proj", "Linear", in_features=inner, out_features=width):
        result = linear(tape, out, rows, inner, width, precision, bias=True)
        tape.returns(result)
    add_up(tape, result, precision, parallel)
    tape.free(joined, out, qkv)
    tape.returns(result)
    return result


def _mlp(
    tape: Tape, x: Tensor, rows: Number, config: ClipConfig, precision: Precision, parallel: Parallel = ALONE
) -> Tensor:
    """Two linear layers with the quick GELU between them: 4 * rows * D * ratio * D FLOPs."""
    width, hidden = config.width, config.width * config.mlp_ratio // parallel.tensor
    with tape.module("mlp", "NoTPFeedForward"):
        with tape.module("fc1", "Linear", in_features=width, out_features=hidden):
            first = linear(tape, x, rows, width, hidden, precision, bias=True)
            tape.returns(first)
        active = quick_gelu(tape, first, rows * hidden, precision.activation_bytes)
        with tape.module("fc2", "Linear", in_features=hidden, out_features=width):
            second = linear(tape, active, rows, hidden, width, precision, bias=True)
            tape.returns(second)
        add_up(tape, second, precision, parallel)
        tape.free(active, first)
        tape.returns(second)
    return second
