"""What a value is, as a key: equal keys mean that a pure function does the same work with both values.

Shape-only tensors are described by their geometry, real ones by their content too, and all by which of
them share a storage. Objects that cannot be read are told apart by identity. What is none of these has
no description, and a call that takes it is run.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from modelmeter.tracing.probes import modes_paused
from modelmeter.tracing.signatures import is_cache
from modelmeter.tracing.storage_map import StorageMap
from modelmeter.tracing.weightless import WeightlessExecutor

MOST_CONTENT_BYTES = 64 * 2**20
"""A larger real tensor is not read, and the call that takes it is run."""

PLAIN = frozenset(
    (int, bool, str, bytes, complex, type(None), type(Ellipsis), torch.dtype, torch.device, torch.Size, range)
)
"""Types of values that are their own description."""

SHAPE_ONLY, TAINTED, REAL = "shape-only", "was real", "real"
"""Kinds of tensors: without values; made real, but written by something without values; with values."""


SHARED = 5
"""Where in a tensor's place the number of its storage stands."""


class CannotDescribeError(Exception):
    """A value has no key."""


class Known:
    """What outlives one description: contents that were read, and numbers for objects told apart by identity."""

    def __init__(self, executor: WeightlessExecutor) -> None:
        self.executor = executor
        self._contents: StorageMap[dict[Hashable, bytes]] = StorageMap()
        self._numbers: dict[int, tuple[Callable[[], Any], int]] = {}
        self._next = 0

    def number(self, value: Any) -> int:
        """A number for an object that no other object ever has. It does not keep the object alive."""
        held = self._numbers.get(id(value))
        if held is not None and held[0]() is value:
            return held[1]
        self._next += 1
        try:
            self._numbers[id(value)] = (weakref.ref(value), self._next)
        except TypeError:
            raise CannotDescribeError(f"a {type(value).__name__} cannot be told from others") from None
        return self._next

    def content(self, tensor: Tensor) -> bytes:
        """A digest of a real tensor's values, read once unless they are written."""
        if tensor.numel() * tensor.element_size() > MOST_CONTENT_BYTES:
            raise CannotDescribeError("a real tensor is too large to be read")
        place = (tensor._version, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        digests = self._contents.get(tensor)
        if digests is None:
            digests = {}
            self._contents.set(tensor, digests)
        digest = digests.get(place)
        if digest is None:
            with modes_paused():
                flat = tensor.detach().contiguous().reshape(-1)
                data = flat.view(torch.uint8).numpy() if flat.numel() else np.empty(0, np.uint8)
                digest = digests[place] = _digest(data)
        return digest


class Description:
    """The values that one call can see: its module's own, then its arguments."""

    def __init__(self, known: Known, held_below: int = 0, serial_of: Callable[[Tensor], int] | None = None) -> None:
        self.tensors: list[Tensor] = []
        self.kinds: list[str] = []
        self.places: list[tuple[Any, ...]] = []
        """Geometry, storage and content of every tensor."""
        self.containers: dict[int, int] = {}
        """Lists and dicts, by identity, in the order in which they were met."""
        self.container_list: list[Any] = []
        self.opaque: dict[int, Any] = {}
        """Objects told apart by identity that have attributes of their own."""
        self.caches: list[Any] = []
        """Caches among the arguments; what they hold is described apart."""
        self._known = known
        self._held_below = held_below
        self._serial_of = serial_of
        self._storages: dict[int, int] = {}
        self._seen: dict[int, int] = {}

    def of(self, value: Any, *, own: bool = False) -> Hashable:
        """The key of a value; ``own`` values are a module's attributes, in which objects are known by identity."""
        kind = type(value)
        if kind in PLAIN:
            return kind, value
        if kind is float:
            return kind, repr(value)
        if isinstance(value, Tensor):
            return "tensor", self.tensor(value, own=own)
        if not own and is_cache(value):
            return "cache", self._cache(value)
        if isinstance(value, (list, tuple, dict)) and not is_cache(value):
            return self._container(value, own)
        if isinstance(value, (set, frozenset)) and all(type(item) in PLAIN for item in value):
            return kind, frozenset(value)
        if isinstance(value, enum.Enum):
            return kind, value.name
        if isinstance(value, slice):
            return kind, self.of(value.start), self.of(value.stop), self.of(value.step)
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.nbytes <= MOST_CONTENT_BYTES:
            digest = _digest(value)
            return kind, value.dtype.str, value.shape, digest
        if own and isinstance(value, weakref.ref):
            return "reference", None
        if isinstance(value, type) or (callable(value) and not isinstance(value, nn.Module) and own):
            return "object", self._known.number(value)
        if own and hasattr(value, "__dict__") and not isinstance(value, nn.Module) and not is_cache(value):
            self.opaque[id(value)] = value
            return "object", self._known.number(value)
        if dataclasses.is_dataclass(value):
            fields = tuple((f.name, self.of(getattr(value, f.name), own=own)) for f in dataclasses.fields(value))
            return kind, fields
        raise CannotDescribeError(f"a {kind.__name__} has no description")

    def _cache(self, cache: Any) -> int:
        for number, known in enumerate(self.caches):
            if known is cache:
                return number
        self.caches.append(cache)
        return len(self.caches) - 1

    def _container(self, value: Any, own: bool) -> Hashable:
        kind = type(value)
        if kind is tuple:
            return kind, tuple([self.of(item, own=own) for item in value])
        known = self.containers.get(id(value))
        if known is not None:
            return "again", known
        self.containers[id(value)] = len(self.containers)
        self.container_list.append(value)
        if isinstance(value, dict):
            items = tuple([(self.of(key), self.of(item, own=own)) for key, item in value.items()])
            return kind, items
        return kind, tuple([self.of(item, own=own) for item in value])

    def tensor(self, tensor: Tensor, *, own: bool = False) -> int:
        """The number of a tensor, which is described if it is new."""
        number = self._seen.get(id(tensor))
        if number is not None:
            return number
        fake = isinstance(tensor, FakeTensor)
        if not fake and type(tensor) not in (Tensor, nn.Parameter, nn.Buffer):
            raise CannotDescribeError(f"a {type(tensor).__name__} is no plain tensor")
        dtype = tensor.dtype
        if tensor.layout is not torch.strided or tensor.is_neg() or (dtype.is_complex and tensor.is_conj()):
            raise CannotDescribeError("a tensor that is not strided, or conjugated lazily")
        executor = self._known.executor
        kind = SHAPE_ONLY if fake else TAINTED if executor.storages.holds(tensor) else REAL
        content: Any = None
        if kind is REAL:
            if tensor.device.type != "cpu" or tensor.is_inference():
                raise CannotDescribeError("a real tensor that is not on the CPU, or made in inference mode")
            content = self._known.content(tensor)
        elif not dtype.is_floating_point:
            content = executor.uniform_of(tensor)
        storage = tensor.untyped_storage()
        shared = self._storages.setdefault(storage._cdata, len(self._storages))
        held = -1
        if not own and self._serial_of is not None:
            held = self._serial_of(tensor)
            held = held if held < self._held_below else -1
        place = (
            tensor.shape,
            tensor.stride(),
            tensor.storage_offset(),
            dtype,
            tensor.requires_grad,
            shared,
            storage.nbytes(),
            held,
            content,
        )
        number = self._seen[id(tensor)] = len(self.tensors)
        self.tensors.append(tensor)
        self.kinds.append(kind)
        self.places.append(place)
        return number

    def add_gone(self) -> None:
        """Give a number to a tensor that is no more."""
        self.tensors.append(torch.empty(0, device="meta"))
        self.kinds.append("gone")
        self.places.append((None,) * 9)

    def number_of(self, tensor: Tensor) -> int | None:
        """The number of a tensor that was described."""
        return self._seen.get(id(tensor))

    def sharing(self, tensor: Tensor) -> int | None:
        """The number of the first described tensor with the same storage."""
        shared = self._storages.get(tensor.untyped_storage()._cdata)
        if shared is None:
            return None
        return next(number for number, place in enumerate(self.places) if place[SHARED] == shared)

    def key(self) -> Hashable:
        """All tensors that were described."""
        return tuple(self.kinds), tuple(self.places)


def _digest(data: np.ndarray[Any, Any]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(data).tobytes(), digest_size=16).digest()
