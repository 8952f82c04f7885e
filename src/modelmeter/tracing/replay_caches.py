"""Caches that a call is given: what it can see of them, and what it leaves in its own layer.

A module of layer i is taken to use a cache only as layer i of it. Its description holds all of that
layer, the cache's own attributes, and which states the other layers are in, but not which is in which.
That it wrote into no other layer is compared after the call.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from modelmeter.tracing.replay_description import PLAIN, CannotDescribeError, Description, Known

_ABSENT = "absent"


@frozen(eq=False)
class CacheView:
    """A cache as the module of one layer sees it."""

    cache: Any
    layer: int
    around: Hashable
    """The cache's own attributes, its first layer, and the states of the other layers."""

    @property
    def own(self) -> Any:
        """The layer's part of the cache; None if it is not there yet."""
        layers = self.cache.layers
        return layers[self.layer] if self.layer < len(layers) else None

    def state(self) -> tuple[Any, dict[str, Any]] | None:
        """Class and attributes of the layer's part."""
        own = self.own
        return None if own is None else (type(own), dict(vars(own)))

    def put(self, state: tuple[Any, dict[str, Any]] | None) -> None:
        """Leave the layer's part in a state, made if it is not there yet."""
        if state is None:
            return
        kind, attributes = state
        own = self.own
        if own is None:
            own = kind.__new__(kind)
            self.cache.layers.append(own)
        held = vars(own)
        for name in [name for name in held if name not in attributes]:
            del held[name]
        held.update(attributes)


def view_cache(cache: Any, layer: int | None, known: Known) -> CacheView:
    """A cache as the module of a layer sees it. Raises CannotDescribeError for caches that are not made of layers."""
    layers = getattr(cache, "layers", None)
    if layer is None or type(layers) is not list or not hasattr(cache, "__dict__"):
        raise CannotDescribeError(f"a {type(cache).__name__} that is not made of layers, or of a module without one")
    if layer > len(layers):
        raise CannotDescribeError("layers before this one are missing in a cache")
    description = Description(known)
    own = tuple((name, description.of(value, own=True)) for name, value in vars(cache).items() if name != "layers")
    others = [_glance(part) for part in layers]
    first = others[0] if layer and others else None
    if layer < len(layers):
        del others[layer]
    around = (description.of(type(cache)), own, description.key(), first, frozenset(others))
    return CacheView(cache, layer, around)


def describe_layer(view: CacheView, description: Description) -> Hashable:
    """The key of the layer's part, whose tensors take part in the description.

    It has who else holds the tensors: one that is replaced must die, or live on, as it did in another call.
    """
    own = view.own
    if own is None:
        return _ABSENT
    first = len(description.tensors)
    part = _part(own, description)
    return part, tuple([_holders(tensor) for tensor in description.tensors[first:]])


def _holders(tensor: Tensor) -> tuple[int, int]:
    return sys.getrefcount(tensor), torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)


def _glance(part: Any) -> Hashable:
    """The state of another layer's part: shapes of its tensors, plain values, and types of all else."""
    if not hasattr(part, "__dict__"):
        raise CannotDescribeError(f"a {type(part).__name__} in a cache")
    held = vars(part)
    return type(part), tuple(held), tuple([_glance_at(value) for value in held.values()])


def _glance_at(value: Any) -> Hashable:
    if type(value) in PLAIN:
        return value
    if isinstance(value, Tensor):
        return value.shape
    if type(value) is dict:
        return tuple(value), tuple([_glance_at(held) for held in value.values()])
    return type(value).__qualname__


def _part(part: Any, description: Description) -> Hashable:
    if not hasattr(part, "__dict__"):
        raise CannotDescribeError(f"a {type(part).__name__} in a cache")
    held = tuple((name, description.of(value, own=True)) for name, value in vars(part).items())
    return description.of(type(part)), held
