"""The specification of a sweep: a YAML file with what is fixed, what varies, and which results are wanted.

Unknown keys are refused with the nearest known one, and every wrong value with its place, as in
``--batch is 'x' @ $.axes.batch[1]``.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import fields, frozen

from modelmeter.contracts.files import read_yaml
from modelmeter.cost.catalogue import find_device
from modelmeter.cost.efficiency import DEFAULT, Efficiency
from modelmeter.errors import DocumentError, ModelMeterError, ScenarioError, UnknownNameError, UsageError
from modelmeter.planning.analysis import DEFAULT_DECODE_STEPS
from modelmeter.planning.sweep_axes import AXES, Axes, axis_value, checked_axes
from modelmeter.planning.sweep_columns import DEFAULT_RESULTS, RESULTS
from modelmeter.planning.sweep_keys import NUMBERS, read_range, read_value, shown
from modelmeter.planning.workload_profiles import find_profile
from modelmeter.schema.device import Device
from modelmeter.schema.scenario import Scenario

KEYS = ("model", "base", "axes", "columns", "calibration")
DEFAULT_MODEL = "deepseek-ocr"

ALIASES = {"max_new_tokens": "decode_steps"}
"""Keys that say the same as another one in other words."""

AXIS_KEYS = tuple(sorted({*(name for name in AXES if name != "grid"), *ALIASES}))
BASE_KEYS = tuple(sorted({*(attribute.name for attribute in fields(Scenario)), *ALIASES, "workload"}))

EXCLUDING = (("text_tokens", "seq_len"),)
"""Keys of which one follows from the other."""


@frozen
class SweepSpec:
    """What a specification says, checked as far as that goes without the model."""

    model: str
    """A family's name, or the path of a configuration."""
    axes: Axes
    """In the order of the rows."""
    names: dict[str, str]
    """Columns of the axes, in the order in which they were written, and the axes' own names."""
    results: tuple[str, ...]
    efficiency: Efficiency

    def shown(self, column: str) -> list[str | int | bool]:
        """The values of an axis as results show them."""
        return [shown(column, value) for value in self.axes.named[self.names[column]]]


def read_sweep(path: Path, known_models: Container[str]) -> SweepSpec:
    """Read a specification; files that it names are relative to it, but for a model among ``known_models``.

    Raises DocumentError for a file that cannot be read, UnknownNameError for unknown keys, columns and devices,
    UsageError for keys that contradict each other, ScenarioError for values that no scenario can have.
    """
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise DocumentError(f"{path} holds no keys and values", remedy="give axes with values, as docs/sweeps.md shows")
    _check_keys(data, KEYS, f"key in {path}")
    given = {section: _section(data, section, path) for section in ("base", "axes")}
    if not given["axes"]:
        raise UsageError(f"{path} has no axes", remedy="give at least one, for example 'axes: {batch: [1, 8]}'")
    _check_keys(given["base"], BASE_KEYS, f"key of base in {path}")
    _check_keys(given["axes"], AXIS_KEYS, f"axis in {path}")
    _check_contradictions(given)
    scenario, device = _base(given["base"], given["axes"], path)
    named = {key: _axis(scenario, key, values, path) for key, values in given["axes"].items()}
    names = {key: ALIASES.get(key, key) for key in named}
    by_name = {names[key]: values for key, values in named.items()}
    ordered = {name: by_name[name] for name in sorted(by_name, key=_slowness)}
    return SweepSpec(
        _model(data, path, known_models),
        checked_axes(scenario, ordered, () if "device" in ordered else (device,)),
        names,
        _results(data, path),
        _efficiency(data, path),
    )


def _model(data: Mapping[str, Any], path: Path, known: Container[str]) -> str:
    """The name of a model, or the path of a configuration; what looks like a mistyped name is left as it is."""
    model = _text(data.get("model", DEFAULT_MODEL), "model", path)
    beside = path.parent / model
    is_name = Path(model).name == model and not Path(model).suffix and not beside.exists()
    return model if model in known or is_name else str(beside)


def _slowness(name: str) -> int:
    """Axes whose combinations are worked out one by one vary slowest, those of the closed form before all others."""
    from modelmeter.planning.sweep_axes import FORMS, STRUCTURES

    return 0 if name in FORMS else 1 if name in STRUCTURES else 2


def _check_keys(given: Mapping[Any, Any], known: tuple[str, ...], kind: str) -> None:
    for key in given:
        if key not in known:
            raise UnknownNameError(kind, str(key)[:60], known)


def _section(data: Mapping[str, Any], section: str, path: Path) -> dict[str, Any]:
    found = data.get(section, {})
    if not isinstance(found, dict):
        raise ScenarioError(f"{section} is {found!r:.60} in {path}", remedy="give keys and values")
    return found


def _check_contradictions(given: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse what is said twice."""
    said: dict[str, str] = {}
    for section, keys in given.items():
        for key in keys:
            name = ALIASES.get(key, key)
            if name in said:
                raise UsageError(f"{key} of {section} and {said[name]} say the same", remedy="give one of them")
            said[name] = f"{key} of {section}"
    for pair in EXCLUDING:
        if all(name in said for name in pair):
            first, second = (said[name] for name in pair)
            raise UsageError(f"{first} follows from {second}", remedy="give one of them")


def _base(given: Mapping[str, Any], axes: Mapping[str, Any], path: Path) -> tuple[Scenario, Device]:
    """The scenario of what does not vary, over those keys of its workload profile that nothing replaces."""
    values: dict[str, Any] = {}
    if "workload" in given:
        values = _profile(_text(given["workload"], "base.workload", path), {*given, *axes})
    for key, value in given.items():
        if key != "workload":
            with _placed(f"$.base.{key}", path):
                if value is None:
                    raise ScenarioError(f"{key} has no value", remedy="give one, or leave the key out")
                values[ALIASES.get(key, key)] = read_value(key, value, path.parent)
    device = values.get("device", Scenario().device)
    if not isinstance(device, Device):
        with _placed("$.base.device", path):
            device = find_device(str(device))
    with _placed("$.base", path):
        scenario = Scenario(**{"decode_steps": DEFAULT_DECODE_STEPS, **values, "device": device.id})
        return scenario, device


def _profile(name: str, replaced: set[str]) -> dict[str, Any]:
    """A profile's keys without those that follow from keys which are given."""
    from modelmeter.planning.what_if import OVERRIDES

    values = dict(find_profile(name).scenario)
    for key in replaced:
        for follower in OVERRIDES.get(ALIASES.get(key, key), ()):
            values.pop(follower, None)
    return values


def _axis(scenario: Scenario, key: str, given: Any, path: Path) -> tuple[Any, ...]:
    """The values of an axis, each checked alone; of a range only its ends have to be."""
    place = f"$.axes.{key}"
    name = ALIASES.get(key, key)
    if isinstance(given, dict) and key in NUMBERS:
        with _placed(place, path):
            numbers = [read_value(key, number, path.parent) for number in read_range(key, given)]
            for end in (numbers[0], numbers[-1]):
                axis_value(scenario, name, end)
        return tuple(numbers)
    if not isinstance(given, list) or not given:
        remedy = "give a list of values" + (", or a range of from, to and step or times" if key in NUMBERS else "")
        with _placed(place, path):
            raise ScenarioError(f"{key} is {given!r:.60}", remedy=remedy)
    found: dict[Any, Any] = {}
    for number, value in enumerate(given):
        with _placed(f"{place}[{number}]", path):
            taken = axis_value(scenario, name, read_value(key, value, path.parent))
            if shown(key, taken) in found:
                raise ScenarioError(f"{key} has {shown(key, taken)} twice", remedy="give every value once")
            found[shown(key, taken)] = taken
    return tuple(found.values())


def _results(data: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    given = data.get("columns", list(DEFAULT_RESULTS))
    if not isinstance(given, list) or not given:
        raise ScenarioError(f"columns is {given!r:.60} in {path}", remedy="give a list of names")
    for number, name in enumerate(given):
        if name not in RESULTS:
            with _placed(f"$.columns[{number}]", path):
                raise UnknownNameError("column", str(name)[:60], RESULTS)
        if name in given[:number]:
            raise UsageError(f"column {name} stands twice in {path}", remedy="give every column once")
    return tuple(given)


def _efficiency(data: Mapping[str, Any], path: Path) -> Efficiency:
    if "calibration" not in data:
        return DEFAULT
    from modelmeter.planning.calibration import load_efficiency

    return load_efficiency(path.parent / _text(data["calibration"], "calibration", path))


def _text(value: Any, key: str, path: Path) -> str:
    if not isinstance(value, str) or not value:
        raise ScenarioError(f"{key} is {value!r:.60} in {path}", remedy="give a name")
    return value


@contextmanager
def _placed(place: str, path: Path) -> Iterator[None]:
    """Errors of a block say where in the file."""
    try:
        yield
    except ModelMeterError as error:
        error.problem = f"{error.problem} @ {place} of {path}"
        raise
