"""Architectures by name: a model type, or a model's class."""

from __future__ import annotations

from typing import Any

from modelmeter.errors import UnknownNameError, require_extra


def source_of_name(name: str) -> dict[str, Any]:
    """The configuration that a name stands for: ``qwen3_moe``, or a class such as ``Qwen3MoeForCausalLM``.

    Raises UnknownNameError with the nearest model type for anything else.
    """
    try:
        import transformers
    except ImportError:
        raise require_extra("trace", "transformers") from None
    if name in transformers.CONFIG_MAPPING:
        return {"model_type": name}
    found = getattr(transformers, name, None) if name.isidentifier() else None
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel) and found.config_class is not None:
        return {"model_type": found.config_class.model_type, "architectures": [name]}
    raise UnknownNameError("architecture", name, transformers.CONFIG_MAPPING)
