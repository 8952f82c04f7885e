"""The axes of a sweep: what varies, checked, and the dimensions in which arrays are worked out."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve, frozen

from modelmeter.cost.arrays import Array, whole_numbers
from modelmeter.cost.catalogue import find_device
from modelmeter.errors import UnknownNameError, UsageError
from modelmeter.schema.device import Device
from modelmeter.schema.scenario import Page, Scenario

STRUCTURES = (
    "grid",
    "pages",
    "mode",
    "base_size",
    "image_size",
    "crop_mode",
    "seq_len",
    "dtype",
    "activation_dtype",
    "kv_dtype",
    "attention",
    "vision_attention",
    "decoder_attention",
    "head",
    "routing",
)
"""Axes whose combinations are resolved one by one. ``grid`` is short for ``pages`` of one page of that grid."""

SIZES = ("text_tokens", "decode_steps", "batch")
"""Axes that are keys of a closed form: whole numbers."""

PLACES = ("device", "execution")

AXES = (*STRUCTURES, *SIZES, *PLACES)

STRUCTURE, DEVICE, EXECUTION = 0, 1 + len(SIZES), 2 + len(SIZES)
"""Dimensions in which arrays are worked out: all structures together, then each of the sizes, then the machine."""


@frozen
class Axes:
    """What varies, in the order in which it was given, and what of it there is."""

    named: dict[str, tuple[Any, ...]]
    """Values by axis; devices as ``Device`` objects."""
    structures: tuple[Scenario, ...]
    """The scenario in every combination of the structural axes; the last axis varies fastest."""
    devices: tuple[Device, ...]
    executions: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(map(len, self.named.values()))

    @property
    def dimensions(self) -> tuple[int, ...]:
        """Lengths of the dimensions in which arrays are worked out."""
        sizes = [len(self.named.get(name, (0,))) for name in SIZES]
        return (len(self.structures), *sizes, len(self.devices), len(self.executions))

    def sizes(self) -> dict[str, Array]:
        """Values of the sizes that vary, each along its own dimension."""
        return {
            name: along(whole_numbers(self.named[name]), 1 + place)
            for place, name in enumerate(SIZES)
            if name in self.named
        }

    def smallest(self) -> dict[str, Any]:
        """The smallest value of every size that varies: what a model cannot have with these, it cannot have at all."""
        return {name: min(self.named[name]) for name in SIZES if name in self.named}

    def arranged(self, array: Array) -> Array:
        """An array as it was worked out, with the axes in the order in which they were given; read-only."""
        structural = [name for name in self.named if name in STRUCTURES]
        lengths = [len(self.named[name]) if array.shape[0] > 1 else 1 for name in structural]
        whole = array.reshape(*lengths, *array.shape[1:])
        dimensions = [*structural, *SIZES, *PLACES]
        given = [name for name in dimensions if name in self.named]
        whole = whole.reshape([whole.shape[dimensions.index(name)] for name in given])
        turned = whole.transpose([given.index(name) for name in self.named])
        return np.broadcast_to(turned, self.shape)


def read_axes(scenario: Scenario, axes: Mapping[str, Iterable[Any]], device_files: Sequence[Path] = ()) -> Axes:
    """Check axes and look devices up.

    Raises UsageError for an axis that is unknown, empty or given twice, ScenarioError for a value that no
    scenario can have.
    """
    named: dict[str, tuple[Any, ...]] = {}
    for name, values in axes.items():
        if name not in AXES:
            raise UnknownNameError("axis", name, AXES)
        named[name] = tuple(_value(scenario, name, value, device_files) for value in values)
        if not named[name]:
            raise UsageError(f"axis {name} has no value", remedy="give at least one")
    if "grid" in named and "pages" in named:
        raise UsageError("axes grid and pages both say which pages there are", remedy="give one of them")
    structural = {name: values for name, values in named.items() if name in STRUCTURES}
    structures = tuple(
        evolve(scenario, **_keys(dict(zip(structural, values, strict=True))))
        for values in product(*structural.values())
    )
    devices = named.get("device") or (find_device(scenario.device, device_files),)
    return Axes(named, structures, devices, named.get("execution", (scenario.execution,)))


def along(values: Array, dimension: int) -> Array:
    """Values along one of the dimensions."""
    return values.reshape([-1 if place == dimension else 1 for place in range(EXECUTION + 1)])


def _value(scenario: Scenario, name: str, value: Any, device_files: Sequence[Path]) -> Any:
    """One value of an axis; the scenario's own checks refuse what it cannot be."""
    if name == "device":
        return value if isinstance(value, Device) else find_device(str(value), device_files)
    if name in SIZES:
        # Also integers of NumPy, such as those of arange.
        value = operator.index(value) if hasattr(value, "__index__") else value
    elif name in ("grid", "pages") and isinstance(value, Iterable):
        value = tuple(value)
    elif isinstance(value, Page):
        value = (value,)
    evolve(scenario, **_keys({name: value}))
    return value


def _keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of a scenario for values of axes."""
    keys = dict(values)
    if "grid" in keys:
        keys["pages"] = (Page(grid=keys.pop("grid")),)
    return keys
