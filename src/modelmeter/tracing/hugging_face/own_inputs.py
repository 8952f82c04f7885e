"""The user's own inputs: a small YAML that names a forward's arguments with shapes and dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from modelmeter.errors import ScenarioError, UnknownNameError

_EXAMPLE = "write, for example, 'pixel_values: {shape: [1, 3, 1024, 1024], dtype: bfloat16}'"
_KEYS = ("shape", "dtype", "values")
_DTYPES = {
    name: getattr(torch, name) for name in "bfloat16 float16 float32 float64 int8 int16 int32 int64 uint8 bool".split()
}


@frozen
class OwnInput:
    """A tensor for one argument: a shape, or the values themselves (whole numbers); dtype None: the model's."""

    shape: tuple[int, ...] = ()
    dtype: str | None = None
    values: Any = None

    def data(self) -> dict[str, Any]:
        """What ``own_inputs_of`` reads: shape or values, and the dtype where one is given."""
        given = {"shape": list(self.shape)} if self.values is None else {"values": self.values}
        return {**given, "dtype": self.dtype} if self.dtype else given

    def tensor(self, dtype: torch.dtype) -> Tensor:
        """The tensor; zeros for floats, ones for everything else, where there are no values."""
        if self.values is not None:
            return torch.tensor(self.values, dtype=_DTYPES[self.dtype] if self.dtype else None)
        chosen = _DTYPES[self.dtype] if self.dtype else dtype
        return (
            torch.zeros(self.shape, dtype=chosen) if chosen.is_floating_point else torch.ones(self.shape, dtype=chosen)
        )


def read_own_inputs(path: Path) -> dict[str, OwnInput]:
    """Own inputs by argument name; ScenarioError for a file that is none, with what is wrong in it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        data = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(f"cannot read inputs {path}: {error.strerror}", remedy=_EXAMPLE) from None
    except (YAMLError, ValueError, RecursionError) as error:
        line = " ".join(str(error).split())[:120]
        raise ScenarioError(f"inputs {path} is no YAML: {line}", remedy=_EXAMPLE) from None
    if not isinstance(data, Mapping) or not data:
        raise ScenarioError(f"inputs {path} names no argument", remedy=_EXAMPLE)
    return own_inputs_of(data, str(path))


def own_inputs_of(data: Mapping[str, Any], place: str) -> dict[str, OwnInput]:
    """Own inputs from plain data; ScenarioError or UnknownNameError with the ``place`` that it comes from."""
    return {str(name): _own_input(str(name), value, place) for name, value in data.items()}


def _own_input(name: str, value: Any, path: str) -> OwnInput:
    if not isinstance(value, Mapping):
        raise ScenarioError(f"{name} in {path} is {value!r:.60}", remedy=_EXAMPLE)
    for key in value:
        if key not in _KEYS:
            raise UnknownNameError(f"key of {name} in {path}", str(key), _KEYS)
    dtype, shape, values = value.get("dtype"), value.get("shape"), value.get("values")
    if dtype is not None and dtype not in _DTYPES:
        raise UnknownNameError(f"dtype of {name} in {path}", str(dtype), _DTYPES)
    if (shape is None) == (values is None):
        raise ScenarioError(f"{name} in {path} needs a shape or values, and not both", remedy=_EXAMPLE)
    if values is not None:
        try:
            torch.tensor(values)
        except (TypeError, ValueError, RuntimeError):
            raise ScenarioError(f"values of {name} in {path} are no table of numbers", remedy=_EXAMPLE) from None
        return OwnInput((), dtype, values)
    if not isinstance(shape, list) or not all(type(length) is int and length >= 1 for length in shape):
        raise ScenarioError(f"shape of {name} in {path} is {shape!r:.60}", remedy=_EXAMPLE)
    return OwnInput(tuple(shape), dtype)
