"""Live storage while a model runs: which storages exist, how many bytes, and when each one dies."""

from __future__ import annotations

import weakref
from collections.abc import Iterable

import torch
from attrs import frozen
from torch import Tensor, nn


class _StorageReference(weakref.ref):  # type: ignore[type-arg]
    """A weak reference that knows which storage it stood for."""

    __slots__ = ("key",)
    key: int


@frozen
class Birth:
    """When a storage was first seen, how large it is, and which operation of which module made it."""

    clock: int
    size: int
    module: str
    operator: str
    shape: tuple[int, ...]
    dtype: str


class StorageTracker:
    """Counts the bytes of every storage from when it is first seen until nothing holds it.

    Weights are excluded by ``exclude``. Storages have serial numbers, which unlike addresses are never
    used twice. A storage may stand in for another (``alias``): both then are one, counted once.
    """

    def __init__(self) -> None:
        self.live_bytes = 0
        self.clock = 0
        """Counts births and deaths: a moment in the run."""
        self.maker = ("", "input")
        """Module and operator that make the storages seen from now on."""
        self._births: dict[int, Birth] = {}
        self._deaths: dict[int, int] = {}
        self._serials: dict[int, int] = {}
        self._references: dict[int, _StorageReference] = {}
        self._bytes: dict[int, int] = {}
        self._holders: dict[int, int] = {}
        self._next = 0

    def exclude(self, tensors: Iterable[Tensor]) -> None:
        """Give storages a serial number but no bytes: weights and buffers."""
        for tensor in tensors:
            if not nn.parameter.is_lazy(tensor):
                self._register(tensor, counted=False)

    def serial(self, tensor: Tensor) -> int:
        """The serial number of a tensor's storage, which is counted from now on if it is new; -1 if it has none."""
        try:
            key = tensor.untyped_storage()._cdata
        except (NotImplementedError, RuntimeError):
            return -1  # sparse and other tensors without one storage
        known = self._serials.get(key)
        return self._register(tensor, counted=True) if known is None else known

    def alias(self, stand_in: Tensor, original: Tensor) -> None:
        """Let one tensor's storage count as another's, which lives until both are gone."""
        serial = self.serial(original)
        self._watch(stand_in.untyped_storage(), serial)

    def _register(self, tensor: Tensor, *, counted: bool) -> int:
        storage = tensor.untyped_storage()
        known = self._serials.get(storage._cdata)
        if known is not None:
            return known
        serial = self._next
        self._next += 1
        size = int(storage.nbytes()) if counted else 0
        self._bytes[serial] = size
        self.live_bytes += size
        self.clock += 1
        if size:
            self._births[serial] = Birth(self.clock, size, *self.maker, tuple(tensor.shape), str(tensor.dtype))
        self._watch(storage, serial)
        return serial

    def live_at(self, clock: int) -> list[Birth]:
        """The storages that were live at a moment, the largest first."""
        live = [
            birth
            for serial, birth in self._births.items()
            if birth.clock <= clock < self._deaths.get(serial, clock + 1)
        ]
        return sorted(live, key=lambda birth: -birth.size)

    def _watch(self, storage: torch.UntypedStorage, serial: int) -> None:
        key = storage._cdata
        reference = _StorageReference(storage, self._died)
        reference.key = key
        self._references[key] = reference
        self._serials[key] = serial
        self._holders[serial] = self._holders.get(serial, 0) + 1

    def _died(self, reference: _StorageReference) -> None:
        key = reference.key
        if self._references.get(key) is not reference:
            return
        del self._references[key]
        serial = self._serials.pop(key)
        self._holders[serial] -= 1
        if not self._holders[serial]:
            del self._holders[serial]
            self.live_bytes -= self._bytes.pop(serial)
            self.clock += 1
            self._deaths[serial] = self.clock
