"""Shrunken configurations of Hugging Face architectures: changes of the defaults, by name."""

from __future__ import annotations

from typing import Any

TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}
ENCODER: dict[str, Any] = {key: value for key, value in TEXT.items() if key != "num_key_value_heads"}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LATENT: dict[str, Any] = {
    **TEXT,
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
}
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
CONVOLUTIONS: dict[str, Any] = {"conv_dim": [16, 16], "conv_kernel": [10, 3], "conv_stride": [5, 2]}
SEQ2SEQ: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "vocab_size": 128,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}

DECODERS: dict[str, dict[str, Any]] = {
    "llama": TEXT,
    "mistral": {**TEXT, "sliding_window": 8},
    "qwen3": {**TEXT, "head_dim": 8},
    "olmo2": TEXT,
    "phi3": TEXT,
    "gemma3_text": {**TEXT, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 128, "n_positions": 64},
    "opt": {**ENCODER, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "qwen3_moe": {**TEXT, **EXPERTS, "head_dim": 8},
    "mixtral": {**TEXT, "num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": {**TEXT, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
    "deepseek_v2": {**LATENT, "head_dim": 4, "n_group": 1},
    "deepseek_v3": LATENT,
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 128, "state_size": 8},
    "mamba2": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "vocab_size": 128,
        "state_size": 8,
        "num_heads": 8,
        "head_dim": 8,
        "n_groups": 2,
        "chunk_size": 16,
    },
    "qwen3_next": {
        **TEXT,
        **EXPERTS,
        "num_hidden_layers": 4,
        "head_dim": 8,
        "shared_expert_intermediate_size": 16,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
    },
}
"""Architectures that generate: each has a cache, of its own kind in some."""

OTHERS: dict[str, dict[str, Any]] = {
    "bert": ENCODER,
    "roberta": {**ENCODER, "pad_token_id": 1},
    "distilbert": {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "vocab_size": 128},
    "albert": {**ENCODER, "embedding_size": 16},
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 128},
    "bart": SEQ2SEQ,
    "whisper": {**SEQ2SEQ, "num_mel_bins": 16, "max_source_positions": 50, "max_target_positions": 32},
    "vit": VISION,
    "deit": VISION,
    "dinov2": {key: value for key, value in VISION.items() if key != "intermediate_size"},
    "swin": {"image_size": 32, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
    "convnext": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
    "segformer": {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 2, 3, 4]},
    "videomae": {**VISION, "num_frames": 4},
    "siglip_vision_model": VISION,
    "clip": {"text_config": ENCODER, "vision_config": VISION, "projection_dim": 16},
    "siglip": {"text_config": {**ENCODER, "max_position_embeddings": 32}, "vision_config": VISION},
    "wav2vec2": {**ENCODER, **CONVOLUTIONS, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4},
    "audio-spectrogram-transformer": {**VISION, "max_length": 64, "num_mel_bins": 32},
    "patchtst": {"num_input_channels": 2, "context_length": 32, "d_model": 32, "ffn_dim": 48, "num_attention_heads": 4},
    "llava": {
        "text_config": {"model_type": "llama", **TEXT},
        "vision_config": {"model_type": "clip_vision_model", **VISION},
        "image_token_index": 100,
    },
    "qwen2_5_vl": {
        "text_config": {
            **TEXT,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
        },
        "vision_config": {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 4,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        },
        "image_token_id": 100,
        "video_token_id": 101,
        "vision_start_token_id": 102,
    },
    "deepseek_ocr2": {
        "text_config": {
            **{key: value for key, value in LATENT.items() if "rank" not in key and "head_dim" not in key},
            "first_k_dense_replace": 1,
            "n_group": 1,
            "mlp_layer_types": ["dense", "sparse"],
            "head_dim": 8,
        },
        "vision_config": {
            "sam_config": {
                **VISION,
                "image_size": 256,
                "patch_size": 16,
                "output_channels": 8,
                "downsample_channels": [16, 32],
                "window_size": 4,
                "global_attn_indexes": [1],
                "mlp_dim": 48,
            },
            "encoder_config": TEXT,
        },
        "image_token_id": 100,
    },
    "unlimited_ocr": {
        "text_config": {
            **ENCODER,
            "num_key_value_heads": 4,
            "head_dim": 8,
            "n_routed_experts": 8,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "mlp_layer_types": ["dense", "sparse"],
            "sliding_window": 16,
        },
        "vision_config": {
            "sam_config": {
                **VISION,
                "image_size": 256,
                "patch_size": 16,
                "output_channels": 8,
                "downsample_channels": [16, 32],
                "window_size": 4,
                "global_attn_indexes": [1],
                "mlp_dim": 48,
            },
            "encoder_config": {**VISION, "image_size": 56, "patch_size": 14},
        },
        "image_token_id": 100,
    },
    "gemma3": {
        "text_config": {**TEXT, "head_dim": 8, "sliding_window": 8},
        "vision_config": VISION,
        "mm_tokens_per_image": 4,
        "image_token_index": 100,
    },
}
"""Encoders, pictures, sounds, series, and models of several kinds of input."""

SMALL = {**DECODERS, **OTHERS}
