"""What a call returned, kept without its tensors, and made again from the arguments of another call."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import Any

import torch
from attrs import evolve, frozen
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from modelmeter.tracing.replay_description import (
    PLAIN,
    REAL,
    SHAPE_ONLY,
    TAINTED,
    CannotDescribeError,
    Description,
)
from modelmeter.tracing.replay_journal import Names
from modelmeter.tracing.signatures import is_cache
from modelmeter.tracing.storages import Birth, StorageTracker
from modelmeter.tracing.weightless import WeightlessExecutor

MOST_CONTENT_BYTES = 16 * 2**20
"""Real results are kept up to this size."""


@frozen
class Argument:
    """A tensor that the call was given, handed back."""

    number: int


@frozen
class View:
    """A tensor on the storage of an argument (by the argument's number) or on a new storage (by its serial)."""

    storage: int
    is_new: bool
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


@frozen
class NewStorage:
    """A storage that a call made and that outlives it; ``content`` is a copy of its bytes if it is real."""

    kind: str
    size: int
    birth: Birth | None
    uniform: int | bool | None
    content: Tensor | None


class Results:
    """The results of one recorded call, as nested parts.

    ``after`` describes what the call could see when it had run; storages from ``first_new`` on are its own.
    Raises CannotDescribeError for what could not be made again.
    """

    def __init__(
        self, values: Any, after: Description, first_new: int, tracker: StorageTracker, executor: WeightlessExecutor
    ) -> None:
        self.storages: dict[int, NewStorage] = {}
        self._tensors: list[Argument | View] = []
        reader = _Reader(self.storages, self._tensors, after, first_new, tracker, executor)
        self._whole = reader.part(values)
        self.storages = dict(sorted(self.storages.items()))

    def make(
        self, description: Description, tracker: StorageTracker, executor: WeightlessExecutor, names: Names
    ) -> Any:
        """The same results for the call that a description is of; their storages count as live from now on."""
        made: dict[int, Tensor] = {}
        for serial, new in self.storages.items():
            base = _new_base(new)
            tracker.adopt(base, None if new.birth is None else _renamed(new.birth, names))
            if new.kind is TAINTED:
                executor.storages.taint(base)
            if new.uniform is not None:
                executor.set_uniform(base, new.uniform)
            made[serial] = base
        tensors = [_tensor(recipe, description, made, executor) for recipe in self._tensors]
        return _make(self._whole, tensors, description)


class _Reader:
    """Takes results apart."""

    def __init__(
        self,
        storages: dict[int, NewStorage],
        tensors: list[Argument | View],
        after: Description,
        first_new: int,
        tracker: StorageTracker,
        executor: WeightlessExecutor,
    ) -> None:
        self._storages = storages
        self._tensors = tensors
        self._after = after
        self._first_new = first_new
        self._tracker = tracker
        self._executor = executor
        self._seen: dict[int, int] = {}

    def part(self, value: Any) -> tuple[Any, ...]:
        kind = type(value)
        if kind in PLAIN or kind is float or kind is slice or isinstance(value, (type, enum.Enum)):
            return "plain", value
        if isinstance(value, Tensor):
            return "tensor", self._tensor_number(value)
        given = self._after.containers.get(id(value))
        if given is not None:
            return "given", given
        if is_cache(value):
            for number, cache in enumerate(self._after.caches):
                if cache is value:
                    return "cache", number
            raise CannotDescribeError("a cache is returned that was no argument")
        if kind in (list, tuple):
            return "sequence", kind, [self.part(item) for item in value]
        if isinstance(value, tuple) and hasattr(kind, "_make"):
            return "named", kind, [self.part(item) for item in value]
        if kind is dict:
            return "dict", [(self.part(key), self.part(item)) for key, item in value.items()]
        if dataclasses.is_dataclass(value) and _is_plain_dataclass(kind):
            fields = [(f.name, self.part(getattr(value, f.name))) for f in dataclasses.fields(value)]
            return "dataclass", kind, fields
        raise CannotDescribeError(f"a {kind.__name__} is returned")

    def _tensor_number(self, tensor: Tensor) -> int:
        number = self._seen.get(id(tensor))
        if number is None:
            number = self._seen[id(tensor)] = len(self._tensors)
            self._tensors.append(self._recipe(tensor))
        return number

    def _recipe(self, tensor: Tensor) -> Argument | View:
        given = self._after.number_of(tensor)
        if given is not None:
            return Argument(given)
        fake = isinstance(tensor, FakeTensor)
        if (not fake and type(tensor) is not Tensor) or isinstance(tensor, nn.Parameter) or tensor.requires_grad:
            raise CannotDescribeError(f"a {type(tensor).__name__} of its own kind is returned")
        if tensor.layout is not torch.strided or tensor.is_conj() or tensor.is_neg():
            raise CannotDescribeError("a tensor that is not strided is returned, or one conjugated lazily")
        place = (int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        shared = self._after.sharing(tensor)
        if shared is not None:
            if self._after.kinds[shared] is not SHAPE_ONLY and self._after.tensors[shared].dtype != tensor.dtype:
                raise CannotDescribeError("an argument is returned as another dtype")
            return View(shared, False, *place)
        serial = self._tracker.known_serial(tensor)
        if serial < self._first_new:
            raise CannotDescribeError("a tensor is returned that was there before")
        if serial not in self._storages:
            self._storages[serial] = self._new_storage(tensor, serial)
        return View(serial, True, *place)

    def _new_storage(self, tensor: Tensor, serial: int) -> NewStorage:
        fake = isinstance(tensor, FakeTensor)
        kind = SHAPE_ONLY if fake else TAINTED if self._executor.storages.holds(tensor) else REAL
        storage = tensor.untyped_storage()
        size = int(storage.nbytes())
        if not fake and size % tensor.element_size():
            raise CannotDescribeError("a storage is returned that is no whole number of elements")
        content = None
        if kind is REAL:
            if size > MOST_CONTENT_BYTES or tensor.is_inference():
                raise CannotDescribeError("a real result is too large to be kept")
            content = torch.empty(0, dtype=torch.uint8).set_(storage, 0, (size,), (1,)).clone()
        uniform = None if kind is REAL or tensor.dtype.is_floating_point else self._executor.uniform_of(tensor)
        return NewStorage(kind, size, self._tracker.birth_of(serial), uniform, content)


def _is_plain_dataclass(kind: Any) -> bool:
    """Whether its fields are all there is to it: so it is with transformers' outputs."""
    if any(cls.__name__ == "ModelOutput" for cls in kind.__mro__):
        return True
    return not hasattr(kind, "__post_init__") and all(f.init for f in dataclasses.fields(kind))


def _renamed(birth: Birth, names: Names) -> Birth:
    module = names.get(birth.module, birth.module)
    return birth if module is birth.module else evolve(birth, module=module)


def _new_base(new: NewStorage) -> Tensor:
    if new.content is not None:
        return new.content.clone()
    device = "meta" if new.kind is SHAPE_ONLY else "cpu"
    return torch.empty(new.size, dtype=torch.uint8, device=device)


def _tensor(
    recipe: Argument | View, description: Description, made: dict[int, Tensor], executor: WeightlessExecutor
) -> Tensor:
    if isinstance(recipe, Argument):
        return description.tensors[recipe.number]
    base = made[recipe.storage] if recipe.is_new else description.tensors[recipe.storage]
    if base.is_meta or isinstance(base, FakeTensor):
        storage = base.untyped_storage()
        return executor.view_of(storage, recipe.offset, recipe.shape, recipe.stride, recipe.dtype)
    typed = base.view(recipe.dtype) if recipe.is_new else base.detach()
    return typed.as_strided(recipe.shape, recipe.stride, recipe.offset)


def _make(part: tuple[Any, ...], tensors: Sequence[Tensor], description: Description) -> Any:
    kind = part[0]
    if kind == "plain":
        return part[1]
    if kind == "tensor":
        return tensors[part[1]]
    if kind == "given":
        return description.container_list[part[1]]
    if kind == "cache":
        return description.caches[part[1]]
    if kind == "dict":
        return {_make(key, tensors, description): _make(item, tensors, description) for key, item in part[1]}
    if kind == "dataclass":
        return part[1](**{name: _make(item, tensors, description) for name, item in part[2]})
    items = [_make(item, tensors, description) for item in part[2]]
    return part[1]._make(items) if kind == "named" else part[1](items)
