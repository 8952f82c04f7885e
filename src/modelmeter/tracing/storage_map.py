"""What is known of a storage, forgotten when the storage dies, so that no address is used twice."""

from __future__ import annotations

import weakref
from typing import Generic, TypeVar

import torch
from torch import Tensor

V = TypeVar("V")


class StorageMap(Generic[V]):
    """Values by the storage of a tensor. It keeps no storage alive: peaks count who is."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[weakref.ref[torch.UntypedStorage], V]] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def __contains__(self, tensor: Tensor) -> bool:
        return bool(self._held) and tensor.untyped_storage()._cdata in self._held

    def get(self, tensor: Tensor) -> V | None:
        """The value of a tensor's storage, if it has one."""
        held = self._held.get(tensor.untyped_storage()._cdata)
        return None if held is None else held[1]

    def set(self, tensor: Tensor, value: V) -> None:
        """Give a tensor's storage a value until it dies."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        held = self._held

        def forget(reference: weakref.ref[torch.UntypedStorage]) -> None:
            known = held.get(key)
            if known is not None and known[0] is reference:
                del held[key]

        held[key] = (weakref.ref(storage, forget), value)
