"""torch's FlopCounterMode, and what it lacks: attention on the CPU by its own formulas, products with vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode

_ATEN = torch.ops.aten


def _raw(formula: Callable[..., int]) -> Callable[..., int]:
    """A formula that takes tensors, as those in torch's registry do."""

    def of_tensors(*args: Any, **kwargs: Any) -> int:
        return formula(*args, **kwargs)

    of_tensors._get_raw = True  # type: ignore[attr-defined]
    return of_tensors


def counting() -> FlopCounterMode:
    """A counter that prints nothing."""
    known = flop_counter.flop_registry
    lacking: dict[Any, Callable[..., int]] = {
        _ATEN._scaled_dot_product_flash_attention_for_cpu: known[_ATEN._scaled_dot_product_flash_attention],
        _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: known[
            _ATEN._scaled_dot_product_flash_attention_backward
        ],
        _ATEN.mv: lambda matrix, *_, **__: 2 * matrix.numel(),
        _ATEN.dot: lambda vector, *_, **__: 2 * vector.numel(),
        _ATEN.vdot: lambda vector, *_, **__: 2 * vector.numel(),
    }
    return FlopCounterMode(display=False, custom_mapping={name: _raw(formula) for name, formula in lacking.items()})
