"""Small configurations of transformers' language models, and the same models as closed forms take them."""

from __future__ import annotations

from typing import Any

from modelmeter.cost.layers.feed_forward import ExpertsShape
from modelmeter.cost.layers.grouped_query import GroupedQueryShape
from modelmeter.cost.layers.language_shape import LanguageModel
from modelmeter.cost.layers.latent_attention import LatentShape
from modelmeter.cost.layers.routing import (
    Router,
    deepseek_v2_router,
    deepseek_v3_router,
    mixtral_router,
    qwen3_router,
)

BASE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 50,
    "max_position_embeddings": 256,
}
LATENT = {
    **BASE,
    "num_key_value_heads": 4,
    "q_lora_rank": 12,
    "kv_lora_rank": 10,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 7,
    "moe_intermediate_size": 16,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_experts_per_tok": 3,
    "n_group": 4,
    "topk_group": 2,
    "first_k_dense_replace": 1,
}
del LATENT["head_dim"]  # theirs is the rotary part's

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "llama": {**BASE, "model_type": "llama", "architectures": ["LlamaForCausalLM"]},
    "llama, biases": {
        **BASE,
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": True,
        "mlp_bias": True,
        "num_key_value_heads": 4,
    },
    "llama, one key head": {
        **BASE,
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "num_key_value_heads": 1,
        "tie_word_embeddings": True,
    },
    "mistral": {
        **BASE,
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "sliding_window": 5,
    },
    "qwen2": {**BASE, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": True},
    "qwen2, some windows": {
        **BASE,
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "use_sliding_window": True,
        "sliding_window": 6,
        "max_window_layers": 1,
    },
    "qwen3": {**BASE, "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 12},
    "qwen3_moe": {
        **BASE,
        "model_type": "qwen3_moe",
        "architectures": ["Qwen3MoeForCausalLM"],
        "moe_intermediate_size": 16,
        "num_experts": 6,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 2,
        "norm_topk_prob": True,
    },
    "mixtral": {
        **BASE,
        "model_type": "mixtral",
        "architectures": ["MixtralForCausalLM"],
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    "deepseek_v2": {**LATENT, "model_type": "deepseek_v2", "architectures": ["DeepseekV2ForCausalLM"]},
    "deepseek_v2, lite": {
        **LATENT,
        "model_type": "deepseek_v2",
        "architectures": ["DeepseekV2ForCausalLM"],
        "q_lora_rank": None,
        "topk_method": "group_limited_greedy",
        "attention_bias": True,
    },
    "deepseek_v3": {**LATENT, "model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"]},
    "deepseek_v3, no queries' latent": {
        **LATENT,
        "model_type": "deepseek_v3",
        "architectures": ["DeepseekV3ForCausalLM"],
        "q_lora_rank": None,
        "n_shared_experts": 1,
        "n_group": 1,
        "topk_group": 1,
    },
}


def closed_form_of(source: dict[str, Any], form: str = "latent") -> LanguageModel:
    """A configuration in the terms of the closed forms."""
    prefix = source["architectures"][0].removesuffix("ForCausalLM")
    hidden, layers, family = source["hidden_size"], source["num_hidden_layers"], source["model_type"]
    expert_layers, experts, router = _experts(source)
    windowed = frozenset(range(layers)) if family == "mistral" else frozenset()
    if source.get("use_sliding_window"):
        windowed = frozenset(range(source["max_window_layers"], layers))
    return LanguageModel(
        prefix=prefix,
        vocabulary=source["vocab_size"],
        hidden_size=hidden,
        layers=layers,
        attention=_attention(source, prefix, form),
        intermediate_size=source["intermediate_size"],
        mlp_bias=source.get("mlp_bias", False),
        experts=experts,
        router=router,
        expert_layers=expert_layers,
        window=source.get("sliding_window") if windowed else None,
        windowed_layers=windowed,
        tied=source.get("tie_word_embeddings", False),
    )


def _attention(source: dict[str, Any], prefix: str, form: str) -> GroupedQueryShape | LatentShape:
    norms, bias = f"{prefix}RMSNorm", source.get("attention_bias", False)
    if "kv_lora_rank" in source:
        sizes = {key: source[key] for key in ("q_lora_rank", "kv_lora_rank", "v_head_dim")}
        sizes |= {key: source[key] for key in ("qk_nope_head_dim", "qk_rope_head_dim")}
        return LatentShape(
            source["hidden_size"], source["num_attention_heads"], bias=bias, norms=norms, form=form, **sizes
        )
    return GroupedQueryShape(
        source["hidden_size"],
        source["num_attention_heads"],
        source["num_key_value_heads"],
        source["head_dim"],
        bias=bias or source["model_type"] == "qwen2",
        out_bias=bias,
        norms=norms if source["model_type"] in ("qwen3", "qwen3_moe") else "",
    )


def _experts(source: dict[str, Any]) -> tuple[frozenset[int], ExpertsShape | None, Router | None]:
    family, hidden, layers = source["model_type"], source["hidden_size"], range(source["num_hidden_layers"])
    top_k = source.get("num_experts_per_tok", 0)
    if family == "mixtral":
        shape = ExpertsShape(hidden, source["intermediate_size"], source["num_local_experts"], 0, top_k)
        return frozenset(layers), shape, mixtral_router()
    if family == "qwen3_moe":
        shape = ExpertsShape(hidden, source["moe_intermediate_size"], source["num_experts"], 0, top_k)
        step = source["decoder_sparse_step"]
        return frozenset(i for i in layers if (i + 1) % step == 0), shape, qwen3_router(source["norm_topk_prob"])
    if family in ("deepseek_v2", "deepseek_v3"):
        sizes = (source["moe_intermediate_size"], source["n_routed_experts"], source["n_shared_experts"])
        shape = ExpertsShape(hidden, *sizes, top_k)
        groups = (source["n_group"], source["topk_group"])
        if family == "deepseek_v3":
            router = deepseek_v3_router(*groups)
        else:
            limited = source.get("topk_method") == "group_limited_greedy"
            router = deepseek_v2_router(*(groups if limited else (0, 0)))
        return frozenset(i for i in layers if i >= source["first_k_dense_replace"]), shape, router
    return frozenset(), None, None
