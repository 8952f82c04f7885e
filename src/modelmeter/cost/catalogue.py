"""The device catalogue: data files that come with ModelMeter, and the user's own.

A file holds one device, in JSON or YAML. The user's files and folders add devices or replace those of
the same id; they are named by an argument or by the environment variable ``MODELMETER_DEVICES``, and an
argument wins over the variable, a later file over an earlier one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from modelmeter.errors import DocumentError, UnknownNameError
from modelmeter.schema.device import Device

VARIABLE = "MODELMETER_DEVICES"
"""Environment variable with device files and folders, separated as in PATH."""

_DATA = Path(__file__).parent / "device_data"

_YAML = (".yaml", ".yml")

_REMEDY = "give a device file or a folder of them with --device-file or MODELMETER_DEVICES"


def load_catalogue(extra: Sequence[Path] = ()) -> dict[str, Device]:
    """All devices by id, sorted, with the user's files over those that come with ModelMeter.

    Raises DocumentError for a file that cannot be read, naming it and the field.
    """
    found = {name: read_device(_DATA / f"{name}.json") for name in _built_in()}
    found.update(_own(extra))
    return dict(sorted(found.items()))


def find_device(device_id: str, extra: Sequence[Path] = ()) -> Device:
    """One device by id; of the files that come with ModelMeter, only its own is read.

    Raises UnknownNameError with the nearest id, and DocumentError for a file that cannot be read.
    """
    own = _own(extra)
    if device_id in own:
        return own[device_id]
    built_in = _built_in()
    if device_id not in built_in:
        raise UnknownNameError("device", device_id, {*built_in, *own})
    return read_device(_DATA / f"{device_id}.json")


def read_device(path: Path) -> Device:
    """A device from a JSON or YAML file. Raises DocumentError, naming the file and the field."""
    data = _parsed(path)
    try:
        return Device.from_data(data, str(path))
    except DocumentError as error:
        raise DocumentError(
            error.problem, remedy="'modelmeter devices h100-sxm --json' prints one that is right"
        ) from None


def device_files(places: Sequence[Path]) -> list[Path]:
    """The files that files and folders name: all JSON and YAML files directly in a folder, in order of their names.

    Raises DocumentError for what does not exist or holds no device file.
    """
    found: list[Path] = []
    for place in places:
        try:
            inside = sorted(place.iterdir()) if place.is_dir() else [place]
        except (OSError, ValueError) as error:
            raise _unreadable(place, error) from None
        files = [path for path in inside if path == place or path.suffix in (".json", *_YAML)]
        if not files:
            raise DocumentError(f"folder {place} holds no .json, .yaml or .yml file", remedy=_REMEDY)
        found += files
    return found


def _built_in() -> set[str]:
    return {name.removesuffix(".json") for name in os.listdir(_DATA) if name.endswith(".json")}


def _own(extra: Sequence[Path]) -> dict[str, Device]:
    variable = [Path(entry) for entry in os.environ.get(VARIABLE, "").split(os.pathsep) if entry]
    found: dict[str, Device] = {}
    for place in (*variable, *extra):
        origins: dict[str, Path] = {}
        for path in device_files([place]):
            device = read_device(path)
            # Between places the later one wins; within one folder, none is meant to.
            if device.id in origins:
                raise DocumentError(
                    f"{path} and {origins[device.id]} both hold the device {device.id!r}",
                    remedy="give one of them another id, or move one out of the folder",
                )
            origins[device.id] = path
            found[device.id] = device
    return found


def _parsed(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DocumentError(f"{path} is no text file", remedy=_REMEDY) from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if path.suffix in _YAML:
        return _yaml(text, path)
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path} is no complete JSON document: {error}", remedy=_REMEDY) from None


def _yaml(text: str, path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe").load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        line = " ".join(str(error).split())[:200]
        raise DocumentError(f"{path} is no YAML document: {line}", remedy=_REMEDY) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, unless it has a key twice: JSON would silently take the last."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r:.40} stands twice in one object")
    return made


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _unreadable(path: Path, error: Exception) -> DocumentError:
    reason = getattr(error, "strerror", None) or str(error)
    return DocumentError(f"cannot read {path}: {reason}", remedy=_REMEDY)
