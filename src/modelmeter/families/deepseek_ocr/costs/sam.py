"""SAM's tower in closed form: windowed and global blocks, neck, and the two downsampling convolutions.

Axes: B views, H patches of a side, D width, N heads, C channels of a head, S window side.
Source: Kirillov et al., Segment Anything (2023); Li et al., MViTv2 (2022) for relative positions.
"""

from __future__ import annotations

from typing import Any

from modelmeter.cost.arithmetic import Number, ceil_div, differs, less, maximum, where
from modelmeter.cost.operators import (
    activation,
    add,
    batched_product,
    channel_norm,
    convolution,
    copy,
    eager_attention,
    layer_norm,
    linear,
    relative_attention,
    relative_table,
    resize_table,
)
from modelmeter.cost.operators.positions import BICUBIC_FLOPS
from modelmeter.cost.precision import Precision
from modelmeter.cost.tape import Part, Read, Tape, Tensor
from modelmeter.families.deepseek_ocr.config import SamConfig
from modelmeter.patterns import one_of

COLOURS = 3


def sam_tower(
    tape: Tape, pixels: Tensor, views: Number, side: Number, config: SamConfig, kind: str, precision: Precision
) -> tuple[Tensor, Number]:
    """Pixels [B, 3, side, side] to features [B, C, q, q]: (features, q)."""
    width = config.width
    patches = side // config.patch_size
    elements = views * patches * patches * width
    with tape.module("sam_model", "ImageEncoderViT", stage="vision", image_size=config.image_size):
        with tape.module("patch_embed", "PatchEmbed"):
            with tape.module("proj", "Conv2d", kernel_size=config.patch_size, stride=config.patch_size):
                x = convolution(
                    tape, pixels, views, COLOURS, width, patches, patches, config.patch_size, precision, bias=True
                )
                tape.returns(x)
            tape.returns(x)
        x = _with_positions(tape, x, elements, patches, config, precision)
        every = range(config.layers)
        for blocks, window in (
            ([index for index in every if index not in config.global_attn_indexes], config.window_size),
            ([index for index in every if index in config.global_attn_indexes], 0),
        ):
            if blocks:
                with tape.repeated(len(blocks)):
                    before = x
                    x = _block(tape, x, views, patches, blocks, window, config, kind, precision)
                    tape.free(before)
        x = _neck(tape, x, views, patches, config, precision)
        middle, last = config.downsample_channels
        half = ceil_div(patches, 2)
        quarter = ceil_div(half, 2)
        with tape.module("net_2", "Conv2d", in_channels=config.out_channels, out_channels=middle, kernel_size=3):
            halved = convolution(tape, x, views, config.out_channels, middle, half, half, 3, precision)
            tape.returns(halved)
        with tape.module("net_3", "Conv2d", in_channels=middle, out_channels=last, kernel_size=3):
            features = convolution(tape, halved, views, middle, last, quarter, quarter, 3, precision)
            tape.returns(features)
        tape.free(halved, x)
        tape.returns(features)
    return features, quarter


def _with_positions(
    tape: Tape, x: Tensor, elements: Number, patches: Number, config: SamConfig, precision: Precision
) -> Tensor:
    """The position table, resized where the map has another size than its own, added to every view."""
    own = config.image_size // config.patch_size
    table = tape.weight("pos_embed", own * own * config.width, precision.weight_bytes)
    cells = patches * patches
    resized, wide = resize_table(
        tape, table, own * own, cells, config.width, BICUBIC_FLOPS, precision, present=differs(own, patches)
    )
    tape.free(wide)
    # Where it is resized the sum reads the resized table, else the parameter; either way as many bytes.
    result = add(
        tape, x, Part(table, cells * config.width * precision.weight_bytes), elements, precision.activation_bytes
    )
    tape.free(resized, x)
    return result


def _block(
    tape: Tape,
    x: Tensor,
    views: Number,
    patches: Number,
    blocks: list[int],
    window: int,
    config: SamConfig,
    kind: str,
    precision: Precision,
) -> Tensor:
    """One of the given blocks: attention in windows of ``window`` patches, or over the map where it is 0."""
    width, size = config.width, precision.activation_bytes
    rows = views * patches * patches
    elements = rows * width
    name = one_of(str(index) for index in blocks)
    every = one_of(str(index) for index in range(config.layers))
    with tape.module(f"blocks.{every}", "Block", members=config.layers, series=True):
        with tape.module("norm1", "LayerNorm", hidden_size=width):
            normal = layer_norm(tape, x, rows, width, precision)
            tape.returns(normal)
        attention: dict[str, Any] = {
            "at": f"sam_model.blocks.{name}.attn",
            "members": len(blocks),
            "num_heads": config.heads,
        }
        if window:
            windows, cut, count = _split(tape, normal, views, patches, window, elements * size)
            with tape.module("attn", "Attention", window_size=window, **attention):
                mixed = _attention(tape, cut, views * count * count, window, window, config, kind, precision)
            mixed = _join(tape, mixed, views, patches, window, elements * size)
        else:
            windows, side = Tensor(0), config.image_size // config.patch_size
            with tape.module("attn", "Attention", **attention):
                mixed = _attention(tape, normal, views, patches, side, config, kind, precision)
        middle = add(tape, x, Part(mixed, elements * size), elements, size)
        with tape.module("norm2", "LayerNorm", hidden_size=width):
            again = layer_norm(tape, middle, rows, width, precision)
            tape.returns(again)
        fed = _mlp(tape, again, rows, config, precision)
        tape.free(again)
        result = add(tape, middle, fed, elements, size)
        tape.free(fed, middle, normal, windows, mixed)
        tape.returns(result)
    return result


def _split(
    tape: Tape, x: Tensor, views: Number, patches: Number, window: int, map_bytes: Number
) -> tuple[Tensor, Part, Number]:
    """The map cut into windows, padded with zeros up to a multiple of their side.

    Gives the memory that is held for them, the windows to read, and how many there are a side.
    """
    count = ceil_div(patches, window)
    side = count * window
    pads, several = differs(side, patches), less(1, count) if window > 1 else 0
    whole = map_bytes // (patches * patches) * side * side
    padded = copy(tape, Part(x, map_bytes * pads), whole * pads, present=pads)
    # One window that covers the map is the map: nothing is moved.
    cut = copy(tape, Part(x, whole * several), whole * several, present=several)
    tape.free(padded, cut)
    windows = tape.hold(Tensor(whole * maximum(pads, several)))
    return windows, Part(windows, whole), count


def _join(tape: Tape, windows: Tensor, views: Number, patches: Number, window: int, map_bytes: Number) -> Tensor:
    """Windows put together again, without the padding."""
    count = ceil_div(patches, window)
    pads, several = differs(count * window, patches), less(1, count) if window > 1 else 0
    # A single patch is one piece of memory within its window.
    crops = pads * less(1, views * patches)
    joined = copy(tape, Part(windows, windows.bytes * several), windows.bytes * several, present=several)
    cropped = copy(tape, Part(windows, map_bytes * crops), map_bytes * crops, present=crops)
    tape.free(windows, joined, cropped)
    return tape.hold(Tensor(where(crops, map_bytes, windows.bytes)))


def _attention(
    tape: Tape,
    x: Read,
    maps: Number,
    side: Number,
    own_side: int,
    config: SamConfig,
    kind: str,
    precision: Precision,
) -> Tensor:
    """Attention over maps of side x side patches, with decomposed relative positions as its mask."""
    width, heads, size = config.width, config.heads, precision.activation_bytes
    head_dim = width // heads
    positions = side * side
    rows = maps * positions
    with tape.module("qkv", "Linear", in_features=width, out_features=3 * width):
        qkv = linear(tape, x, rows, width, 3 * width, precision, bias=True)
        tape.returns(qkv)
    q, k, v = (Part(qkv, rows * width * size) for _ in range(3))
    several = less(1, maps)
    along, spent = _position_biases(tape, q, maps, side, own_side, several, config, precision)
    sizes = {"batch": maps, "heads": heads, "head_dim": head_dim}
    joined = bias = Tensor(0)
    if kind == "sdpa":
        out, bias = relative_attention(tape, q, k, v, *along, spent, **sizes, side=side, precision=precision)
    else:
        bias = add(tape, *along, maps * heads * positions * positions, size)
        tape.free(*spent)
        sizes |= {"queries": positions, "keys": positions}
        splits = several if heads > 1 else 0
        out = eager_attention(
            tape, q, k, v, bias, **sizes, precision=precision, copies_queries=splits, copies_keys=splits
        )
        # One position's heads lie side by side.
        joins = less(1, side) if heads > 1 else 0
        joined = copy(tape, Part(out, out.bytes * joins), out.bytes * joins, present=joins)
    with tape.module("proj", "Linear", in_features=width, out_features=width):
        result = linear(tape, out, rows, width, width, precision, bias=True)
        tape.returns(result)
    tape.free(joined, out, bias, qkv)
    tape.returns(result)
    return result


def _position_biases(
    tape: Tape,
    q: Part,
    maps: Number,
    side: Number,
    own_side: int,
    several: Number,
    config: SamConfig,
    precision: Precision,
) -> tuple[tuple[Part, Part], list[Tensor]]:
    """q . R_h along rows and q . R_w along columns, [B * N, side^2, side] each.

    Two batched products of 2 * B * N * side^3 * C FLOPs, one batch item a row (or column). Gives both,
    and the tensors that live until they are added.
    Source: Li et al., MViTv2 (2022), section 4.1.
    """
    heads, size = config.heads, precision.activation_bytes
    head_dim = config.width // heads
    products = maps * heads
    whole = q.bytes
    sums = products * side * side * side * size
    # Queries lie interleaved with keys, values and heads. They are brought together once for both
    # products where there are several maps, else once for each; one head of one map lies well as it is,
    # and so does a map of one patch.
    grid = copy(tape, Part(q.tensor, whole * several), whole * several, present=several) if heads > 1 else Tensor(0)
    results = []
    turns = (1, 1 - several) if heads > 1 else (several, 0)
    for name, turn in zip(("rel_pos_h", "rel_pos_w"), turns, strict=True):
        copies = turn * less(1, side)
        table = relative_table(tape, name, side, own_side, head_dim, precision)
        turned = copy(tape, Part(q.tensor, whole * copies), whole * copies, present=copies)
        results.append(
            batched_product(tape, q, table, side, products * side, head_dim, side, precision.activations, size)
        )
        tape.free(turned, table)
    rows, columns = results
    column_copies = less(1, side)
    row_copies = column_copies if heads > 1 else column_copies * several
    flat_rows = copy(tape, Part(rows, sums * row_copies), sums * row_copies, present=row_copies)
    flat_columns = copy(tape, Part(columns, sums * column_copies), sums * column_copies, present=column_copies)
    return (Part(rows, sums), Part(columns, sums)), [flat_rows, flat_columns, rows, columns, grid]


def _mlp(tape: Tape, x: Tensor, rows: Number, config: SamConfig, precision: Precision) -> Tensor:
    """Two linear layers with GELU between them: 4 * rows * D * ratio * D FLOPs."""
    width, hidden = config.width, config.width * config.mlp_ratio
    with tape.module("mlp", "MLPBlock"):
        with tape.module("lin1", "Linear", in_features=width, out_features=hidden):
            first = linear(tape, x, rows, width, hidden, precision, bias=True)
            tape.returns(first)
        with tape.module("act", "GELU"):
            active = activation(tape, first, rows * hidden, precision.activation_bytes)
            tape.returns(active)
        tape.free(first)
        with tape.module("lin2", "Linear", in_features=hidden, out_features=width):
            second = linear(tape, active, rows, hidden, width, precision, bias=True)
            tape.returns(second)
        tape.free(active)
        tape.returns(second)
    return second


def _neck(tape: Tape, x: Tensor, views: Number, patches: Number, config: SamConfig, precision: Precision) -> Tensor:
    """1x1 and 3x3 convolutions to fewer channels, each with a norm over them."""
    channels, rows = config.out_channels, views * patches * patches
    result = x
    with tape.module("neck", "Sequential"):
        for index, (inputs, kernel) in enumerate(((config.width, 1), (channels, 3))):
            before = result
            with tape.module(str(2 * index), "Conv2d", in_channels=inputs, out_channels=channels, kernel_size=kernel):
                made = convolution(tape, before, views, inputs, channels, patches, patches, kernel, precision)
                tape.returns(made)
            if before is not x:
                tape.free(before)
            with tape.module(str(2 * index + 1), "LayerNorm2d", hidden_size=channels):
                result = channel_norm(tape, made, rows, channels, precision)
                tape.returns(result)
            tape.free(made)
        tape.returns(result)
    tape.free(x)
    return result
