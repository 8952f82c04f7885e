"""Values for what shape-only tensors cannot tell: indices, comparisons, counts, scalars.

Results that Python or later index arithmetic may need (integers and booleans computed from
shape-only floats) become real tensors whose values follow a rule; each use is noted as an assumption.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from attrs import define, field, frozen
from torch import Tensor

from modelmeter.routing import BalancedRouting, RecordedRouting, RoutingPolicy

Note = Callable[[str, str, tuple[int, ...], torch.dtype], None]
"""Takes operator, rule, shape and dtype of a value that was supplied."""

_COMPARISONS = frozenset("aten." + name for name in "eq ne lt le gt ge isnan isinf isneginf isposinf isin".split())
_FIRST_INDICES = frozenset("aten." + name for name in "topk kthvalue multinomial".split())
_PERMUTATIONS = frozenset("aten." + name for name in "sort argsort".split())
_TRUTHS = frozenset("aten." + name for name in "any all logical_or logical_and".split())
_ROUTERS = frozenset("aten." + name for name in "topk argmax sort argsort max".split())
_LAST_AXIS = _FIRST_INDICES | _PERMUTATIONS


@frozen
class Supplied:
    """Values for an integer or boolean result: one for all its elements, or a table."""

    rule: str
    value: int | bool = 0
    table: Callable[[], Tensor] | None = None
    routing: bool = False
    """A routing table; nothing can run without it, whatever its size."""


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

    def supply(self, name: str, result: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Supplied:
        """Values for an operator's integer or boolean result, and the rule that gave them."""
        shape = tuple(result.shape)
        axis = _axis(name, args, kwargs)
        if name in _ROUTERS and self._is_routing(args[0], axis):
            return Supplied(
                f"routing {self.routing.name}", table=lambda: self._experts(name, args[0], shape), routing=True
            )
        if name in _COMPARISONS:
            truth = _comparison(name, args)
            return Supplied("a thing equals itself" if truth else "comparisons are false", truth)
        if name == "aten._to_copy":
            return Supplied("floats are cast to 1", 1)
        if name in _TRUTHS:
            return Supplied("floats are true", True)
        if name in _LAST_AXIS:
            return Supplied("in order", table=lambda: _indices_along(shape, axis))
        if name == "aten.count_nonzero":
            return Supplied("floats are not zero", args[0].numel() // max(result.numel(), 1))
        return Supplied("zero")

    def _is_routing(self, scores: Tensor, axis: int | None) -> bool:
        return axis is not None and axis == scores.dim() - 1 and scores.shape[-1] in self.expert_counts

    def _experts(self, name: str, scores: Tensor, shape: tuple[int, ...]) -> Tensor:
        experts = scores.shape[-1]
        tokens = math.prod(scores.shape[:-1])
        whole = name in _PERMUTATIONS
        top_k = self._leading() if whole else shape[-1] if name == "aten.topk" else 1
        table = self.routing.table(tokens, experts, top_k, call=self.decision, forward=self.forward)
        self.decision += 1
        chosen = torch.from_numpy(table.copy())
        if whole:
            chosen = _completed(chosen, experts)
        return chosen.reshape(shape)

    def _leading(self) -> int:
        """How many experts of a full order the policy decides on; which ones are used shows only later."""
        return self.routing.tables[0].shape[1] if isinstance(self.routing, RecordedRouting) else 1

    def scalar(self, dtype: torch.dtype) -> tuple[Any, str]:
        """The value of one shape-only element."""
        if dtype == torch.bool:
            return False, "booleans are false"
        if dtype.is_floating_point:
            return 1.0, "floats are 1"
        if dtype.is_complex:
            return complex(1.0), "floats are 1"
        return 0, "integers are 0"


def _completed(leading: Tensor, experts: int) -> Tensor:
    """Orders of all experts [T, E] that begin with the given ones [T, K]: the others follow in a ring."""
    ring = (leading[:, -1:] + 1 + torch.arange(experts)) % experts
    taken = (ring[:, :, None] == leading[:, None, :]).any(dim=2)
    others = ring[~taken].view(leading.shape[0], experts - leading.shape[1])
    return torch.cat((leading, others), dim=1)


def _comparison(name: str, args: tuple[Any, ...]) -> bool:
    """Comparisons are false, except that a thing equals itself and is finite."""
    if name in ("aten.eq", "aten.le", "aten.ge"):
        return len(args) > 1 and is_same(args[0], args[1])
    if name == "aten.ne":
        other = args[1]
        return isinstance(other, float) and not math.isfinite(other)
    return False


def is_same(a: Any, b: Any) -> bool:
    """Whether two tensors are one, or the same view of one storage."""
    if a is b:
        return True
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or a.shape != b.shape or a.stride() != b.stride():
        return False
    same_storage = a.untyped_storage()._cdata == b.untyped_storage()._cdata
    return same_storage and a.storage_offset() == b.storage_offset()


def _axis(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """The axis that an operator chooses along; None if it has none, or flattens."""
    if not args or not isinstance(args[0], Tensor):
        return None
    position = 2 if name in ("aten.topk", "aten.kthvalue") else 1
    axis = kwargs.get("dim", args[position] if len(args) > position else None)
    if name in _PERMUTATIONS and isinstance(axis, bool):
        axis = kwargs.get("dim", -1)  # sort.stable takes no positional axis
    if axis is None or isinstance(axis, (bool, Tensor)) or name == "aten.multinomial":
        axis = -1 if name in _LAST_AXIS else None
    dims = args[0].dim()
    return axis % dims if isinstance(axis, int) and dims else None


def _indices_along(shape: tuple[int, ...], axis: int | None) -> Tensor:
    if not shape or axis is None or axis >= len(shape):
        return torch.zeros(shape, dtype=torch.int64)
    view = [1] * len(shape)
    view[axis] = shape[axis]
    return torch.arange(shape[axis]).view(view).expand(shape)
