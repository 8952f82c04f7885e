"""Remembers the shape, strides and dtype of operator results, by the shapes that went in.

FakeTensorMode works out each result anew, or finds it in a cache whose keys cost more than most
results. A model repeats few distinct calls; here each is worked out once by FakeTensorMode and then
made directly. What depends on values, moves metadata in place or is not understood is not remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from modelmeter.tracing.operators import Operator

_CPU = torch.device("cpu")
_NOT_REMEMBERED_TAGS = (
    torch.Tag.data_dependent_output,
    torch.Tag.dynamic_output_shape,
    torch.Tag.inplace_view,
)
_NOT_REMEMBERED = frozenset(
    "aten." + name
    for name in (
        "as_strided as_strided_ set_ resize_ _conj _neg_view view_as_real view_as_complex real imag bincount".split()
    )
)

_Meta = tuple[tuple[int, ...], tuple[int, ...], int, torch.dtype]
_IN_PLACE = "in place"


class _Maker:
    """Makes FakeTensors of one mode, each like the first: its constructor would do most of the work anew."""

    def __init__(self, mode: FakeTensorMode) -> None:
        self._attributes = dict(vars(FakeTensor(mode, torch.empty(0, device="meta"), _CPU)))

    def __call__(self, meta: Tensor) -> FakeTensor:
        made = torch.Tensor._make_subclass(FakeTensor, meta, False, dispatch_device=True, device_for_backend_keys=_CPU)
        torch._C._set_throw_on_mutable_data_ptr(made)
        made.__dict__.update(self._attributes)
        return made


class ResultCache:
    """Results of dispatched operators on shape-only tensors of one mode."""

    def __init__(self, mode: FakeTensorMode) -> None:
        self._mode = mode
        self._make_fake = _Maker(mode)
        self._known: dict[Any, Any] = {}
        self._allowed: dict[Any, bool] = {}

    def run(self, func: Any, operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of an operator, from memory where its shapes were seen before."""
        allowed = self._allowed.get(func)
        if allowed is None:
            allowed = self._allowed[func] = _may_be_remembered(func, operator)
        if not allowed:
            return self._mode.dispatch(func, (), args, kwargs)
        key = _key(func, args, kwargs)
        known = self._known.get(key)
        if known is None:
            result = self._mode.dispatch(func, (), args, kwargs)
            self._known[key] = self._remember(operator, result, args) or ()
            return result
        if known == ():
            return self._mode.dispatch(func, (), args, kwargs)
        if known is _IN_PLACE:
            return args[0]
        kind, metas = known
        storage = args[0].untyped_storage() if operator.is_view else None
        base = args[0].storage_offset() if operator.is_view else 0
        results = [None if meta is None else self._make(meta, storage, base) for meta in metas]
        return results[0] if kind is None else kind(results)

    def view_of(
        self,
        storage: torch.UntypedStorage,
        offset: int,
        shape: tuple[int, ...],
        stride: tuple[int, ...],
        dtype: torch.dtype,
    ) -> FakeTensor:
        """A shape-only tensor on a shape-only storage."""
        return self._make((shape, stride, offset, dtype), storage, 0)

    def _make(self, meta: _Meta, storage: torch.UntypedStorage | None, base: int) -> FakeTensor:
        shape, stride, offset, dtype = meta
        if storage is None:
            return self._make_fake(torch.empty_strided(shape, stride, dtype=dtype, device="meta"))
        view = torch.empty(0, dtype=dtype, device="meta")
        return self._make_fake(view.set_(storage, base + offset, shape, stride))

    def _remember(self, operator: Operator, result: Any, args: tuple[Any, ...]) -> Any:
        if operator.in_place:
            return _IN_PLACE if result is args[0] else None
        kind = None if isinstance(result, Tensor) else type(result)
        if kind not in (None, tuple, list):
            return None
        source = args[0] if args else None
        base = int(source.storage_offset()) if operator.is_view and isinstance(source, FakeTensor) else 0
        if operator.is_view and not isinstance(source, FakeTensor):
            return None
        given = () if operator.is_view else tuple(_storages(args))
        metas: list[_Meta | None] = []
        for item in (result,) if kind is None else result:
            if item is None:
                metas.append(None)
                continue
            if not isinstance(item, FakeTensor) or (operator.is_view and item.dtype != args[0].dtype):
                return None
            whole = item.untyped_storage().nbytes() == item.numel() * item.element_size()
            if not operator.is_view and (item.storage_offset() or not whole):
                return None
            if item.untyped_storage()._cdata in given:
                return None  # an argument handed back
            metas.append((tuple(item.shape), item.stride(), int(item.storage_offset()) - base, item.dtype))
        return kind, metas


def _storages(args: tuple[Any, ...]) -> Iterator[int]:
    for value in args:
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(item, Tensor):
                yield item.untyped_storage()._cdata


def _may_be_remembered(func: Any, operator: Operator) -> bool:
    if operator.name in _NOT_REMEMBERED or any(tag in func.tags for tag in _NOT_REMEMBERED_TAGS):
        return False
    if operator.name.partition(".")[0] != "aten":
        return False
    returns = func._schema.returns
    if operator.in_place:
        mutated = [a for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        return len(mutated) == 1 and mutated[0] is func._schema.arguments[0] and len(returns) == 1
    return True


def _key(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    parts: list[Any] = [func]
    for value in args:
        if isinstance(value, Tensor):
            parts.append((value.shape, value.stride(), value.dtype))
        elif isinstance(value, (list, tuple)):
            parts.append(tuple((v.shape, v.stride(), v.dtype) if isinstance(v, Tensor) else v for v in value))
        else:
            parts.append(type(value))
            parts.append(value)
    for name, value in kwargs.items():
        parts.append(name)
        if isinstance(value, Tensor):
            parts.append((value.shape, value.stride(), value.dtype))
        elif isinstance(value, (list, tuple)):
            parts.append(tuple((v.shape, v.stride(), v.dtype) if isinstance(v, Tensor) else v for v in value))
        else:
            parts.append(type(value))
            parts.append(value)
    return tuple(parts)
