"""Where the network's classes are defined; read off a trace by a test, as torch is not imported here."""

from __future__ import annotations

_DEFINED_IN = {
    "modelmeter.families.deepseek_ocr.network.clip": (
        "CLIPVisionEmbeddings",
        "NoTPAttention",
        "NoTPFeedForward",
        "NoTPTransformer",
        "NoTPTransformerBlock",
        "VitModel",
    ),
    "modelmeter.families.deepseek_ocr.network.decoder": (
        "DeepseekV2DecoderLayer",
        "DeepseekV2MLP",
        "DeepseekV2MoE",
        "DeepseekV2RMSNorm",
        "LlamaAttention",
        "LlamaRotaryEmbedding",
        "MoEGate",
    ),
    "modelmeter.families.deepseek_ocr.network.model": (
        "DeepseekOCRForCausalLM",
        "DeepseekOCRModel",
        "MlpProjector",
    ),
    "modelmeter.families.deepseek_ocr.network.sam": (
        "Attention",
        "Block",
        "ImageEncoderViT",
        "LayerNorm2d",
        "MLPBlock",
        "PatchEmbed",
    ),
    "torch.nn.modules.activation": (
        "GELU",
        "SiLU",
    ),
    "torch.nn.modules.container": ("Sequential",),
    "torch.nn.modules.conv": ("Conv2d",),
    "torch.nn.modules.linear": ("Linear",),
    "torch.nn.modules.normalization": ("LayerNorm",),
    "torch.nn.modules.sparse": ("Embedding",),
}

QUALIFIED = {name: f"{module}.{name}" for module, names in _DEFINED_IN.items() for name in names}
"""Class name to the name with its module."""
