"""Which formulas are written down: every operator and layer, how it is called with symbols, and what they mean.

A caller takes a tape, the symbols by their letters, and the widths of data types. Letters stand for one thing
within an entry; ``a``, ``w`` and ``c`` are bytes of an element of activations, weights and cache everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from attrs import field, frozen

from modelmeter.cost import operators as op
from modelmeter.cost.arithmetic import less
from modelmeter.cost.layers.attend import Manner
from modelmeter.cost.layers.decoder import AttentionShape, Step, decoder_layer, self_attention
from modelmeter.cost.layers.feed_forward import ExpertsShape, Load, gated_mlp, mixture_of_experts
from modelmeter.cost.layers.grouped_query import GroupedQueryShape, grouped_query_attention
from modelmeter.cost.layers.latent_attention import LatentShape, latent_attention
from modelmeter.cost.layers.plain_mlp import plain_mlp
from modelmeter.cost.tape import Tape, Tensor
from modelmeter.families.deepseek_ocr.costs import clip, sam

Caller = Callable[[Tape, Any, Any], Any]


@frozen
class Entry:
    """One formula: the function that it is taken from, its variants, and the meaning of its symbols."""

    function: Callable[..., Any]
    variants: dict[str, Caller]
    symbols: dict[str, str]
    text: str = field(default="")
    """Words in place of the function's own, where these are about its code."""


def x(tape: Tape, size: Any) -> Tensor:
    """An input of so many bytes."""
    return tape.given(size)


ROWS, IN, OUT, ELEMENTS = "rows (tokens of all requests)", "input features", "output features", "elements"
BATCH, QUERIES, KEYS, HEADS, CHANNELS = (
    "requests",
    "new positions",
    "positions with the cache",
    "heads",
    "channels of a head",
)
WIDTH, INNER = "width", "inner width"


def _qkv(t: Tape, s: Any, w: Any) -> tuple[Tensor, Tensor, Tensor]:
    q, k = s.B * s.N * s.T * s.C, s.B * s.N * s.P * s.C
    return x(t, q * w.activation_bytes), x(t, k * w.activation_bytes), x(t, k * w.activation_bytes)


def _sizes(s: Any) -> dict[str, Any]:
    return {"batch": s.B, "heads": s.N, "queries": s.T, "keys": s.P, "head_dim": s.C}


ATTENTION = {"B": BATCH, "T": QUERIES, "P": KEYS, "N": HEADS, "C": CHANNELS}
GATE = {"T": "tokens", "D": WIDTH, "E": "experts", "K": "experts a token"}


def _gate(function: Callable[..., Any], **choices: Any) -> Caller:
    return lambda t, s, w: function(t, x(t, s.T * s.D * w.activation_bytes), s.T, s.D, s.E, s.K, w, **choices)


OPERATORS: dict[str, Entry] = {
    "linear": Entry(
        op.linear,
        {
            "": lambda t, s, w: op.linear(t, x(t, s.T * s.D * w.activation_bytes), s.T, s.D, s.F, w),
            "with bias": lambda t, s, w: op.linear(
                t, x(t, s.T * s.D * w.activation_bytes), s.T, s.D, s.F, w, bias=True
            ),
        },
        {"T": ROWS, "D": IN, "F": OUT},
    ),
    "shared_linear": Entry(
        op.shared_linear,
        {
            "": lambda t, s, w: op.shared_linear(
                t,
                x(t, s.T * s.D * w.activation_bytes),
                Tensor(s.D * s.F * w.weight_bytes, weight=True),
                s.T,
                s.D,
                s.F,
                w,
            )
        },
        {"T": ROWS, "D": IN, "F": OUT},
    ),
    "batched_product": Entry(
        op.batched_product,
        {
            "": lambda t, s, w: op.batched_product(
                t,
                x(t, s.B * s.M * s.K * w.activation_bytes),
                x(t, s.B * s.K * s.L * w.activation_bytes),
                s.B,
                s.M,
                s.K,
                s.L,
                "",
                w.activation_bytes,
            )
        },
        {"B": "products", "M": "rows of a result", "K": "inner size", "L": "columns of a result"},
    ),
    "convolution": Entry(
        op.convolution,
        {
            name: lambda t, s, w, bias=bias: op.convolution(
                t, x(t, s.X * w.activation_bytes), s.B, s.I, s.O, s.H, s.H, s.k, w, bias=bias
            )
            for name, bias in (("", False), ("with bias", True))
        },
        {
            "B": "maps",
            "X": "elements of the input",
            "I": "input channels",
            "O": "output channels",
            "H": "side of the result",
            "k": "side of the kernel",
        },
    ),
    "all_reduce": Entry(
        op.all_reduce,
        {"": lambda t, s, w: op.all_reduce(t, x(t, s.X * s.R * w.activation_bytes), w.activation_bytes, s.R)},
        {"X": "elements of one of its parts", "R": "devices, and parts"},
    ),
    "all_gather": Entry(
        op.all_gather,
        {"": lambda t, s, w: op.all_gather(t, x(t, s.X * w.activation_bytes), s.R)},
        {"X": "elements of one device", "R": "devices"},
    ),
    "all_to_all": Entry(
        op.all_to_all,
        {
            "": lambda t, s, w: op.all_to_all(
                t, x(t, s.T * s.X * s.R * w.activation_bytes), s.T, s.X * s.R * w.activation_bytes, s.R
            )
        },
        {"T": "rows", "X": "elements of one part of a row", "R": "devices, and parts"},
    ),
    "embedding": Entry(
        op.embedding,
        {"": lambda t, s, w: op.embedding(t, x(t, s.T * 8), s.T, s.V, s.D, w)},
        {"T": ROWS, "V": "entries of the table", "D": WIDTH},
    ),
    "layer_norm": Entry(
        op.layer_norm,
        {"": lambda t, s, w: op.layer_norm(t, x(t, s.T * s.D * w.activation_bytes), s.T, s.D, w)},
        {"T": ROWS, "D": WIDTH},
    ),
    "rms_norm": Entry(
        op.rms_norm,
        {"": lambda t, s, w: op.rms_norm(t, x(t, s.T * s.D * w.activation_bytes), s.T, s.D, w)},
        {"T": ROWS, "D": WIDTH},
    ),
    "channel_norm": Entry(
        op.channel_norm,
        {"": lambda t, s, w: op.channel_norm(t, x(t, s.T * s.D * w.activation_bytes), s.T, s.D, w)},
        {"T": "positions of all maps", "D": "channels"},
    ),
    "activation": Entry(
        op.activation,
        {"": lambda t, s, w: op.activation(t, x(t, s.T * s.F * w.activation_bytes), s.T * s.F, w.activation_bytes)},
        {"T": ROWS, "F": INNER},
    ),
    "quick_gelu": Entry(
        op.quick_gelu,
        {"": lambda t, s, w: op.quick_gelu(t, x(t, s.T * s.F * w.activation_bytes), s.T * s.F, w.activation_bytes)},
        {"T": ROWS, "F": INNER},
    ),
    "add": Entry(
        op.add,
        {
            "": lambda t, s, w: op.add(
                t, x(t, s.X * w.activation_bytes), x(t, s.X * w.activation_bytes), s.X, w.activation_bytes
            )
        },
        {"X": ELEMENTS},
    ),
    "multiply": Entry(
        op.multiply,
        {
            "": lambda t, s, w: op.multiply(
                t, x(t, s.X * w.activation_bytes), x(t, s.X * w.activation_bytes), s.X, w.activation_bytes
            )
        },
        {"X": ELEMENTS},
    ),
    "copy": Entry(
        op.copy,
        {"": lambda t, s, w: op.copy(t, x(t, s.X * w.activation_bytes), s.X * w.activation_bytes)},
        {"X": ELEMENTS},
    ),
    "concatenate": Entry(
        op.concatenate,
        {
            "": lambda t, s, w: op.concatenate(
                t,
                [x(t, s.X * w.activation_bytes), x(t, s.Y * w.activation_bytes)],
                (s.X + s.Y) * w.activation_bytes,
            )
        },
        {"X": "elements of the one", "Y": "elements of the other"},
    ),
    "to_float": Entry(
        op.to_float,
        {"": lambda t, s, w: op.to_float(t, x(t, s.X * w.activation_bytes), s.X, w)},
        {"X": ELEMENTS},
    ),
    "scatter_features": Entry(
        op.scatter_features,
        {
            "": lambda t, s, w: op.scatter_features(
                t,
                x(t, s.T * s.D * w.activation_bytes),
                x(t, s.T),
                x(t, s.I * s.D * w.activation_bytes),
                s.T * s.D * w.activation_bytes,
            )
        },
        {"T": ROWS, "I": "rows that are images'", "D": WIDTH},
    ),
    "append_to_cache": Entry(
        op.append_to_cache,
        {
            "": lambda t, s, w: op.append_to_cache(
                t, x(t, s.Y * w.kv_bytes), x(t, s.X * w.activation_bytes), s.X, s.Y, w
            )
        },
        {"X": "new elements", "Y": "elements held"},
    ),
    "causal_mask": Entry(
        op.causal_mask,
        {"": lambda t, s, w: op.causal_mask(t, x(t, s.B * s.P * 8), s.B, s.T, s.P, w)},
        {"B": BATCH, "T": QUERIES, "P": KEYS},
    ),
    "flash_attention": Entry(
        op.flash_attention,
        {
            "": lambda t, s, w: op.flash_attention(t, *_qkv(t, s, w), None, **_sizes(s), precision=w),
            "with a mask": lambda t, s, w: op.flash_attention(
                t, *_qkv(t, s, w), x(t, s.B * s.T * s.P * w.activation_bytes), **_sizes(s), precision=w
            ),
        },
        ATTENTION,
    ),
    "eager_attention": Entry(
        op.eager_attention,
        {
            "": lambda t, s, w: op.eager_attention(
                t,
                *_qkv(t, s, w),
                x(t, s.B * s.T * s.P * w.activation_bytes),
                **_sizes(s),
                precision=w,
                copies_queries=0,
                copies_keys=0,
            )
        },
        ATTENTION,
    ),
    "relative_attention": Entry(
        op.relative_attention,
        {
            "": lambda t, s, w: op.relative_attention(
                t,
                *(x(t, s.M * s.N * s.H**2 * s.C * w.activation_bytes) for _ in "qkv"),
                x(t, s.M * s.N * s.H**3 * w.activation_bytes),
                x(t, s.M * s.N * s.H**3 * w.activation_bytes),
                (),
                batch=s.M,
                heads=s.N,
                side=s.H,
                head_dim=s.C,
                precision=w,
            )
        },
        {"M": "maps", "H": "side of a map", "N": HEADS, "C": CHANNELS},
    ),
    "band_attention": Entry(
        op.band_attention,
        {
            "": lambda t, s, w: op.band_attention(
                t,
                *_qkv(t, s, w),
                rows=s.B * s.N * s.T,
                scores=s.Z,
                head_dim=s.C,
                value_dim=s.C,
                precision=w,
            )
        },
        {**ATTENTION, "Z": "scores inside the band, of all rows"},
    ),
    "band_mask": Entry(
        op.band_mask,
        {
            "causal": lambda t, s, w: op.band_mask(t, s.T, s.P, w, windowed=False, additive=True),
            "in a window": lambda t, s, w: op.band_mask(t, s.T, s.P, w, windowed=True, additive=True),
        },
        {"T": QUERIES, "P": KEYS},
    ),
    "softmax": Entry(
        op.softmax,
        {
            "": lambda t, s, w: op.softmax(t, x(t, s.X * w.activation_bytes), None, s.X, w),
            "with a mask": lambda t, s, w: op.softmax(
                t, x(t, s.X * w.activation_bytes), x(t, s.Y * w.activation_bytes), s.X, w
            ),
        },
        {"X": "scores", "Y": "elements of the mask"},
    ),
    "relative_table": Entry(
        op.relative_table,
        {"": lambda t, s, w: op.relative_table(t, "rel_pos_h", s.H, s.S, s.C, w)},
        {"H": "side of a map", "S": "side that the table is for", "C": CHANNELS},
    ),
    "resize_table": Entry(
        op.resize_table,
        {
            "bicubic": lambda t, s, w: op.resize_table(
                t, x(t, s.Y * s.D * w.weight_bytes), s.Y, s.X, s.D, 32, w, present=1
            )
        },
        {"Y": "entries before", "X": "entries after", "D": WIDTH},
    ),
    "rotary_angles": Entry(
        op.rotary_angles,
        {"": lambda t, s, w: op.rotary_angles(t, s.B, s.T, s.C, w, x(t, s.B * s.T * 8))},
        {"B": BATCH, "T": QUERIES, "C": CHANNELS},
    ),
    "rotate": Entry(
        op.rotate,
        {
            "": lambda t, s, w: op.rotate(
                t,
                x(t, s.T * s.N * s.C * w.activation_bytes),
                (x(t, s.T * s.C * w.activation_bytes), x(t, s.T * s.C * w.activation_bytes)),
                s.T * s.N * s.C,
                w.activation_bytes,
            )
        },
        {"T": ROWS, "N": HEADS, "C": CHANNELS},
    ),
    "position_numbers": Entry(op.position_numbers, {"": lambda t, s, w: op.position_numbers(t, s.T)}, {"T": QUERIES}),
    "angle_table": Entry(
        op.angle_table,
        {"": lambda t, s, w: op.angle_table(t, x(t, s.T * 8), s.T, s.C, w)},
        {"T": QUERIES, "C": "channels that are turned"},
    ),
    "gate": Entry(op.gate, {"": _gate(op.gate)}, GATE),
    "softmax_gate": Entry(
        op.softmax_gate,
        {
            "": _gate(op.softmax_gate),
            "renormalised": _gate(op.softmax_gate, renormalises=True),
            "in groups": lambda t, s, w: op.softmax_gate(
                t,
                x(t, s.T * s.D * w.activation_bytes),
                s.T,
                s.D,
                s.E,
                s.K,
                w,
                wide=True,
                groups=8,
                groups_kept=3,
                scales=True,
            ),
        },
        GATE,
    ),
    "sigmoid_gate": Entry(op.sigmoid_gate, {"of 8 groups 4": _gate(op.sigmoid_gate, groups=8, groups_kept=4)}, GATE),
    "dispatch": Entry(
        op.dispatch,
        {
            "": lambda t, s, w: op.dispatch(
                t, x(t, s.T * s.D * w.activation_bytes), x(t, s.T * s.K * 8), s.T, s.D, s.E, s.K, w
            )
        },
        GATE,
    ),
    "combine": Entry(
        op.combine,
        {
            "": lambda t, s, w: op.combine(
                t,
                x(t, s.T * s.K * s.D * w.activation_bytes),
                x(t, s.T * s.K * 8),
                x(t, s.T * s.K * 4),
                s.T,
                s.D,
                s.K,
                w,
            )
        },
        {key: GATE[key] for key in "TDK"},
    ),
}


def _step(s: Any, prefill: bool) -> Step:
    several = less(1, s.B)
    return Step(s.B, s.T, s.T, 0, True, several) if prefill else Step(s.B, 1, s.P, s.P - 1, False, several)


def _held(t: Tape, s: Any, w: Any, sizes: tuple[Any, Any], prefill: bool) -> Any:
    if prefill:
        return None
    rows = s.B * (s.P - 1) * w.kv_bytes
    return x(t, rows * sizes[0]), x(t, rows * sizes[1])


def _mask(t: Tape, step: Step, w: Any) -> Tensor:
    return x(t, step.batch * step.queries * step.keys * w.activation_bytes)


def _self_attention(kind: str, prefill: bool) -> Caller:
    def call(t: Tape, s: Any, w: Any) -> None:
        step, shape = _step(s, prefill), AttentionShape(s.D, s.N, s.N, s.C, kind)
        hidden, ids = x(t, step.rows * s.D * w.activation_bytes), x(t, step.batch * step.keys * 8)
        held = _held(t, s, w, (s.N * s.C, s.N * s.C), prefill)
        self_attention(t, hidden, _mask(t, step, w), ids, held, shape, step, w)

    return call


def _decoder_layer(prefill: bool) -> Caller:
    def call(t: Tape, s: Any, w: Any) -> None:
        step, shape = _step(s, prefill), AttentionShape(s.D, s.N, s.N, s.C, "sdpa")
        hidden, ids = x(t, step.rows * s.D * w.activation_bytes), x(t, step.batch * step.keys * 8)
        held = _held(t, s, w, (s.N * s.C, s.N * s.C), prefill)

        def fed(y: Tensor) -> Tensor:
            with t.module("mlp", "DeepseekV2MLP"):
                return gated_mlp(t, y, step.rows, s.D, s.F, w)

        decoder_layer(t, hidden, _mask(t, step, w), ids, held, shape, step, w, fed)

    return call


def _angles(t: Tape, step: Step, channels: Any, w: Any) -> tuple[Tensor, Tensor]:
    return (
        x(t, step.queries * channels * w.activation_bytes),
        x(t, step.queries * channels * w.activation_bytes),
    )


def _grouped(prefill: bool) -> Caller:
    def call(t: Tape, s: Any, w: Any) -> None:
        step, shape = _step(s, prefill), GroupedQueryShape(s.D, s.N, s.G, s.C)
        held = _held(t, s, w, shape.cache_sizes, prefill)
        hidden = x(t, step.rows * s.D * w.activation_bytes)
        grouped_query_attention(t, hidden, None, _angles(t, step, s.C, w), held, shape, step, Manner("sdpa"), w)

    return call


def _latent(form: str, prefill: bool) -> Caller:
    def call(t: Tape, s: Any, w: Any) -> None:
        step = _step(s, prefill)
        shape = LatentShape(s.D, s.N, None, s.R, s.C, s.S, s.V, form=form)
        held = _held(t, s, w, shape.cache_sizes, prefill)
        hidden = x(t, step.rows * s.D * w.activation_bytes)
        latent_attention(t, hidden, None, _angles(t, step, s.S, w), held, shape, step, Manner("sdpa"), w)

    return call


def _mixture(t: Tape, s: Any, w: Any) -> None:
    shape = ExpertsShape(s.D, s.F, s.E, s.S, s.K)
    load = Load(s.T * s.K, s.A, s.T, s.T)
    mixture_of_experts(t, x(t, s.T * s.D * w.activation_bytes), s.T, shape, load, w)


def _sam(s: Any) -> Any:
    return SimpleNamespace(width=s.N * s.C, heads=s.N, mlp_ratio=1)


def _clip(s: Any) -> Any:
    return SimpleNamespace(width=s.N * s.C, heads=s.N)


def _ratio(s: Any) -> Any:
    return SimpleNamespace(width=s.D, mlp_ratio=s.F / s.D)


def _neck(t: Tape, s: Any, w: Any) -> None:
    config = SimpleNamespace(width=s.D, out_channels=s.O)
    sam._neck(t, x(t, s.M * s.H**2 * s.D * w.activation_bytes), s.M, s.H, config, w)  # type: ignore[arg-type]


MAPS = {
    "M": "maps (windows or views)",
    "H": "side of a map",
    "S": "side that the tables are for",
    "N": HEADS,
    "C": CHANNELS,
}
MLP = {"T": ROWS, "D": WIDTH, "F": INNER}
DECODER = {**ATTENTION, "D": WIDTH}
LATENT = {
    "B": BATCH,
    "T": QUERIES,
    "P": KEYS,
    "D": WIDTH,
    "N": HEADS,
    "R": "latent size",
    "S": "channels of the rotary key",
    "C": "channels of a head without positions",
    "V": "channels of a value",
}

LAYERS: dict[str, Entry] = {
    "plain_mlp": Entry(
        plain_mlp,
        {"": lambda t, s, w: plain_mlp(t, x(t, s.T * s.D * w.activation_bytes), s.T, s.D, s.F, w)},
        MLP,
    ),
    "gated_mlp": Entry(
        gated_mlp,
        {"": lambda t, s, w: gated_mlp(t, x(t, s.T * s.D * w.activation_bytes), s.T, s.D, s.F, w)},
        MLP,
    ),
    "mixture_of_experts": Entry(
        mixture_of_experts,
        {"": _mixture},
        {
            **GATE,
            "F": "inner width of an expert",
            "S": "shared experts",
            "A": "routed experts that are called",
        },
    ),
    "self_attention": Entry(
        self_attention,
        {
            f"{part}, {kind}": _self_attention(kind, part == "prefill")
            for part in ("prefill", "decode")
            for kind in ("sdpa", "eager")
        },
        DECODER,
    ),
    "decoder_layer": Entry(
        decoder_layer,
        {part: _decoder_layer(part == "prefill") for part in ("prefill", "decode")},
        {**DECODER, "F": INNER},
        "A layer of the decoder with a dense feed-forward part, fused attention: x + attention(norm(x)), then "
        "that + feed_forward(norm(that)).",
    ),
    "grouped_query_attention": Entry(
        grouped_query_attention,
        {part: _grouped(part == "prefill") for part in ("prefill", "decode")},
        {**DECODER, "G": "key-value heads"},
    ),
    "latent_attention": Entry(
        latent_attention,
        {
            f"{part}, {form}": _latent(form, part == "prefill")
            for form in ("latent", "expanded", "absorbed")
            for part in ("prefill", "decode")
        },
        LATENT,
    ),
    "sam_attention": Entry(
        sam._attention,
        {
            kind: lambda t, s, w, kind=kind: sam._attention(
                t, x(t, s.M * s.H**2 * s.N * s.C * w.activation_bytes), s.M, s.H, s.S, _sam(s), kind, w
            )
            for kind in ("sdpa", "eager")
        },
        MAPS,
    ),
    "sam_mlp": Entry(
        sam._mlp,
        {"": lambda t, s, w: sam._mlp(t, x(t, s.T * s.D * w.activation_bytes), s.T, _ratio(s), w)},
        MLP,
    ),
    "sam_neck": Entry(
        sam._neck, {"": _neck}, {"M": "views", "H": "patches of a side", "D": WIDTH, "O": "output channels"}
    ),
    "clip_attention": Entry(
        clip._attention,
        {
            kind: lambda t, s, w, kind=kind: clip._attention(
                t, x(t, s.M * s.T * s.N * s.C * w.activation_bytes), s.M, s.T, _clip(s), kind, w
            )
            for kind in ("sdpa", "eager")
        },
        {"M": "views", "T": "tokens of a view", "N": HEADS, "C": CHANNELS},
    ),
    "clip_mlp": Entry(
        clip._mlp,
        {"": lambda t, s, w: clip._mlp(t, x(t, s.T * s.D * w.activation_bytes), s.T, _ratio(s), w)},
        MLP,
    ),
}
