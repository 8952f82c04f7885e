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

from modelmeter.tracing.operators import Operator, describe_operator
from modelmeter.tracing.results import ResultCache
from modelmeter.tracing.shape_only import ShapeOnlyStorages
from modelmeter.tracing.values import Note, ValuePolicy

DEFAULT_REAL_LIMIT_BYTES = 64 * 2**20
"""A real result larger than this becomes shape-only: a 4096 x 4096 float32 mask still is real."""

_CPU = torch.device("cpu")


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
        self._results = ResultCache(mode)
        self._note = note
        self._limit = real_limit_bytes
        self._building = building
        self._constants: dict[int, tuple[torch.UntypedStorage, Any]] = {}
        self._operators: dict[Any, Operator] = {}
        self._mutated: dict[Any, tuple[tuple[int, str], ...]] = {}

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of an operator; in-place operators return the tensor that they were given."""
        operator = self._operators.get(func)
        if operator is None:
            operator = self._operators[func] = describe_operator(func)
            self._mutated[func] = _mutated_arguments(func)
        if operator.skipped:
            return _CPU if operator.name == "prim.device" else func(*args, **kwargs)
        if not self._touches_shape_only(args, kwargs):
            if self._may_exceed(args, kwargs) and not operator.is_view and not operator.in_place:
                return self._bounded(func, operator, args, kwargs)
            return func(*args, **kwargs)
        if self._building and operator.in_place and not kwargs.get("out") and isinstance(args[0], FakeTensor):
            return args[0]  # initialisation of a parameter: it has no values to set
        for position, name in self._mutated[func]:
            self._taint(args[position] if position < len(args) else kwargs.get(name))
        early = self._value(operator, args, kwargs)
        if early is not None:
            return early[0]
        originals: dict[int, Tensor] = {}
        if self.storages:
            args = self._substitute(args, originals)
            kwargs = {name: self._substitute(value, originals) for name, value in kwargs.items()}
        args = self._real_masks(operator, args)
        result = self._results.run(func, operator, args, kwargs)
        return self._finish(operator, result, args, kwargs, originals)

    # -- arguments ---------------------------------------------------------------------------------

    def _touches_shape_only(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
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

    def _real_masks(self, operator: Operator, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Boolean indices as the positions that they select; shape-only ones by the policy's value."""
        if operator.name not in ("aten.index", "aten.index_put", "aten.index_put_", "aten._index_put_impl_"):
            return args
        indices: list[Any] = []
        changed = False
        for index in args[1]:
            if isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8):
                indices.extend(self._positions(operator, index))
                changed = True
            else:
                indices.append(index)
        return (args[0], indices, *args[2:]) if changed else args

    def _positions(self, operator: Operator, mask: Tensor) -> tuple[Tensor, ...]:
        if not isinstance(mask, FakeTensor):
            return mask.nonzero().unbind(1)
        truth, rule = self._constant(mask)
        self._note(operator.name, f"mask: {rule}", tuple(mask.shape), mask.dtype)
        if not truth:
            return tuple(torch.empty(0, dtype=torch.int64) for _ in range(mask.dim()))
        flat = torch.arange(mask.numel())
        return torch.unravel_index(flat, tuple(mask.shape))

    # -- values ------------------------------------------------------------------------------------

    def _constant(self, tensor: Tensor) -> tuple[Any, str]:
        held = self._constants.get(tensor.untyped_storage()._cdata)
        return (held[1], "as it was computed") if held is not None else self.policy.scalar(tensor.dtype)

    def _value(self, operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any] | None:
        """Operators that torch cannot run without values: what they return by the policy."""
        name = operator.name
        if name == "aten._local_scalar_dense":
            value, rule = self._constant(self._shape_only(args[0]))
            self._note(name, rule, tuple(args[0].shape), args[0].dtype)
            return (value,)
        if name == "aten.is_nonzero":
            return (bool(self._constant(self._shape_only(args[0]))[0]),)
        if name == "aten.equal":
            same = args[0] is args[1]
            self._note(name, "comparisons are false", tuple(args[0].shape), args[0].dtype)
            return (same,)
        if name in ("aten.nonzero", "aten.masked_select", "aten._unique2", "aten.repeat_interleave"):
            return self._sized_by_data(name, args, kwargs)
        return None

    def _sized_by_data(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any] | None:
        source = args[0]
        if name == "aten.masked_select":
            (positions,) = self._positions_of_all(
                args[1].expand(source.shape) if args[1].shape != source.shape else args[1]
            )
            originals: dict[int, Tensor] = {}
            return (self._substitute(source, originals).new_empty(positions),)
        if name == "aten.repeat_interleave" and len(args) == 1:
            self._note(name, "counts are 1", tuple(source.shape), source.dtype)
            return (torch.arange(source.numel()),)
        if name == "aten.nonzero":
            mask = self._shape_only(source)
            truth, rule = (True, "floats are not zero") if mask.dtype.is_floating_point else self._constant(mask)
            self._note(name, rule, tuple(mask.shape), mask.dtype)
            if not truth:
                return (torch.empty(0, mask.dim(), dtype=torch.int64),)
            flat = torch.arange(mask.numel())
            return (torch.stack(torch.unravel_index(flat, tuple(mask.shape)), dim=1),)
        if name == "aten._unique2":
            self._note(name, "all elements differ", tuple(source.shape), source.dtype)
            count = source.numel()
            originals = {}
            values = self._substitute(source, originals).new_empty(count)
            order = torch.arange(count).view(tuple(source.shape))
            return ((values, order, torch.ones(count, dtype=torch.int64)),)
        return None

    def _positions_of_all(self, mask: Tensor) -> tuple[int]:
        if not isinstance(mask, FakeTensor) and not self.storages.holds(mask):
            return (int(mask.sum().item()),)
        truth, rule = self._constant(self._shape_only(mask))
        self._note("aten.masked_select", f"mask: {rule}", tuple(mask.shape), mask.dtype)
        return (mask.numel() if truth else 0,)

    def _shape_only(self, tensor: Tensor) -> Tensor:
        return self.storages.stand_in(tensor) if not isinstance(tensor, FakeTensor) else tensor

    def readable(self, tensor: Tensor, operation: str) -> Tensor:
        """A real tensor for whatever Python reads as a whole (``numpy``, ``tolist``)."""
        if not isinstance(tensor, FakeTensor) and not self.storages.holds(tensor):
            return tensor
        value, rule = self._constant(self._shape_only(tensor))
        self._note(operation, rule, tuple(tensor.shape), tensor.dtype)
        return torch.full(tuple(tensor.shape), value, dtype=tensor.dtype)

    # -- results -----------------------------------------------------------------------------------

    def _finish(
        self,
        operator: Operator,
        result: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        originals: dict[int, Tensor],
    ) -> Any:
        if originals and isinstance(result, Tensor) and id(result) in originals:
            return originals[id(result)]
        if operator.is_view or operator.in_place:
            return result
        if isinstance(result, FakeTensor):
            return self._with_values(operator, result, args, kwargs)
        if isinstance(result, (list, tuple)):
            items = [
                self._with_values(operator, item, args, kwargs) if isinstance(item, FakeTensor) else item
                for item in result
            ]
            return type(result)(items) if type(result) in (list, tuple) else type(result)(*items)
        return result

    def _with_values(self, operator: Operator, result: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        dtype = result.dtype
        if (
            dtype.is_floating_point
            or dtype.is_complex
            or operator.name in _NO_VALUES
            or not _reads_floats(args, kwargs)
        ):
            return result
        if result.numel() * result.element_size() > self._limit:
            if dtype == torch.bool:
                storage = result.untyped_storage()
                value, _ = self.policy.integer_result(operator.name, result.new_empty(()), args, kwargs)
                self._constants[storage._cdata] = (storage, bool(value.item()))
            return result
        real, rule = self.policy.integer_result(operator.name, result, args, kwargs)
        self._note(operator.name, rule, tuple(result.shape), dtype)
        if real.stride() != result.stride():
            laid_out = torch.empty_strided(tuple(result.shape), result.stride(), dtype=dtype)
            real = laid_out.copy_(real)
        return real

    def _may_exceed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a real result could be above the limit: a cheap bound, never too low for broadcasts."""
        bound = 8
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor):
                bound *= max(value.numel(), 1)
            elif isinstance(value, (list, tuple)):
                for item in value:
                    if isinstance(item, Tensor):
                        bound *= max(item.numel(), 1)
                    elif type(item) is int and item > 1:
                        bound *= item
            elif type(value) is int and value > 1:
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
        size = sum(math.prod(r.shape) * r.element_size() for r in results if isinstance(r, Tensor))
        if size <= self._limit:
            return func(*args, **kwargs)
        self._note(
            operator.name,
            f"above {self._limit} bytes, so shape-only",
            tuple(results[0].shape),
            results[0].dtype,
        )
        return shape_only


_NO_VALUES = frozenset("aten." + n for n in "empty empty_like empty_strided new_empty new_empty_strided".split())
"""Operators whose integer results have no meaning yet."""


def _reads_floats(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a result depends on shape-only floats, not only on integers that have no values either."""
    for value in (*args, *kwargs.values()):
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(item, FakeTensor) and (item.dtype.is_floating_point or item.dtype.is_complex):
                return True
    return False


def _mutated_arguments(func: Any) -> tuple[tuple[int, str], ...]:
    return tuple(
        (position, argument.name)
        for position, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )


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
