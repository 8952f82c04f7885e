"""Inputs and outputs of a module call: tensors with where they were passed, everything else by type."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

TensorKey = tuple[Any, ...]
"""Where a tensor was passed, its shape and its dtype; on request its device and whether it requires a gradient."""

SignatureKey = tuple[tuple[TensorKey, ...], tuple[tuple[str, str], ...]]

CACHE_ARGUMENTS = frozenset(
    "past_key_values past_key_value past_values layer_past cache_params cache past_states".split()
)
"""Arguments that hold keys and values between forwards, whatever their type."""
_MAX_DEPTH = 8


def is_cache(value: Any) -> bool:
    """Whether an object holds keys and values (or states) between forwards."""
    return any(cls.__name__.endswith("Cache") for cls in type(value).__mro__)


class SignatureReader:
    """Walks arguments and results; cache objects are handed over apart and are no part of a signature."""

    def __init__(self, names: tuple[str, ...] = (), *, details: bool = False) -> None:
        self._names = names
        self._details = details

    def read(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[SignatureKey, list[Tensor], list[Any]]:
        """Signature, tensors and caches of a call's arguments."""
        keys: list[TensorKey] = []
        others: list[tuple[str, str]] = []
        tensors: list[Tensor] = []
        caches: list[Any] = []
        names = self._names
        for position, value in enumerate(args):
            name = names[position] if position < len(names) else f"args[{position}]"
            if isinstance(value, Tensor):
                keys.append((name, tuple(value.shape), value.dtype))
                tensors.append(value)
            elif name in CACHE_ARGUMENTS and value is not None:
                caches.append(value)
            else:
                _walk(name, value, keys, others, tensors, caches, 0)
        for name, value in kwargs.items():
            if isinstance(value, Tensor):
                keys.append((name, tuple(value.shape), value.dtype))
                tensors.append(value)
            elif name in CACHE_ARGUMENTS and value is not None:
                caches.append(value)
            else:
                _walk(name, value, keys, others, tensors, caches, 0)
        if self._details:
            keys = _with_details(keys, tensors)
        return (tuple(keys), tuple(others)), tensors, caches


def read_output(result: Any, *, details: bool = False) -> tuple[SignatureKey, list[Tensor], list[Any]]:
    """Signature, tensors and caches of a call's result."""
    if isinstance(result, Tensor) and not details:
        return (((("output", tuple(result.shape), result.dtype),), ())), [result], []
    keys: list[TensorKey] = []
    others: list[tuple[str, str]] = []
    tensors: list[Tensor] = []
    caches: list[Any] = []
    _walk("output", result, keys, others, tensors, caches, 0)
    if details:
        keys = _with_details(keys, tensors)
    return (tuple(keys), tuple(others)), tensors, caches


def _with_details(keys: list[TensorKey], tensors: list[Tensor]) -> list[TensorKey]:
    return [(*key, str(t.device), t.requires_grad) for key, t in zip(keys, tensors, strict=True)]


def _walk(
    path: str,
    value: Any,
    keys: list[TensorKey],
    others: list[tuple[str, str]],
    tensors: list[Tensor],
    caches: list[Any],
    depth: int,
) -> None:
    if isinstance(value, Tensor):
        keys.append((path, tuple(value.shape), value.dtype))
        tensors.append(value)
        return
    if value is None:
        return
    if is_cache(value):
        caches.append(value)
        return
    members = _members(path, value) if depth < _MAX_DEPTH else None
    if members is None:
        others.append((path, type(value).__name__))
        return
    for inner, item in members:
        if inner.rpartition(".")[2] in CACHE_ARGUMENTS and item is not None:
            caches.append(item)
        else:
            _walk(inner, item, keys, others, tensors, caches, depth + 1)


def _members(path: str, value: Any) -> Iterator[tuple[str, Any]] | None:
    """Named parts of a container, or None for what is no container."""
    if isinstance(value, Mapping):
        return ((f"{path}.{key}", item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        fields = getattr(value, "_fields", None)
        if fields is not None:
            return ((f"{path}.{key}", item) for key, item in zip(fields, value, strict=True))
        return ((f"{path}[{index}]", item) for index, item in enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ((f"{path}.{f.name}", getattr(value, f.name)) for f in dataclasses.fields(value))
    if attrs.has(type(value)):
        return ((f"{path}.{f.name}", getattr(value, f.name)) for f in attrs.fields(type(value)))
    return None


def argument_names(forward: Any) -> tuple[str, ...]:
    """Names of the positional parameters of a bound forward."""
    function = getattr(forward, "__func__", None)
    return _method_names(function) if function is not None else _names(forward)


@functools.cache
def _method_names(function: Any) -> tuple[str, ...]:
    return _names(function)[1:]


def _names(forward: Any) -> tuple[str, ...]:
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(p.name for p in parameters if p.kind in kinds)


def cache_layers(cache: Any) -> list[int]:
    """Bytes that a cache holds, layer by layer; one entry where it has no layers."""
    layers = getattr(cache, "layers", None)
    if not isinstance(layers, (list, tuple)):
        layers = getattr(cache, "key_cache", None)
        if isinstance(layers, (list, tuple)):
            values = getattr(cache, "value_cache", [None] * len(layers))
            layers = list(zip(layers, values, strict=True))
        elif isinstance(cache, (list, tuple)):
            layers = cache
        else:
            layers = [cache]
    return [_held_bytes(layer, set(), 0) for layer in layers]


def cache_tensors(cache: Any) -> list[Tensor]:
    """All tensors in a cache."""
    found: list[Tensor] = []
    _collect(cache, set(), 0, found)
    return found


def _held_bytes(value: Any, seen: set[int], depth: int) -> int:
    tensors: list[Tensor] = []
    _collect(value, seen, depth, tensors)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _collect(value: Any, seen: set[int], depth: int, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        if id(value) not in seen:
            seen.add(id(value))
            found.append(value)
        return
    if depth > _MAX_DEPTH or id(value) in seen:
        return
    if isinstance(value, Mapping):
        seen.add(id(value))
        items = list(value.values())
    elif isinstance(value, (list, tuple)):
        seen.add(id(value))
        items = list(value)
    elif isinstance(value, (torch.nn.Module, type)) or not hasattr(value, "__dict__"):
        return
    else:
        seen.add(id(value))
        items = list(vars(value).values())
    for item in items:
        _collect(item, seen, depth + 1, found)
