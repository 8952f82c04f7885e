"""Random small configurations of DeepSeek-OCR and random scenarios for them, for property tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from modelmeter.families.deepseek_ocr import DeepSeekOCRConfig, read_configuration
from modelmeter.schema.scenario import Page, Scenario
from modelmeter.verify import crop_grids

PATCH = 16
LONGEST = 4096
"""Positions that the small models have: enough for three pages of nine crops."""

WIDTHS = st.sampled_from([2, 4, 6, 8])
"""Sizes of a head; rotary positions need even ones."""


@st.composite
def configurations(draw: st.DrawFn) -> DeepSeekOCRConfig:
    """Heads, groups, widths, layers, windows, tables and experts of any kind, all small."""
    sam_heads, clip_heads = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    clip_width = clip_heads * draw(WIDTHS)
    sam_layers = draw(st.integers(1, 4))
    sam = {
        "width": sam_heads * draw(WIDTHS),
        "heads": sam_heads,
        "layers": sam_layers,
        "global_attn_indexes": sorted(draw(st.sets(st.integers(0, sam_layers - 1)))),
        "downsample_channels": [draw(st.integers(1, 12)), clip_width],
        "window_size": draw(st.integers(2, 6)),
        "out_channels": draw(st.integers(1, 8)),
        "mlp_ratio": draw(st.integers(1, 4)),
    }
    clip_patch = draw(st.sampled_from([7, 14]))
    clip = {
        "width": clip_width,
        "heads": clip_heads,
        "layers": draw(st.integers(1, 3)),
        "patch_size": clip_patch,
        "image_size": clip_patch * draw(st.integers(1, 5)),
        "mlp_ratio": draw(st.integers(1, 4)),
    }
    return read_configuration(
        {
            "language_config": draw(decoders()),
            "projector_config": {},
            "vision_config": {
                "image_size": PATCH * draw(st.integers(1, 9)),
                "width": {"sam_vit_b": sam, "clip-l-14-224": clip},
            },
        }
    )


@st.composite
def decoders(draw: st.DrawFn) -> dict[str, Any]:
    """A decoder with multi-head or grouped attention, dense or with experts from some layer on."""
    kv_heads, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    heads = kv_heads * groups
    decoder: dict[str, Any] = {
        "hidden_size": heads * draw(WIDTHS),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": draw(st.integers(1, 24)),
        "num_hidden_layers": draw(st.integers(1, 4)),
        "vocab_size": draw(st.integers(3, 120)),
        "max_position_embeddings": LONGEST,
    }
    if draw(st.integers(0, 4)):
        experts = draw(st.integers(1, 9))
        decoder |= {
            "moe_intermediate_size": draw(st.integers(1, 16)),
            "n_routed_experts": experts,
            "n_shared_experts": draw(st.sampled_from([None, 1, 2])),
            "num_experts_per_tok": draw(st.integers(1, experts)),
            "first_k_dense_replace": draw(st.integers(0, decoder["num_hidden_layers"])),
        }
    return decoder


@st.composite
def scenarios(draw: st.DrawFn, *, steps: int = 3) -> Scenario:
    """Pages, sizes, batches, dtypes, attention kinds, routings and decode steps of any kind."""
    sides = st.integers(1, 9).map(lambda patches: PATCH * patches)
    values: dict[str, Any] = {
        "base_size": draw(sides),
        "image_size": draw(sides),
        "crop_mode": draw(st.sampled_from([True, True, True, False])),
    }
    grids = st.sampled_from(crop_grids()).map(lambda grid: Page(grid=grid))
    sizes = st.builds(Page, st.integers(1, 4000), st.integers(1, 4000))
    page = st.one_of(grids, sizes) if values["crop_mode"] else sizes
    dtype = draw(st.sampled_from(["bfloat16", "bfloat16", "float16", "float32", "float64"]))
    return Scenario(
        **values,
        pages=tuple(draw(st.lists(page, min_size=1, max_size=3))),
        text_tokens=draw(st.integers(1, 30)),
        decode_steps=draw(st.integers(0, steps)),
        batch=draw(st.integers(1, 4)),
        dtype=dtype,
        kv_dtype=draw(st.sampled_from([None, None, "float8_e4m3fn", "float8_e5m2", "bfloat16", "float32"])),
        vision_attention=draw(st.sampled_from(["sdpa", "eager"])),
        decoder_attention=draw(st.sampled_from(["sdpa", "eager"])),
        head=draw(st.sampled_from(["all", "last"])),
        routing=draw(st.sampled_from(["balanced", "balanced", "worst", "zipf:1.1", "random:5"])),
    )
