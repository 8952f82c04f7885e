"""Models of transformers that a snapshot's code wants with flash-attn, which transformers itself looks for.

It would refuse them where the package or a GPU is missing. For the time of a block they take torch's fused
attention, which costs the same; the eager one where a model has no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock


@contextmanager
def flash_becomes_sdpa() -> Iterator[None]:
    """``attn_implementation="flash_attention_2"`` is ``sdpa`` for every model that is built in the block."""
    from transformers import PreTrainedModel

    def plain(model: Any) -> str:
        return "sdpa" if getattr(model, "_supports_sdpa", False) else "eager"

    def enable(cls: Any, config: Any, *_: Any, **__: Any) -> Any:
        config._attn_implementation = plain(cls)
        return config

    adjust = getattr(PreTrainedModel, "_check_and_adjust_attn_implementation", None)

    def adjusted(self: Any, wanted: str | None, *options: Any, **named: Any) -> Any:
        assert adjust is not None
        flash = wanted is not None and "flash_attention" in wanted
        return adjust(self, plain(self) if flash else wanted, *options, **named)

    # The releases since 4.46 ask in one of these two ways.
    changed: dict[str, Any] = {
        "_check_and_adjust_attn_implementation": adjusted,
        "_check_and_enable_flash_attn_2": classmethod(enable),
    }
    with ExitStack() as stack:
        for name, replacement in changed.items():
            if hasattr(PreTrainedModel, name):
                stack.enter_context(mock.patch.object(PreTrainedModel, name, replacement))
        yield
