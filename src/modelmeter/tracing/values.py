"""Values for what shape-only tensors cannot tell: indices, comparisons, counts, scalars.

Results that Python or later index arithmetic may need (integers and booleans computed from
shape-only floats) become real tensors whose values follow a rule; each use is noted as an assumption.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from attrs import define, field
from torch import Tensor

from modelmeter.routing import BalancedRouting, RoutingPolicy

Note = Callable[[str, str, tuple[int, ...], torch.dtype], None]
"""Takes operator, rule, shape and dtype of a value that was supplied."""

_COMPARISONS = frozenset("aten." + name for name in "eq ne lt le gt ge isnan isinf isneginf isposinf isin".split())
_FIRST_INDICES = frozenset("aten." + name for name in "topk kthvalue multinomial".split())
_PERMUTATIONS = frozenset("aten." + name for name in "sort argsort".split())
_TRUTHS = frozenset("aten." + name for name in "any all logical_or logical_and".split())


@define
class ValuePolicy:
    """Supplies values by rules, and experts by the routing policy.

    ``expert_counts`` are the numbers of experts that the model's routers choose among: a top-k,
    arg-max or sort along an axis of such a length follows the routing policy.
    """

    routing: RoutingPolicy = field(factory=BalancedRouting)
    expert_counts: frozenset[int] = frozenset()
    forward: int = 0
    decision: int = 0

    def begin_forward(self, index: int) -> None:
        """Routing decisions are numbered from 0 again in every forward."""
        self.forward = index
        self.decision = 0

    def integer_result(
        self, name: str, result: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Tensor, str]:
        """A real tensor shaped like an integer or boolean result, and the rule that gave its values."""
        shape = tuple(result.shape)
        chosen = self._experts(name, shape, args, kwargs)
        if chosen is not None:
            return chosen.to(result.dtype), f"routing {self.routing.name}"
        if name in _COMPARISONS:
            truth = _comparison(name, args)
            return torch.full(
                shape, truth, dtype=result.dtype
            ), "a thing equals itself" if truth else "comparisons are false"
        if name == "aten._to_copy":
            return torch.ones(shape, dtype=result.dtype), "floats are cast to 1"
        if name in _TRUTHS:
            return torch.ones(shape, dtype=result.dtype), "floats are true"
        if name in _PERMUTATIONS or name in _FIRST_INDICES:
            return _indices_along(shape, _axis(name, args, kwargs, len(shape)), result.dtype), "in order"
        if name == "aten.count_nonzero":
            return torch.full(
                shape, args[0].numel() // max(result.numel(), 1), dtype=result.dtype
            ), "floats are not zero"
        return torch.zeros(shape, dtype=result.dtype), "zero"

    def _experts(
        self, name: str, shape: tuple[int, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor | None:
        if name not in ("aten.topk", "aten.argmax", "aten.sort", "aten.argsort", "aten.max") or not self.expert_counts:
            return None
        scores = args[0]
        axis = _axis(name, args, kwargs, scores.dim())
        if axis is None or scores.dim() < 1 or axis != scores.dim() - 1 or scores.shape[-1] not in self.expert_counts:
            return None
        experts = scores.shape[-1]
        tokens = math.prod(scores.shape[:-1])
        top_k = shape[-1] if name in ("aten.topk", "aten.sort", "aten.argsort") else 1
        table = self.routing.table(tokens, experts, top_k, call=self.decision, forward=self.forward)
        self.decision += 1
        return torch.from_numpy(table.copy()).reshape(shape)

    def scalar(self, dtype: torch.dtype) -> tuple[Any, str]:
        """The value of one shape-only element."""
        if dtype == torch.bool:
            return False, "booleans are false"
        if dtype.is_floating_point:
            return 1.0, "floats are 1"
        if dtype.is_complex:
            return complex(1.0), "floats are 1"
        return 0, "integers are 0"

    def whole(self, tensor: Tensor) -> tuple[Tensor, str]:
        """A real tensor for a shape-only one that Python reads as a whole."""
        value, rule = self.scalar(tensor.dtype)
        return torch.full(tuple(tensor.shape), value, dtype=tensor.dtype), rule


def _comparison(name: str, args: tuple[Any, ...]) -> bool:
    """Comparisons are false, except that a thing equals itself and is finite."""
    if name in ("aten.eq", "aten.le", "aten.ge"):
        return len(args) > 1 and _same(args[0], args[1])
    if name == "aten.ne":
        other = args[1]
        return isinstance(other, float) and not math.isfinite(other)
    return False


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or a.shape != b.shape or a.stride() != b.stride():
        return False
    same_storage = a.untyped_storage()._cdata == b.untyped_storage()._cdata
    return same_storage and a.storage_offset() == b.storage_offset()


def _axis(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], dims: int) -> int | None:
    position = 2 if name in ("aten.topk", "aten.kthvalue") else 1
    axis = kwargs.get("dim", args[position] if len(args) > position else None)
    if name in ("aten.sort", "aten.argsort") and isinstance(axis, bool):
        axis = kwargs.get("dim", -1)
    if axis is None:
        if name in ("aten.topk", "aten.sort", "aten.argsort", "aten.kthvalue", "aten.multinomial"):
            axis = -1
        else:
            return None
    return axis % dims if dims else 0


def _indices_along(shape: tuple[int, ...], axis: int | None, dtype: torch.dtype) -> Tensor:
    if not shape or axis is None or axis >= len(shape):
        return torch.zeros(shape, dtype=dtype)
    view = [1] * len(shape)
    view[axis] = shape[axis]
    return torch.arange(shape[axis], dtype=dtype).view(view).expand(shape).clone()
