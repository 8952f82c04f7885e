"""The axes of a sweep: what varies, checked, and the dimensions in which arrays are worked out."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve, frozen

from modelmeter.cost.arrays import Array, whole_numbers
from modelmeter.cost.catalogue import find_device
from modelmeter.errors import ScenarioError, UnknownNameError, UsageError
from modelmeter.routing import BalancedRouting, WorstRouting, parse_routing
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
    "tensor_parallel",
    "expert_parallel",
    "devices",
)
"""Axes whose combinations are resolved one by one. ``grid`` is short for ``pages`` of one page of that grid."""

SIZES = ("text_tokens", "decode_steps", "batch")
"""Axes that are keys of a closed form: whole numbers."""

PLACES = ("device", "execution")

SHARES = ("tensor_parallel", "expert_parallel")
PARALLEL = (*SHARES, "devices")

FORMS = (
    "dtype",
    "activation_dtype",
    "kv_dtype",
    "attention",
    "vision_attention",
    "decoder_attention",
    "head",
    "routing",
    "tensor_parallel",
    "expert_parallel",
    "devices",
)
"""Structural axes that change the closed form itself, which takes long to write, and not only its sizes."""

AXES = (*STRUCTURES, *SIZES, *PLACES)

STRUCTURE, DEVICE, EXECUTION = 0, 1 + len(SIZES), 2 + len(SIZES)
"""Dimensions in which arrays are worked out: all structures together, then each of the sizes, then the machine."""


@frozen
class Axes:
    """What varies, in the order in which it was given, and what of it there is."""

    scenario: Scenario
    """What does not vary."""
    named: dict[str, tuple[Any, ...]]
    """Values by axis; devices as ``Device`` objects."""
    resolved: tuple[str, ...]
    """Axes whose combinations are resolved one by one: the structural ones, and sizes where routing is drawn."""
    devices: tuple[Device, ...]
    executions: tuple[str, ...]
    smallest: dict[str, Any]
    """The smallest value of every size that varies and is not resolved one by one.

    What a model cannot have with these, it cannot have at all. Of text tokens it is the smallest above 0: some
    models cannot be without any. A part of some axes has those of the whole.
    """
    largest: dict[str, Any]
    """The largest value of the same sizes."""

    def structures(self) -> Iterator[Scenario | str]:
        """The scenario in every combination of the axes that are resolved, or why there is none.

        The last axis varies fastest.
        """
        for values in product(*(self.named[name] for name in self.resolved)):
            try:
                yield evolve(self.scenario, **_keys(self.scenario, dict(zip(self.resolved, values, strict=True))))
            except ScenarioError as error:
                yield str(error)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(map(len, self.named.values()))

    @property
    def dimensions(self) -> tuple[int, ...]:
        """Lengths of the dimensions in which arrays are worked out."""
        structures = prod(len(self.named[name]) for name in self.resolved)
        sizes = [len(self.named[name]) if name in self.smallest else 1 for name in SIZES]
        return (structures, *sizes, len(self.devices), len(self.executions))

    def sizes(self) -> dict[str, Array]:
        """Values of the sizes that vary, each along its own dimension."""
        return {
            name: along(whole_numbers(self.named[name]), 1 + place)
            for place, name in enumerate(SIZES)
            if name in self.smallest
        }

    def part(self, places: Mapping[str, slice]) -> Axes:
        """Some of the values of some axes."""
        named = {name: values[places.get(name, slice(None))] for name, values in self.named.items()}
        devices, executions = named.get("device", self.devices), named.get("execution", self.executions)
        return evolve(self, named=named, devices=devices, executions=executions)

    def spread(self, name: str, values: Sequence[Any]) -> Array:
        """One number for each of an axis's values, along its dimension of the results."""
        whole = all(type(value) is int for value in values)
        numbers = whole_numbers(values) if whole else np.array(values)
        return numbers.reshape([-1 if own == name else 1 for own in self.named])

    def arranged(self, array: Array) -> Array:
        """An array as it was worked out, with the axes in the order in which they were given; read-only."""
        lengths = [len(self.named[name]) if array.shape[0] > 1 else 1 for name in self.resolved]
        whole = array.reshape(*lengths, *array.shape[1:])
        dimensions = [*self.resolved, *SIZES, *PLACES]
        places = {name: dimensions.index(name) for name in self.named}
        given = sorted(places.values())
        whole = whole.reshape([whole.shape[place] for place in given])
        turned = whole.transpose([given.index(place) for place in places.values()])
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
        named[name] = tuple(axis_value(scenario, name, value, device_files) for value in values)
        if not named[name]:
            raise UsageError(f"axis {name} has no value", remedy="give at least one")
    if "grid" in named and "pages" in named:
        raise UsageError("axes grid and pages both say which pages there are", remedy="give one of them")
    return checked_axes(scenario, named, () if "device" in named else (find_device(scenario.device, device_files),))


def checked_axes(scenario: Scenario, named: dict[str, tuple[Any, ...]], devices: tuple[Device, ...]) -> Axes:
    """Axes of values that were checked; ``devices`` where they do not vary."""
    drawn = is_drawn(scenario.routing) if "routing" not in named else any(map(is_drawn, named["routing"]))
    resolved = tuple(name for name in named if name in STRUCTURES or (drawn and name in SIZES))
    executions = named.get("execution", (scenario.execution,))
    free = {name: named[name] for name in SIZES if name in named and name not in resolved}
    smallest, largest = ({name: end(values) for name, values in free.items()} for end in (min, max))
    if "text_tokens" in free:
        smallest["text_tokens"] = min((value for value in free["text_tokens"] if value), default=0)
    return Axes(scenario, named, resolved, named.get("device", devices), executions, smallest, largest)


def is_drawn(routing: str) -> bool:
    """Whether a policy's tables are drawn, so that what the experts get has to be counted for each scenario."""
    return not isinstance(parse_routing(routing), (BalancedRouting, WorstRouting))


def along(values: Array, dimension: int) -> Array:
    """Values along one of the dimensions."""
    return values.reshape([-1 if place == dimension else 1 for place in range(EXECUTION + 1)])


def axis_value(scenario: Scenario, name: str, value: Any, device_files: Sequence[Path] = ()) -> Any:
    """One value of an axis as the results have it; ScenarioError for what no scenario can have, by its own checks."""
    if name == "device":
        return value if isinstance(value, Device) else find_device(str(value), device_files)
    if name in PARALLEL:
        # Whether it divides the devices depends on the other axes.
        Scenario(**{name: value})
        return value
    if name in SIZES:
        # Also integers of NumPy, such as those of arange.
        value = operator.index(value) if hasattr(value, "__index__") and not isinstance(value, bool) else value
    elif name in ("grid", "pages") and isinstance(value, Iterable):
        value = tuple(value)
    elif isinstance(value, Page):
        value = (value,)
    evolve(scenario, **_keys(scenario, {name: value}))
    return value


def _keys(scenario: Scenario, values: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of a scenario for values of axes; as many devices as share the layers, unless there are more."""
    keys = dict(values)
    shares = [keys.get(name, getattr(scenario, name)) for name in SHARES]
    if "devices" not in keys and scenario.replicas == 1:
        keys["devices"] = max(shares)
    if "grid" in keys:
        keys["pages"] = (Page(grid=keys.pop("grid")),)
    return keys
