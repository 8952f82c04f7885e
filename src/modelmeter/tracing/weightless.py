"""Weightless execution: real until it meets a weight.

Parameters are shape-only (torch's FakeTensor); everything else is real and computed for real.
Whatever touches a shape-only tensor is shape-only, except integers and booleans, which the value
policy supplies. A write of something shape-only into a real tensor makes that tensor's storage
shape-only from then on, for all its views.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from modelmeter.tracing.fast_paths import FAST_PATHS
from modelmeter.tracing.operators import Operator, describe_operator
from modelmeter.tracing.results import ResultCache
from modelmeter.tracing.shape_only import ShapeOnlyStorages, new_shape_only
from modelmeter.tracing.sized_by_data import SIZED_BY_DATA, indices_for_masks
from modelmeter.tracing.storage_map import StorageMap
from modelmeter.tracing.values import Note, Supplied, ValuePolicy, is_same
from modelmeter.tracing.writes import HIDDEN_WRITES, mutated_arguments

DEFAULT_REAL_LIMIT_BYTES = 64 * 2**20
"""A real result larger than this becomes shape-only: a 4096 x 4096 float32 mask still is real."""

_CPU = torch.device("cpu")
_INDEXING = frozenset("aten." + name for name in "index index_put index_put_ _index_put_impl_".split())
_UNIFORM = frozenset(
    "aten." + name
    for name in (
        "mul bitwise_and bitwise_or bitwise_xor bitwise_not logical_and logical_or logical_xor logical_not eq ne any "
        "all clone _to_copy"
    ).split()
)
"""Operators that make uniform tensors of uniform tensors, the same for one element as for many."""


def _zero(*_: Any) -> int:
    return 0


_CREATED: dict[str, Callable[..., Any]] = {
    "aten.zeros_like": _zero,
    "aten.new_zeros": _zero,
    "aten.ones_like": lambda *_: 1,
    "aten.new_ones": lambda *_: 1,
    "aten.full_like": lambda _, fill: fill,
    "aten.new_full": lambda _, __, fill: fill,
    # Nobody may rely on what is in these; zeros are the same in every run.
    "aten.empty_like": _zero,
    "aten.new_empty": _zero,
    "aten.new_empty_strided": _zero,
}
"""Operators that read a tensor's shape and dtype only: their integers and booleans have true values."""


class WeightlessExecutor:
    """Runs one dispatched operator after the other on real and shape-only tensors."""

    def __init__(
        self,
        mode: FakeTensorMode,
        policy: ValuePolicy,
        *,
        note: Note = lambda *_: None,
        on_alias: Callable[[Tensor, Tensor], None] = lambda *_: None,
        real_limit_bytes: int = DEFAULT_REAL_LIMIT_BYTES,
        building: bool = False,
    ) -> None:
        self.mode = mode
        self.policy = policy
        self.storages = ShapeOnlyStorages(mode, on_alias)
        self.note = note
        self.on_read: Callable[[Tensor], None] = lambda _: None
        """Called for a real tensor whose values Python reads as a whole."""
        self._results = ResultCache(mode)
        self._limit = real_limit_bytes
        self._building = building
        self._uniform: StorageMap[int | bool] = StorageMap()
        self._operators: dict[Any, Operator] = {}

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of an operator; in-place operators return the tensor that they were given."""
        operator = self._operators.get(func)
        if operator is None:
            operator = self._operators[func] = describe_operator(func)
        if operator.skipped:
            return _CPU if operator.name == "prim.device" else func(*args, **kwargs)
        if operator.stands_for:
            self.note(operator.name, operator.stands_for, tuple(args[0].shape), args[0].dtype)
        if not self.touches_shape_only(args, kwargs):
            if not operator.is_view and not operator.in_place and self._may_exceed(args, kwargs):
                return self._bounded(func, operator, args, kwargs)
            return func(*args, **kwargs)
        if operator.in_place:
            if torch.Tag.inplace_view in func.tags and not isinstance(args[0], FakeTensor):
                return self._rearranged(func, args, kwargs)
            written = mutated_arguments(func)
            if self._building and written == ((0, "self"),) and _is_initialised(func, args):
                return args[0]  # it has no values to set
            for position, name in written:
                self._taint(args[position] if position < len(args) else kwargs.get(name))
        elif operator.name in HIDDEN_WRITES:
            self._taint_hidden(HIDDEN_WRITES[operator.name], args)
        early = self._value(operator, args, kwargs)
        if early is not None:
            return early[0]
        originals: dict[int, Tensor] = {}
        if self.storages:
            args = tuple(self._substitute(value, originals) for value in args)
            kwargs = {name: self._substitute(value, originals) for name, value in kwargs.items()}
        if operator.name in _INDEXING:
            indices = indices_for_masks(self, operator.name, args[1])
            args = args if indices is None else (args[0], indices, *args[2:])
        result = self._results.run(func, operator, args, kwargs)
        return self._finish(func, operator, result, args, kwargs, originals)

    # -- arguments ---------------------------------------------------------------------------------

    def is_shape_only(self, tensor: Tensor) -> bool:
        """Whether a tensor has no values: by its type, or because something shape-only was written into it."""
        return isinstance(tensor, FakeTensor) or self.storages.holds(tensor)

    def shape_only(self, tensor: Tensor) -> Tensor:
        """The shape-only tensor that stands for one without values."""
        return tensor if isinstance(tensor, FakeTensor) else self.storages.stand_in(tensor)

    def view_of(
        self,
        storage: torch.UntypedStorage,
        offset: int,
        shape: tuple[int, ...],
        stride: tuple[int, ...],
        dtype: torch.dtype,
    ) -> Tensor:
        """A shape-only tensor on a shape-only storage."""
        return self._results.view_of(storage, offset, shape, stride, dtype)

    def touches_shape_only(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether any argument of an operator has no values."""
        tainted = self.storages if self.storages else None
        for value in (*args, *kwargs.values()) if kwargs else args:
            if isinstance(value, Tensor):
                if isinstance(value, FakeTensor) or (tainted is not None and tainted.holds(value)):
                    return True
            elif isinstance(value, (list, tuple)):
                for item in value:
                    if isinstance(item, FakeTensor) or (
                        tainted is not None and isinstance(item, Tensor) and tainted.holds(item)
                    ):
                        return True
        return False

    def _taint(self, value: Any) -> None:
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(item, Tensor) and not isinstance(item, FakeTensor):
                self.storages.taint(item)

    def _taint_hidden(self, positions: tuple[int, ...], args: tuple[Any, ...]) -> None:
        if args[positions[-1] + 1]:
            for position in positions:
                self._taint(args[position])

    def _rearranged(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An in-place view or resize of a tensor that became shape-only: its own shape is real."""
        if any(isinstance(value, FakeTensor) for value in args[1:]):
            self.storages.taint(args[0])
            return args[0]
        result = func(*args, **kwargs)
        self.storages.taint(result)
        return result

    def _substitute(self, value: Any, originals: dict[int, Tensor]) -> Any:
        if isinstance(value, Tensor):
            if not isinstance(value, FakeTensor) and self.storages.holds(value):
                stand_in = self.storages.stand_in(value)
                originals[id(stand_in)] = value
                return stand_in
            return value
        if type(value) in (list, tuple):
            return type(value)(self._substitute(item, originals) for item in value)
        return value

    # -- values ------------------------------------------------------------------------------------

    def uniform_of(self, tensor: Tensor) -> int | bool | None:
        """The value that all elements of a shape-only integer or boolean tensor are known to have."""
        return self._uniform.get(self.shape_only(tensor)) if self._uniform else None

    def set_uniform(self, tensor: Tensor, value: int | bool) -> None:
        """All elements of a shape-only tensor have this value."""
        self._uniform.set(tensor, value)

    def value_of(self, tensor: Tensor) -> tuple[Any, str]:
        """The value that all elements of a shape-only tensor have, and the rule that gave it."""
        held = self.uniform_of(tensor)
        return (held, "as it was computed") if held is not None else self.policy.scalar(tensor.dtype)

    def readable(self, tensor: Tensor, operation: str) -> Tensor:
        """A real tensor for whatever Python reads as a whole (``numpy``, ``tolist``)."""
        if not self.is_shape_only(tensor):
            self.on_read(tensor)
            return tensor
        value, rule = self.value_of(tensor)
        self.note(operation, rule, tuple(tensor.shape), tensor.dtype)
        return torch.full(tuple(tensor.shape), value, dtype=tensor.dtype)

    def data_for(self, tensor: Tensor, value: Tensor) -> Tensor:
        """What ``tensor.data`` can be set to in place of a value; both must be real, or both shape-only."""
        if isinstance(tensor, FakeTensor):
            if self.is_shape_only(value):
                return self.shape_only(value)
            return new_shape_only(self.mode, tuple(value.shape), value.stride(), value.dtype)
        if not isinstance(value, FakeTensor):
            return value
        real = torch.empty_strided(tuple(value.shape), value.stride(), dtype=value.dtype)
        self.storages.taint(real)
        return real

    def _value(self, operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any] | None:
        """Operators that torch cannot run without values: what they return by the policy."""
        name = operator.name
        if name in ("aten._local_scalar_dense", "aten.is_nonzero"):
            value, rule = self.value_of(args[0])
            self.note(name, rule, tuple(args[0].shape), args[0].dtype)
            return (value if name == "aten._local_scalar_dense" else bool(value),)
        if name in ("aten.equal", "aten.allclose"):
            same = is_same(args[0], args[1])
            rule = "a thing equals itself" if same else "comparisons are false"
            self.note(name, rule, tuple(args[0].shape), args[0].dtype)
            return (same,)
        if name in SIZED_BY_DATA and not operator.in_place:
            return (SIZED_BY_DATA[name](self, *args, **kwargs),)
        if name in FAST_PATHS:
            args = tuple(self._substitute(value, {}) for value in args)
            return (FAST_PATHS[name](self.mode, *args, **kwargs),)
        return None

    # -- results -----------------------------------------------------------------------------------

    def _finish(
        self,
        func: Any,
        operator: Operator,
        result: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        originals: dict[int, Tensor],
    ) -> Any:
        if isinstance(result, Tensor):
            if originals and id(result) in originals:
                return originals[id(result)]
            if operator.is_view or operator.in_place or not isinstance(result, FakeTensor):
                return result
            return self._with_values(func, operator, result, args, kwargs)
        if not isinstance(result, (list, tuple)):
            return result
        items: list[Any] = []
        for item in result:
            if id(item) in originals:
                items.append(originals[id(item)])
            elif isinstance(item, FakeTensor) and not operator.is_view and not operator.in_place:
                items.append(self._with_values(func, operator, item, args, kwargs))
            else:
                items.append(item)
        # Decompositions give named tuples; the operator itself gives plain ones.
        return items if isinstance(result, list) else tuple(items)

    def _with_values(
        self, func: Any, operator: Operator, result: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        """An integer or boolean result with values, up to the limit; floats stay as they are."""
        dtype = result.dtype
        if dtype.is_floating_point or dtype.is_complex:
            return result
        name = operator.name
        if name in _CREATED:
            fill = _CREATED[name](*args)
            supplied = None if isinstance(fill, Tensor) else Supplied("", fill)
            assumed = False
        elif _reads_floats(args, kwargs):
            supplied, assumed = self.policy.supply(name, result, args, kwargs), True
        else:
            supplied, assumed = self._carried(func, name, args, kwargs), True
        if supplied is None:
            return result
        rule = supplied.rule
        above = result.numel() * result.element_size() > self._limit and not supplied.routing
        if above:
            if supplied.table is None:
                self._uniform.set(result, supplied.value)
            rule, assumed = f"above {self._limit} bytes, so shape-only", True
        if assumed:
            self.note(name, rule, tuple(result.shape), dtype)
        if above:
            return result
        real = torch.empty_strided(tuple(result.shape), result.stride(), dtype=dtype)
        return real.fill_(supplied.value) if supplied.table is None else real.copy_(supplied.table())

    def _carried(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Supplied | None:
        """What an operator makes of uniform integers and booleans: worked out on one element."""
        if name not in _UNIFORM or not self._uniform:
            return None
        single: list[Any] = []
        for value in args:
            if isinstance(value, FakeTensor):
                held = self._uniform.get(value)
                if held is None:
                    return None
                value = torch.full((1,) * value.dim(), held, dtype=value.dtype)
            elif isinstance(value, Tensor) and value.numel() != 1:
                return None
            single.append(value)
        return Supplied("as it was computed", func(*single, **kwargs).flatten()[0].item())

    def _may_exceed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a real result could be above the limit: a cheap bound, never too low for broadcasts."""
        bound: float = 8
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor):
                bound *= max(value.numel(), 1)
            elif isinstance(value, (list, tuple)):
                for item in value:
                    if isinstance(item, Tensor):
                        bound *= max(item.numel(), 1)
                    elif type(item) is int and item > 1:
                        bound *= item
            elif type(value) in (int, float) and value > 1:
                bound *= value
        return bound > self._limit

    def _bounded(self, func: Any, operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run for real what stays within the limit, shape-only what does not."""
        try:
            with self.mode:
                shape_only = func(*args, **kwargs)
        except Exception:
            return func(*args, **kwargs)  # its size depends on its values
        results = shape_only if isinstance(shape_only, (list, tuple)) else (shape_only,)
        tensors = [result for result in results if isinstance(result, Tensor)]
        if sum(math.prod(tensor.shape) * tensor.element_size() for tensor in tensors) <= self._limit:
            return func(*args, **kwargs)
        for tensor in tensors:
            self.note(operator.name, f"above {self._limit} bytes, so shape-only", tuple(tensor.shape), tensor.dtype)
        return shape_only


def _reads_floats(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a result depends on shape-only floats, not only on integers that have no values either."""
    for value in (*args, *kwargs.values()):
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(item, FakeTensor) and (item.dtype.is_floating_point or item.dtype.is_complex):
                return True
    return False


def _is_initialised(func: Any, args: tuple[Any, ...]) -> bool:
    return isinstance(args[0], FakeTensor) and torch.Tag.inplace_view not in func.tags


class WeightlessMode(TorchDispatchMode):
    """Weightless execution and nothing else: what a trace is measured against."""

    def __init__(self, executor: WeightlessExecutor) -> None:
        super().__init__()
        self.executor = executor

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and the guard costs as much as an operator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():
            return self.executor.run(func, args, kwargs or {})
