"""A sweep: totals and times of every combination of some values, a million scenarios in seconds.

The closed form is worked out for arrays instead of numbers, every axis being a dimension of its own, so
that what depends on few axes is worked out few times. Only totals are: a single scenario's tree is what
``Family.costs`` gives, and its sums are a sweep's numbers (integers exactly, seconds up to rounding).

A combination that the model cannot have, because a prompt is longer than its positions for instance, does
not stop a sweep: it is marked as not valid, and ``refused`` says why. There integers are 0 and seconds are
not a number. Where only the device lacks a dtype, integers hold. A sweep without any valid scenario is
refused altogether.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve, field, frozen

from modelmeter.cost.arrays import Array, evaluate_arrays, whole_numbers
from modelmeter.cost.closed_form import ClosedForm
from modelmeter.cost.efficiency import CASES, DEFAULT, ESTIMATE, HIGH, LOW, Efficiency
from modelmeter.cost.memory import reserve_bytes
from modelmeter.cost.roofline import Machine
from modelmeter.errors import ScenarioError, UsageError
from modelmeter.families.protocol import Family
from modelmeter.planning.sweep_axes import DEVICE, EXECUTION, STRUCTURE, Axes, along, read_axes
from modelmeter.routing import BalancedRouting, WorstRouting, parse_routing
from modelmeter.schema.callgraph import STAGES
from modelmeter.schema.device import Device
from modelmeter.schema.scenario import Scenario
from modelmeter.schema.timing import BOUNDS

TOTALS = (
    "matrix_flops",
    "vector_flops",
    "ideal_bytes",
    "eager_bytes",
    "launches",
    "weight_bytes",
    "kv_cache_bytes",
    "peak_bytes",
)
"""What a sweep gives of every scenario besides times. ``peak_bytes``: the most live bytes, without weights."""

NO_BOUND = -1
"""Where a stage takes no time."""


@frozen(eq=False)
class Sweep:
    """Arrays over all combinations; every array has the axes' lengths as its shape and is read-only.

    Totals are int64, or Python's integers where one of them needs more than 64 bits.
    """

    axes: dict[str, tuple[Any, ...]]
    """Values by axis, in the order of the arrays' dimensions; devices as ``Device`` objects."""
    valid: Array
    """Whether the model can have the scenario, and the device has peaks for its dtypes."""
    refused: dict[str, int]
    """Why scenarios are not valid, and how many are not; of several reasons the first one counts."""
    fits: Array
    """Whether the scenario is valid, and weights, live tensors and the runtime's reserve fit the device."""
    totals: dict[str, Array]
    """By the names in ``TOTALS``."""
    seconds: dict[str, dict[str, Array]]
    """Time by stage, and in it by case: ``low``, ``estimate``, ``high``."""
    bounds: dict[str, Array]
    """What most of a stage's estimate is spent on, as a place in ``BOUNDS``; ``NO_BOUND`` where there is no time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return self.valid.shape

    @property
    def size(self) -> int:
        """Combinations, valid or not."""
        return self.valid.size

    def total_seconds(self, case: str = ESTIMATE) -> Array:
        """Time of the whole run."""
        found: Array = np.sum([self.seconds[stage][case] for stage in STAGES], axis=0)
        return found

    def at(self, **values: Any) -> tuple[Any, ...]:
        """The index of the part in which axes have given values: ``sweep.totals[name][sweep.at(batch=8)]``.

        Devices may be given by id. Raises UsageError for an axis or a value that the sweep has not.
        """
        index: dict[str, Any] = dict.fromkeys(self.axes, slice(None))
        for name, value in values.items():
            labels = [_label(each) for each in self.axes.get(name, ())]
            if _label(value) not in labels:
                known = ", ".join(map(str, labels or self.axes))
                raise UsageError(f"the sweep has no {name} {_label(value)!r:.60}", remedy=f"it has {known:.400}")
            index[name] = labels.index(_label(value))
        return tuple(index.values())


def _label(value: Any) -> Any:
    return value.id if isinstance(value, Device) else value


def sweep(
    family: Family,
    config: Any,
    scenario: Scenario,
    axes: Mapping[str, Iterable[Any]],
    *,
    efficiency: Efficiency = DEFAULT,
    device_files: Sequence[Path] = (),
) -> Sweep:
    """Work out a scenario for every combination of some of its keys' values.

    ``axes`` gives their values by name, in the order that the results' dimensions have: ``grid`` (pairs,
    width first) or ``pages`` (tuples of ``Page``), ``text_tokens``, ``decode_steps``, ``batch``, ``device``
    (ids or ``Device`` objects), ``execution``, and all other keys of ``sweep_axes.AXES``.

    Raises UsageError for axes that are wrong and for routing that is drawn token by token, ScenarioError
    where no combination is valid.
    """
    if scenario.devices > 1:
        raise UsageError(f"--devices {scenario.devices}: a plan is for one device so far", remedy="leave --devices out")
    found = read_axes(scenario, axes, device_files)
    groups, refusals = _groups(family, config, found)
    return _joined(found, [_work_out(group, found, efficiency) for group in groups], refusals)


@frozen
class _Group:
    """Structures that share a closed form: their numbers, and the values of its keys in each."""

    form: ClosedForm
    numbers: list[int] = field(factory=list)
    values: list[Mapping[str, Any]] = field(factory=list)


@frozen(eq=False)
class _Part:
    """What was worked out for a group. Arrays have all dimensions, of length 1 where nothing changes along them."""

    numbers: list[int]
    possible: Array
    """Whether the model can have the scenario."""
    reasons: dict[str, Array]
    """Why some are not valid, and which."""
    arrays: dict[tuple[str, ...], Array]
    """``TOTALS`` by name, times by stage and case, bounds by stage and ``bound``."""


def _groups(family: Family, config: Any, axes: Axes) -> tuple[list[_Group], dict[int, str]]:
    """Structures by closed form, and why the others cannot be."""
    groups: dict[int, _Group] = {}
    refusals: dict[int, str] = {}
    for number, structure in enumerate(axes.structures):
        if not isinstance(parse_routing(structure.routing), (BalancedRouting, WorstRouting)):
            raise UsageError(
                f"a sweep cannot have --routing {structure.routing}: its tables are drawn for each scenario by itself",
                remedy="use balanced or worst",
            )
        try:
            costs = family.costs(config, evolve(structure, **axes.smallest()))
        except ScenarioError as error:
            refusals[number] = str(error)
            continue
        group = groups.setdefault(id(costs.form), _Group(costs.form))
        group.numbers.append(number)
        group.values.append(costs.values)
    if not groups:
        raise _nothing(refusals.values())
    return list(groups.values()), refusals


def _nothing(reasons: Iterable[str]) -> ScenarioError:
    return ScenarioError(f"no scenario of the sweep is possible: {next(iter(reasons))}")


def _work_out(group: _Group, axes: Axes, efficiency: Efficiency) -> _Part:
    """Everything for the structures of one closed form."""
    form = group.form
    totals = form.totals(efficiency)
    named = totals.named
    machine, reasons = _machine_values(axes, form.dtypes)
    values = {**_size_values(group, axes), **machine}
    *found, positions = evaluate_arrays([*named.values(), form.positions], values, totals.in_turn)
    worked_out = dict(zip(named, map(_all_dimensions, found), strict=True))
    arrays: dict[tuple[str, ...], Array] = {(name,): worked_out[f"amounts/{name}"] for name in TOTALS}
    for stage in STAGES:
        shares = np.broadcast_arrays(*(worked_out[f"{ESTIMATE}/{stage}/{bound}"] for bound in BOUNDS))
        estimate = sum(shares[1:], shares[0])
        arrays[stage, LOW], arrays[stage, HIGH] = worked_out[f"{LOW}/{stage}"], worked_out[f"{HIGH}/{stage}"]
        arrays[stage, ESTIMATE] = estimate
        arrays[stage, "bound"] = np.where(estimate > 0, np.argmax(shares, axis=0), NO_BOUND).astype(np.int8)
    possible = np.broadcast_to(True, _all_dimensions(positions).shape)
    if form.max_positions is not None:
        possible = _all_dimensions(positions) <= form.max_positions
        reasons = {f"prompt and decode steps exceed the model's {form.max_positions} positions": ~possible, **reasons}
    return _Part(group.numbers, possible, reasons, arrays)


def _size_values(group: _Group, axes: Axes) -> dict[str, Any]:
    """Keys of the closed form: along an axis, by structure, or the same everywhere."""
    sizes = axes.sizes()
    for name in sizes:
        if name not in group.values[0]:
            raise UsageError(f"the model has no {name} that could be an axis", remedy="leave this axis out")
    values: dict[str, Any] = {}
    for name in group.values[0]:
        column = [own[name] for own in group.values]
        same = all(value == column[0] for value in column)
        values[name] = sizes[name] if name in sizes else column[0] if same else along(whole_numbers(column), STRUCTURE)
    return values


def _machine_values(axes: Axes, dtypes: Sequence[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Keys of the machine, and why which devices cannot be it; those get figures of 1."""
    columns: dict[str, list[Any]] = {name: [] for name in Machine.of_keys(dtypes).named()}
    reasons: dict[str, Array] = {}
    for number, device in enumerate(axes.devices):
        figures: Mapping[str, Any] = dict.fromkeys(columns, 1.0)
        try:
            figures = Machine.of(device, dtypes, axes.executions[0]).named()
        except ScenarioError as error:
            reasons[str(error)] = along(np.arange(len(axes.devices)) == number, DEVICE)
        for name, column in columns.items():
            column.append(figures[name])
    columns["eager"] = [int(execution == "eager") for execution in axes.executions]
    values: dict[str, Any] = {}
    for name, column in columns.items():
        dimension = EXECUTION if name == "eager" else DEVICE
        values[name] = column[0] if len(column) == 1 else along(np.array(column), dimension)
    return values, reasons


def _joined(axes: Axes, parts: Sequence[_Part], refusals: Mapping[int, str]) -> Sweep:
    """The parts side by side, along the dimension of structures, with what is not valid marked."""

    def together(arrays: Sequence[Array], fill: Any) -> Array:
        if len(parts) == 1 and not refusals:
            return arrays[0]
        shape = np.broadcast_shapes(*(array.shape[1:] for array in arrays))
        whole = np.full((len(axes.structures), *shape), fill, np.result_type(*arrays))
        for part, array in zip(parts, arrays, strict=True):
            whole[part.numbers] = array
        return whole

    refused = Counter[str]()
    for reason in refusals.values():
        refused[reason] += prod(axes.dimensions[1:])
    valid_parts = []
    for part in parts:
        valid = np.ones((len(part.numbers), *axes.dimensions[1:]), bool)
        for reason, these in part.reasons.items():
            refused[reason] += int(np.count_nonzero(valid & these))
            valid &= ~these
        valid_parts.append(valid)
    possible, valid = together([part.possible for part in parts], False), together(valid_parts, False)
    if not valid.any():
        raise _nothing(+refused)
    arrays: dict[tuple[str, ...], Array] = {}
    for name in parts[0].arrays:
        whole = together([part.arrays[name] for part in parts], 0)
        if len(name) == 1:
            arrays[name] = whole if possible.all() else np.where(possible, whole, 0)
        else:
            nothing = np.int8(NO_BOUND) if name[1] == "bound" else np.nan
            arrays[name] = whole if valid.all() else np.where(valid, whole, nothing)
    room = whole_numbers([device.memory_bytes - reserve_bytes(device) for device in axes.devices])
    # Not added up, since a sum may be too large for 64 bits where no part is.
    fits = valid & (arrays["peak_bytes",] <= along(room, DEVICE) - arrays["weight_bytes",])
    arranged = {name: axes.arranged(array) for name, array in arrays.items()}
    return Sweep(
        axes.named,
        axes.arranged(valid),
        dict(+refused),
        axes.arranged(fits),
        {name: arranged[name,] for name in TOTALS},
        {stage: {case: arranged[stage, case] for case in CASES} for stage in STAGES},
        {stage: arranged[stage, "bound"] for stage in STAGES},
    )


def _all_dimensions(value: Any) -> Array:
    """A number, or an array as it is, with all dimensions."""
    if isinstance(value, np.ndarray):
        return value
    return along(whole_numbers([value]) if isinstance(value, int) else np.array([value]), STRUCTURE)
