"""A sweep: totals and times of every combination of some values, a million scenarios in seconds.

The closed form is worked out for arrays instead of numbers, every axis being a dimension of its own, so
that what depends on few axes is worked out few times. Only totals are: a single scenario's tree is what
``Family.costs`` gives, and its sums are a sweep's numbers (integers exactly, seconds up to rounding).

A combination that the model cannot have, because a prompt is longer than its positions for instance, does
not stop a sweep: it is marked as not valid, and ``reasons`` says why. There integers are 0 and seconds are
not a number. Where only the device lacks a dtype, integers hold. ``sweep`` refuses one without any valid
scenario altogether, ``work_out`` does not.

Routing that is drawn (``zipf``, ``random``, a file's table) is counted for each scenario by itself, which is slow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve, field, frozen

from modelmeter.cost.arrays import Array, evaluate_arrays, whole_numbers
from modelmeter.cost.closed_form import ClosedForm
from modelmeter.cost.efficiency import CASES, DEFAULT, ESTIMATE, HIGH, LOW, Efficiency
from modelmeter.cost.memory import reserve_bytes
from modelmeter.errors import ScenarioError, UsageError
from modelmeter.families.protocol import Family
from modelmeter.planning.sweep_axes import DEVICE, EXECUTION, SIZES, STRUCTURE, Axes, along, read_axes
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

VALID = -1
"""In place of a reason where there is none."""


@frozen(eq=False)
class Sweep:
    """Arrays over all combinations; every array has the axes' lengths as its shape and is read-only.

    Totals are int64, or Python's integers where one of them needs more than 64 bits.
    """

    axes: dict[str, tuple[Any, ...]]
    """Values by axis, in the order of the arrays' dimensions; devices as ``Device`` objects."""
    valid: Array
    """Whether the model can have the scenario, and the device has peaks for its dtypes."""
    reasons: Array
    """Why a scenario is not valid, as a place in ``reason_texts``; ``VALID`` where it is. The first one counts."""
    reason_texts: tuple[str, ...]
    fits: Array
    """Whether the scenario is valid, and weights, live tensors and the runtime's reserve fit the device."""
    positions: Array
    """What a sequence takes together with its decode steps, in tokens; 0 where the model cannot have the scenario."""
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

    @property
    def refused(self) -> dict[str, int]:
        """Reasons why scenarios are not valid, and how many are not."""
        numbers = np.bincount(self.reasons.ravel() - VALID, minlength=1 + len(self.reason_texts))
        found = zip(self.reason_texts, numbers[1:].tolist(), strict=True)
        return {reason: number for reason, number in found if number}

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

    Raises UsageError for axes that are wrong, ScenarioError where no combination is valid.
    """
    found = work_out(family, config, read_axes(scenario, axes, device_files), efficiency)
    if not found.valid.any():
        raise ScenarioError(f"no scenario of the sweep is possible: {next(iter(found.refused))}")
    return found


def work_out(family: Family, config: Any, axes: Axes, efficiency: Efficiency = DEFAULT) -> Sweep:
    """The same for axes that were read, also where no combination is valid."""
    groups, refusals, no_text = _groups(family, config, axes)
    return _joined(axes, [_work_out(group, axes, efficiency) for group in groups], refusals, no_text)


@frozen
class _Group:
    """Structures that share a closed form: their numbers, and the values of its keys in each."""

    form: ClosedForm
    numbers: list[int] = field(factory=list)
    values: list[Mapping[str, Any]] = field(factory=list)
    no_text: str = ""
    """Why these scenarios cannot be without text tokens, where such are asked for and it is so."""


@frozen(eq=False)
class _Part:
    """What was worked out for a group. Arrays have all dimensions, of length 1 where nothing changes along them."""

    numbers: list[int]
    possible: Array
    """Whether the model can have the scenario."""
    positions: Array
    reasons: dict[str, Array]
    """Why some are not valid, and which."""
    arrays: dict[tuple[str, ...], Array]
    """``TOTALS`` by name, times by stage and case, bounds by stage and ``bound``."""


def _groups(family: Family, config: Any, axes: Axes) -> tuple[list[_Group], dict[int, str], dict[int, str]]:
    """Structures by closed form; why the others cannot be; and why these cannot be without text either."""
    groups: dict[int, _Group] = {}
    refusals: dict[int, str] = {}
    no_text: dict[int, str] = {}
    smallest = axes.smallest
    for number, structure in enumerate(axes.structures()):
        if isinstance(structure, str):
            refusals[number] = structure
            continue
        try:
            costs = family.costs(config, evolve(structure, **smallest))
        except ScenarioError as error:
            refusals[number] = _refusal(family, config, structure, axes, str(error))
            no_text[number] = _no_text(family, config, structure, axes)
            continue
        if id(costs.form) not in groups:
            groups[id(costs.form)] = _Group(costs.form, no_text=_no_text(family, config, structure, axes))
        group = groups[id(costs.form)]
        group.numbers.append(number)
        group.values.append(costs.values)
    return list(groups.values()), refusals, no_text


def _refusal(family: Family, config: Any, structure: Scenario, axes: Axes, reason: str) -> str:
    """Why a structure is refused; with the sizes for which it was tried where the reason names them."""
    smallest, largest = axes.smallest, axes.largest
    if smallest == largest or _error(family, config, evolve(structure, **largest)) == reason:
        return reason
    return f"even with {', '.join(f'{name} {value}' for name, value in smallest.items())}: {reason}"


def _no_text(family: Family, config: Any, structure: Scenario, axes: Axes) -> str:
    if "text_tokens" not in axes.sizes() or 0 not in axes.named["text_tokens"]:
        return ""
    return _error(family, config, evolve(structure, **{**axes.smallest, "text_tokens": 0}))


def _without_text(axes: Axes) -> Array:
    """Where there are no text tokens."""
    return along(np.array(axes.named["text_tokens"]) == 0, 1 + SIZES.index("text_tokens"))


def _error(family: Family, config: Any, scenario: Scenario) -> str:
    try:
        family.costs(config, scenario)
    except ScenarioError as error:
        return str(error)
    return ""


def _work_out(group: _Group, axes: Axes, efficiency: Efficiency) -> _Part:
    """Everything for the structures of one closed form."""
    form = group.form
    totals = form.totals(efficiency)
    named = totals.named
    machine, reasons = _machine_values(axes, form)
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
    positions = _all_dimensions(positions)
    impossible: dict[str, Array] = {}
    if form.max_positions is not None:
        reason = f"prompt and decode steps exceed the model's {form.max_positions} positions"
        impossible[reason] = positions > form.max_positions
    if group.no_text:
        impossible[group.no_text] = _without_text(axes)
    possible = np.broadcast_to(True, positions.shape)
    for these in impossible.values():
        possible = possible & ~these
    return _Part(group.numbers, possible, positions, {**impossible, **reasons}, arrays)


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


def _machine_values(axes: Axes, form: ClosedForm) -> tuple[dict[str, Any], dict[str, Array]]:
    """Keys of the machine, and why which devices cannot be it; those get figures of 1."""
    columns: dict[str, list[Any]] = {name: [] for name in form.machine_of_keys().named()}
    reasons: dict[str, Array] = {}
    for number, device in enumerate(axes.devices):
        figures: Mapping[str, Any] = dict.fromkeys(columns, 1.0)
        try:
            figures = form.machine(device, axes.executions[0]).named()
        except ScenarioError as error:
            # The same device may be there twice.
            this = along(np.arange(len(axes.devices)) == number, DEVICE)
            reasons[str(error)] = reasons.get(str(error), np.False_) | this
        for name, column in columns.items():
            column.append(figures[name])
    columns["eager"] = [int(execution == "eager") for execution in axes.executions]
    values: dict[str, Any] = {}
    for name, column in columns.items():
        dimension = EXECUTION if name == "eager" else DEVICE
        values[name] = column[0] if len(column) == 1 else along(np.array(column), dimension)
    return values, reasons


def _joined(axes: Axes, parts: Sequence[_Part], refusals: Mapping[int, str], no_text: Mapping[int, str]) -> Sweep:
    """The parts side by side, along the dimension of structures, with what is not valid marked.

    ``no_text``: why refused structures cannot be without text tokens either, empty where that is no other reason.
    """
    structures, *others = axes.dimensions

    def together(arrays: Sequence[Array], fill: np.generic) -> Array:
        if len(parts) == 1 and not refusals:
            return arrays[0]
        shape = np.broadcast_shapes((1,) * len(others), *(array.shape[1:] for array in arrays))
        whole = np.full((structures, *shape), fill, np.result_type(*arrays) if arrays else fill.dtype)
        for part, array in zip(parts, arrays, strict=True):
            whole[part.numbers] = array
        return whole

    texts = {reason: number for number, reason in enumerate(dict.fromkeys(refusals.values()))}
    coded = []
    for part in parts:
        codes = np.full((len(part.numbers), *others), VALID, np.int32)
        for reason, these in part.reasons.items():
            codes[(codes == VALID) & these] = texts.setdefault(reason, len(texts))
        coded.append(codes)
    reasons = together(coded, np.int32(VALID))
    for number, reason in refusals.items():
        reasons[number] = texts[reason]
    for number, reason in no_text.items():
        if reason:
            reasons = np.array(np.broadcast_to(reasons, (structures, *others)))
            without = np.broadcast_to(_without_text(axes), (1, *others))[0]
            reasons[number][without] = texts.setdefault(reason, len(texts))
    valid, possible = reasons == VALID, together([part.possible for part in parts], np.False_)
    arrays: dict[tuple[str, ...], Array] = {}
    for name in _NAMES:
        found = [part.arrays[name] for part in parts]
        if len(name) == 1:
            whole = together(found, np.int64(0))
            arrays[name] = whole if possible.all() else np.where(possible, whole, 0)
        else:
            nothing = np.int8(NO_BOUND) if name[1] == "bound" else np.float64(np.nan)
            whole = together(found, nothing.dtype.type(0))
            arrays[name] = whole if valid.all() else np.where(valid, whole, nothing)
    room = whole_numbers([device.memory_bytes - reserve_bytes(device) for device in axes.devices])
    # Not added up, since a sum may be too large for 64 bits where no part is.
    fits = valid & (arrays["peak_bytes",] <= along(room, DEVICE) - arrays["weight_bytes",])
    positions = np.where(possible, together([part.positions for part in parts], np.int64(0)), 0)
    arranged = {name: axes.arranged(array) for name, array in arrays.items()}
    return Sweep(
        axes.named,
        axes.arranged(valid),
        axes.arranged(reasons),
        tuple(texts),
        axes.arranged(fits),
        axes.arranged(positions),
        {name: arranged[name,] for name in TOTALS},
        {stage: {case: arranged[stage, case] for case in CASES} for stage in STAGES},
        {stage: arranged[stage, "bound"] for stage in STAGES},
    )


_NAMES = (*((name,) for name in TOTALS), *((stage, part) for stage in STAGES for part in (*CASES, "bound")))
"""Names of a part's arrays."""


def _all_dimensions(value: Any) -> Array:
    """A number, or an array as it is, with all dimensions."""
    if isinstance(value, np.ndarray):
        return value
    return along(whole_numbers([value]) if isinstance(value, int) else np.array([value]), STRUCTURE)
