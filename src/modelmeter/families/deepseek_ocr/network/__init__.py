"""The network in plain PyTorch, with the checkpoint's parameter and class names. Imports torch."""

from modelmeter.families.deepseek_ocr.network.cache import KeyValueCache
from modelmeter.families.deepseek_ocr.network.model import DeepseekOCRForCausalLM, ModelOutput

__all__ = ["DeepseekOCRForCausalLM", "KeyValueCache", "ModelOutput"]
