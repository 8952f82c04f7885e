"""What generation gives a forward besides token ids, and a forward of its own accord does without, or not.

transformers' own models of today make a cache and a mask themselves. Those before 4.48 took and returned tuples
unless they were given a cache, and vendors' code may rely on the mask too: ``generate`` always gives both.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from modelmeter.tracing.hugging_face.remote_code import is_own_code


def first_cache(module: nn.Module) -> dict[str, Any]:
    """An empty cache for the first forward of a module that asks for one; empty where a module makes its own."""
    from transformers import DynamicCache

    # An attribute of that time says that a module takes one, a method whether it is one of the plain kind.
    plain = getattr(module, "_supports_default_dynamic_cache", lambda: True)
    wanted = getattr(module, "_supports_cache_class", False) and plain()
    generates = getattr(module.config, "use_cache", False) and not getattr(module.config, "is_encoder_decoder", False)
    return {"past_key_values": DynamicCache()} if wanted and generates and _takes(module, "past_key_values") else {}


def mask(module: nn.Module, arguments: Mapping[str, Any], step: int) -> dict[str, Any]:
    """The attention mask [B, positions] of a snapshot's own code: every token counts; empty for all other modules.

    ``step`` is 0 for the prefill. A mask among the user's own inputs goes on with ones.
    """
    prompt = arguments.get("input_ids")
    if not is_own_code(module) or prompt is None or prompt.dim() != 2 or not _takes(module, "attention_mask"):
        return {}
    given = arguments.get("attention_mask")
    given = torch.ones_like(prompt) if given is None else given
    return {"attention_mask": torch.cat((given, given.new_ones(prompt.shape[0], step)), dim=1)}


def _takes(module: nn.Module, argument: str) -> bool:
    return argument in inspect.signature(type(module).forward).parameters
