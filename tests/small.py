"""Small configurations of DeepSeek-OCR that run for real in milliseconds."""

from __future__ import annotations

from typing import Any

from modelmeter.families.deepseek_ocr import DeepSeekOCRConfig, read_configuration


def small_source(**language: Any) -> dict[str, Any]:
    """A configuration in the published form: 64-pixel views, four layers, eight experts."""
    return {
        "model_type": "deepseek_vl_v2",
        "tile_tag": "2D",
        "language_config": {
            "hidden_size": 48,
            "intermediate_size": 80,
            "moe_intermediate_size": 24,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "n_routed_experts": 8,
            "n_shared_experts": 2,
            "num_experts_per_tok": 3,
            "first_k_dense_replace": 1,
            "vocab_size": 101,
            "max_position_embeddings": 2048,
            **language,
        },
        "projector_config": {
            "input_dim": 64,
            "n_embed": language.get("hidden_size", 48),
            "projector_type": "linear",
        },
        "vision_config": {
            "image_size": 128,
            "width": {
                "sam_vit_b": {
                    "width": 24,
                    "layers": 3,
                    "heads": 2,
                    "global_attn_indexes": [1],
                    "downsample_channels": [16, 32],
                    "window_size": 3,
                    "out_channels": 8,
                },
                "clip-l-14-224": {"width": 32, "layers": 2, "heads": 2, "image_size": 56, "patch_size": 14},
            },
        },
    }


def small_config(**language: Any) -> DeepSeekOCRConfig:
    """The small configuration, with keys of the decoder replaced."""
    return read_configuration(small_source(**language))


SMALL_SIZES = {"base_size": 128, "image_size": 64}
"""Scenario keys for views that the small configuration is quick on."""
