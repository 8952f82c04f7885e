"""Operators whose result has a size that depends on data: what they return by the value policy.

What is real in them stays real: a real mask selects its real positions, real counts repeat as they say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from modelmeter.tracing.weightless import WeightlessExecutor


def mask_positions(executor: WeightlessExecutor, operator: str, mask: Tensor) -> tuple[Tensor, ...]:
    """The positions that a boolean index selects, one tensor for each of the mask's axes."""
    return _nonzero(executor, operator, mask).unbind(1) if mask.dim() else (_nonzero(executor, operator, mask)[:, 0],)


def _nonzero(executor: WeightlessExecutor, operator: str, mask: Tensor) -> Tensor:
    if not executor.is_shape_only(mask):
        return mask.nonzero()
    if mask.dtype.is_floating_point or mask.dtype.is_complex:
        truth, rule = True, "floats are not zero"
    else:
        truth, rule = executor.value_of(mask)
    executor.note(operator, rule, tuple(mask.shape), mask.dtype)
    if not truth:
        return torch.empty(0, mask.dim(), dtype=torch.int64)
    return torch.ones((), dtype=torch.bool).expand(mask.shape).nonzero()


def _masked_select(executor: WeightlessExecutor, source: Tensor, mask: Tensor) -> Tensor:
    shape = torch.broadcast_shapes(source.shape, mask.shape)
    if executor.is_shape_only(mask):
        truth, rule = executor.value_of(mask)
        executor.note("aten.masked_select", rule, tuple(mask.shape), mask.dtype)
        mask = torch.full((), bool(truth))
    if not executor.is_shape_only(source):
        return source.expand(shape).masked_select(mask)
    count = int(mask.expand(shape).sum())
    return executor.shape_only(source).new_empty(count)


def _unique(executor: WeightlessExecutor, source: Tensor, *, inverse: bool, counts: bool) -> Any:
    """Every element differs from all others."""
    executor.note("aten.unique", "all elements differ", tuple(source.shape), source.dtype)
    size = source.numel()
    order = torch.arange(size).view(source.shape) if inverse else torch.empty(0, dtype=torch.int64)
    ones = torch.ones(size if counts else 0, dtype=torch.int64)
    return executor.shape_only(source).new_empty(size), order, ones


def _unique2(
    executor: WeightlessExecutor, source: Tensor, ordered: bool = True, inverse: bool = False, counts: bool = False
) -> Any:
    return _unique(executor, source, inverse=inverse, counts=counts)


def _unique_consecutive(
    executor: WeightlessExecutor, source: Tensor, inverse: bool = False, counts: bool = False, dim: int | None = None
) -> Any:
    if dim is not None:
        return _unique_dim(executor, source, dim, True, inverse, counts)
    return _unique(executor, source, inverse=inverse, counts=counts)


def _unique_dim(
    executor: WeightlessExecutor,
    source: Tensor,
    dim: int,
    ordered: bool = True,
    inverse: bool = False,
    counts: bool = False,
) -> Any:
    executor.note("aten.unique", "all elements differ", tuple(source.shape), source.dtype)
    size = source.shape[dim]
    ones = torch.ones(size, dtype=torch.int64)
    return executor.shape_only(source).new_empty(source.shape), torch.arange(size), ones


def _repeat_interleave(executor: WeightlessExecutor, repeats: Tensor, output_size: int | None = None) -> Tensor:
    if not executor.is_shape_only(repeats):
        return torch.repeat_interleave(repeats, output_size=output_size)
    value, rule = executor.value_of(repeats)
    executor.note("aten.repeat_interleave", rule, tuple(repeats.shape), repeats.dtype)
    if output_size is not None:
        return torch.arange(output_size) * repeats.numel() // max(output_size, 1)
    return torch.arange(repeats.numel()).repeat_interleave(int(value))


def _bincount(
    executor: WeightlessExecutor, source: Tensor, weights: Tensor | None = None, minlength: int = 0
) -> Tensor:
    """Weighed counts have values that depend on the weights, but a size that does not."""
    if executor.is_shape_only(source):
        value, rule = executor.value_of(source)
        executor.note("aten.bincount", rule, tuple(source.shape), source.dtype)
        source = torch.full(tuple(source.shape), int(value))
    counts = torch.bincount(source, minlength=minlength)
    if weights is None:
        return counts
    if not executor.is_shape_only(weights):
        return torch.bincount(source, weights, minlength)
    dtype = weights.dtype if weights.dtype == torch.float32 else torch.float64
    return executor.shape_only(weights).new_empty(counts.shape, dtype=dtype)


SIZED_BY_DATA: dict[str, Callable[..., Any]] = {
    "aten.nonzero": lambda executor, mask: _nonzero(executor, "aten.nonzero", mask),
    "aten.masked_select": _masked_select,
    "aten._unique2": _unique2,
    "aten.unique_consecutive": _unique_consecutive,
    "aten.unique_dim": _unique_dim,
    "aten.repeat_interleave": _repeat_interleave,
    "aten.bincount": _bincount,
}
"""Operator name to what makes its result: takes the executor and the operator's own arguments."""


def indices_for_masks(executor: WeightlessExecutor, operator: str, indices: Any) -> list[Any] | None:
    """Indices with the positions that boolean ones select in their place; None if there are no boolean ones."""
    found: list[Any] = []
    changed = False
    for index in indices:
        if isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8):
            found.extend(mask_positions(executor, operator, index))
            changed = True
        else:
            found.append(index)
    return found if changed else None
