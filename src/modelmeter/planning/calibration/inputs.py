"""Measurement files as a calibration takes them: named, of one device, each once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from modelmeter.errors import DocumentError, UsageError
from modelmeter.schema.measurement import Measurement

_MEASURE = "write one with 'modelmeter measure … --out FILE'"


@frozen
class NamedMeasurement:
    """A measurement, and as little of its file's path as tells it from the others."""

    name: str
    measurement: Measurement


def read_measurements(paths: Sequence[Path], held_out: Sequence[Path] = ()) -> tuple[list[NamedMeasurement], set[str]]:
    """All measurements sorted by name, and the names of those in ``held_out``, which need not be among ``paths``.

    A folder stands for the .json files directly in it. Raises DocumentError for a file that is no
    measurement, and UsageError where the same one is given twice or the devices differ.
    """
    kept = {file.resolve() for file in _files(held_out)}
    files = {file.resolve(): file for file in (*_files(paths), *_files(held_out))}
    if not files:
        raise UsageError("there is no measurement", remedy=_MEASURE)
    loaded = {file: Measurement.load(given) for file, given in files.items()}
    names = _names(list(files))
    contents: dict[str, str] = {}
    for file, measured in loaded.items():
        first = contents.setdefault(measured.to_json(), names[file])
        if first != names[file]:
            raise UsageError(
                f"{first} and {names[file]} are the same measurement",
                remedy="leave one out: a copy of what is fitted to says nothing as a check",
            )
    found = sorted((NamedMeasurement(names[file], measured) for file, measured in loaded.items()), key=_name)
    _check_one_device(found)
    return found, {names[file] for file in kept}


def _name(named: NamedMeasurement) -> str:
    return named.name


def _files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(path.glob("*.json"))
        if not inside:
            raise DocumentError(f"folder {path} holds no .json file", remedy=_MEASURE)
        found += inside
    return found


def _names(files: Sequence[Path]) -> dict[Path, str]:
    """The last parts of each path, as few as make them all differ; of a folder's copies that is the folder."""
    parts = max((len(file.parts) for file in files), default=1)
    for number in range(1, parts + 1):
        names = {file: "/".join(file.with_suffix("").parts[-number:]) for file in files}
        if len(set(names.values())) == len(files):
            break
    return names


def _check_one_device(found: Sequence[NamedMeasurement]) -> None:
    first = found[0]
    for named in found[1:]:
        for what, mine, other in (
            ("device", first.measurement.device.name, named.measurement.device.name),
            ("kind of device", first.measurement.device.kind, named.measurement.device.kind),
            ("number of threads", _threads(first.measurement), _threads(named.measurement)),
        ):
            if mine != other:
                raise UsageError(
                    f"{first.name} and {named.name} differ in their {what}: {mine!r:.80} and {other!r:.80}",
                    remedy="calibrate each device by itself",
                )


def _threads(measurement: Measurement) -> int:
    """Threads, where they do the work."""
    return measurement.device.threads if measurement.device.kind == "cpu" else 0
