"""Values of a sweep's keys as a specification writes them: sizes of pages, ranges of numbers, files beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelmeter.cost.catalogue import read_device
from modelmeter.errors import ScenarioError, UnknownNameError
from modelmeter.schema.device import Device
from modelmeter.schema.scenario import Page, is_size, parse_size

GRID_BELOW = 64
"""A page whose sides are both smaller is a grid of crops: no page is that small in pixels, no grid that large."""

NUMBERS = ("base_size", "image_size", "seq_len", "text_tokens", "decode_steps", "max_new_tokens", "batch")
"""Keys that are whole numbers, and may be given as a range."""

RANGE = ("from", "to", "step", "times")

MOST_VALUES = 1_000_000
"""Values of one axis: more are a mistake in a range."""

_PAGE = "write 1240x1754 in pixels, 2x1 in crops, or a list of these for several pages in one request"
_FILE_SUFFIXES = (".json", ".yaml", ".yml")


def read_value(key: str, value: Any, folder: Path) -> Any:
    """One value as a scenario has it; files are named relative to ``folder``. What else is wrong the scenario says.

    Raises ScenarioError for pages and tokens that are none, DocumentError for device files.
    """
    if key == "pages":
        entries = value if isinstance(value, list) and value else [value]
        return tuple(_page(entry) for entry in entries)
    if key == "max_new_tokens":
        if type(value) is not int or value < 1:
            raise ScenarioError(f"max_new_tokens is {value!r:.60}", remedy="give a whole number of at least 1")
        return value - 1
    if key == "device":
        return _device(value, folder)
    if key == "routing" and isinstance(value, str) and value.endswith(".json"):
        return str(folder / value)
    return value


def shown(key: str, value: Any) -> str | int | bool:
    """One value as results show it."""
    if key == "pages":
        return "+".join(str(page) for page in value)
    if key == "max_new_tokens":
        return int(value) + 1
    if key == "routing" and value.endswith(".json"):
        return Path(value).name
    found: str | int | bool = value.id if isinstance(value, Device) else value
    return found


def read_range(key: str, given: Mapping[str, Any]) -> list[int]:
    """The numbers of ``{from, to, step}`` or ``{from, to, times}``, the last one at most ``to``.

    Raises UnknownNameError for other words, ScenarioError for what is no range.
    """
    for word in given:
        if word not in RANGE:
            raise UnknownNameError(f"word in the range of {key}", str(word), RANGE)
    if ("step" in given) == ("times" in given) or not {"from", "to"} <= set(given):
        raise ScenarioError(
            f"the range of {key} has {', '.join(given) or 'no words'}",
            remedy="give from, to, and one of step and times",
        )
    for word, number in given.items():
        least = {"step": 1, "times": 2, "from": 1 if "times" in given else 0}.get(word, 0)
        if type(number) is not int or number < least:
            raise ScenarioError(
                f"{word} in the range of {key} is {number!r:.60}", remedy=f"give a whole number of at least {least}"
            )
    first, last = given["from"], given["to"]
    if last < first:
        raise ScenarioError(f"the range of {key} goes from {first} to {last}", remedy="give the smaller number first")
    if "step" in given:
        numbers = range(first, last + 1, given["step"])
        if len(numbers) > MOST_VALUES:
            raise ScenarioError(
                f"the range of {key} has {len(numbers):,} numbers", remedy=f"give at most {MOST_VALUES:,}"
            )
        return list(numbers)
    found = [first]
    while found[-1] * given["times"] <= last:
        found.append(found[-1] * given["times"])
    return found


def _page(entry: Any) -> Page:
    if isinstance(entry, dict) and set(entry) == {"grid"}:
        return Page(grid=parse_size(str(entry["grid"]), "grid"))
    if not isinstance(entry, str) or not is_size(entry):
        raise ScenarioError(f"page {entry!r:.60} is no size", remedy=_PAGE)
    width, height = parse_size(entry, "page", "1240x1754")
    return Page(grid=(width, height)) if max(width, height) < GRID_BELOW else Page(width, height)


def _device(value: Any, folder: Path) -> Any:
    if isinstance(value, str) and value.endswith(_FILE_SUFFIXES):
        return read_device(folder / value)
    return value
