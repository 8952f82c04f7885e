"""Live storage while a model runs: which storages exist, how many bytes, and when each one dies."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable

import torch
from attrs import evolve, frozen
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
        self.made_here = False
        """Whether storages seen from now on are results of the operation that just ran, so that it made them."""
        self.on_stray: Callable[[], None] = _nothing
        """Called for a storage that no operation was seen to make."""
        self.on_death: Callable[[int], None] = _nothing
        """Called with the serial number of a storage that died."""
        self._births: dict[int, Birth] = {}
        self._deaths: dict[int, int] = {}
        self._serials: dict[int, int] = {}
        self._references: dict[int, _StorageReference] = {}
        self._bytes: dict[int, int] = {}
        self._holders: dict[int, int] = {}
        self.next_serial = 0
        self.first_counted = 0
        """Storages below this serial number are weights, buffers and the module's own tensors."""

    def exclude(self, tensors: Iterable[Tensor]) -> None:
        """Give storages a serial number but no bytes: weights and buffers."""
        for tensor in tensors:
            if not nn.parameter.is_lazy(tensor):
                self._register(tensor, counted=False)
        self.first_counted = self.next_serial

    def serial(self, tensor: Tensor) -> int:
        """The serial number of a tensor's storage, which is counted from now on if it is new; -1 if it has none."""
        try:
            key = tensor.untyped_storage()._cdata
        except (NotImplementedError, RuntimeError):
            return -1  # sparse and other tensors without one storage
        known = self._serials.get(key)
        return self._register(tensor, counted=True) if known is None else known

    def known_serial(self, tensor: Tensor) -> int:
        """The serial number of a tensor's storage; -1 if it was not seen yet."""
        return self._serials.get(tensor.untyped_storage()._cdata, -1)

    def alias(self, stand_in: Tensor, original: Tensor) -> None:
        """Let one tensor's storage count as another's, which lives until both are gone."""
        self.made_here = False
        serial = self.serial(original)
        self._watch(stand_in.untyped_storage(), serial)

    def _register(self, tensor: Tensor, *, counted: bool) -> int:
        storage = tensor.untyped_storage()
        known = self._serials.get(storage._cdata)
        if known is not None:
            return known
        serial = self.next_serial
        self.next_serial += 1
        if counted and not self.made_here:
            self.on_stray()
        size = int(storage.nbytes()) if counted else 0
        self._bytes[serial] = size
        self.live_bytes += size
        self.clock += 1
        if size:
            self._births[serial] = Birth(self.clock, size, *self.maker, tuple(tensor.shape), str(tensor.dtype))
        self._watch(storage, serial)
        return serial

    def adopt(self, tensor: Tensor, birth: Birth | None) -> None:
        """Count the storage of a tensor from now on as one that was born like this."""
        if birth is not None:
            self.maker = (birth.module, birth.operator)
        self.made_here = True
        serial = self._register(tensor, counted=True)
        if birth is not None:
            self._births[serial] = evolve(birth, clock=self.clock)

    def live_serials(self, first: int) -> list[int]:
        """Serial numbers, from one on, of the storages that are live."""
        return [serial for serial in range(first, self.next_serial) if serial in self._bytes]

    def birth_of(self, serial: int) -> Birth | None:
        """How a storage was born; None for one without bytes."""
        return self._births.get(serial)

    def death_of(self, serial: int) -> int | None:
        """When a storage died; None if it lives."""
        return self._deaths.get(serial)

    def live_at(self, clock: int, first: int = 0, gone: frozenset[int] = frozenset()) -> list[Birth]:
        """The storages that were live at a moment, in the order of their births from a serial number on.

        Those that are ``gone`` were not, although they died later.
        """
        found = []
        for serial in range(first, self.next_serial):
            if serial in gone:
                continue
            birth = self._births.get(serial)
            if birth is not None and birth.clock <= clock < self._deaths.get(serial, clock + 1):
                found.append(birth)
        return found

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
            self.on_death(serial)


def _nothing(*_: object) -> None:
    return None
