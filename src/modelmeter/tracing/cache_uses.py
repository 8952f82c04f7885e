"""Who uses which cache while a model runs, and how many bytes each holds after every forward."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch

from modelmeter.tracing.signatures import cache_layers, cache_tensors
from modelmeter.tracing.storages import StorageTracker


class CacheUses:
    """Notes caches as they are handed to modules, and their sizes at the end of a forward."""

    def __init__(self, storages: StorageTracker) -> None:
        self.held: dict[str, list[int]] = {}
        """Bytes held after each forward, by the module that uses the cache."""
        self._storages = storages
        self._caches: dict[int, Callable[[], Any]] = {}
        self._owners: dict[tuple[int, int | None], str] = {}
        self._plain: tuple[str, int] | None = None

    def note(self, cache: Any, name: str, layer: int | None) -> None:
        """Remember who uses a cache: of nested modules the innermost one of each layer."""
        key = id(cache)
        if key not in self._caches:
            self._caches[key] = _weakly(cache)
            for tensor in cache_tensors(cache):
                self._storages.serial(tensor)
        if layer is not None:
            self._owners.pop((key, None), None)
            self._owners[key, layer] = name
        elif not any(owner == key for owner, _ in self._owners):
            self._owners[key, None] = name

    def note_plain(self, cache: Any, name: str, *, outermost: bool) -> None:
        """Tuples of tensors, the old form, which every forward makes anew: what the outermost module gives counts."""
        for tensor in cache_tensors(cache):
            self._storages.serial(tensor)
        if outermost:
            self._plain = (name, sum(cache_layers(cache)))

    def end_forward(self, forwards: int) -> None:
        """Note what the caches hold now, at the end of the last of so many forwards."""
        by_cache: dict[int, list[int]] = {}
        for (key, layer), owner in self._owners.items():
            if key not in by_cache:
                with torch._C.DisableTorchFunction():
                    by_cache[key] = cache_layers(self._caches[key]())
            sizes = by_cache[key]
            size = sum(sizes) if layer is None else sizes[layer] if layer < len(sizes) else 0
            self._hold(owner, size, forwards)
        if self._plain is not None:
            self._hold(*self._plain, forwards)
            self._plain = None

    def _hold(self, owner: str, size: int, forwards: int) -> None:
        held = self.held.setdefault(owner, [])
        held.extend([0] * (forwards - 1 - len(held)))
        held.append(size)


def _weakly(value: Any) -> Callable[[], Any]:
    """A weak reference where the type allows one, so that noting a cache does not keep it alive."""
    try:
        return weakref.ref(value)
    except TypeError:
        return lambda: value
