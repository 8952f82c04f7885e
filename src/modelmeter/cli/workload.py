"""Workload files: some of the scenario's keys, in YAML or JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attrs import fields

from modelmeter.cli.pages import read_page
from modelmeter.errors import ScenarioError, UnknownNameError
from modelmeter.planning.workload_profiles import find_profile
from modelmeter.schema.scenario import Page, Scenario, is_size, parse_size

_EXAMPLE = "write '1240x1754', a file name, or 'grid: 3x2'"


def read_workload(path: Path) -> dict[str, Any]:
    """Scenario keys from a file; unknown keys are refused with the nearest known one, as are empty ones.

    The name of a workload profile stands for its keys, where no such file exists.
    Raises ScenarioError, and PageError for page files, whose names are relative to the workload's folder.
    """
    if not path.exists() and path.name == str(path) and not path.suffix:
        return dict(find_profile(str(path)).scenario)
    data = _parsed(path)
    if not isinstance(data, dict) or not data:
        raise ScenarioError(f"workload {path} holds no keys", remedy="give keys and values, for example 'batch: 4'")
    known = {attribute.name for attribute in fields(Scenario)} | {"max_new_tokens"}
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in known:
            raise UnknownNameError(f"key in workload {path}", str(key), known)
        if value is None:
            raise ScenarioError(f"{key} has no value in workload {path}", remedy="give one, or leave the key out")
        values[key] = _pages(value, path) if key == "pages" else value
    if "max_new_tokens" in values:
        values["decode_steps"] = _decode_steps(values, path)
        del values["max_new_tokens"]
    Scenario(**values)  # what an option overrides must be right as well
    return values


def _parsed(path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ScenarioError(f"cannot read workload {path}: {reason}", remedy="give a YAML or JSON file") from None
    kind = "JSON" if path.suffix == ".json" else "YAML"
    try:
        return json.loads(text) if kind == "JSON" else YAML(typ="safe").load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        line = " ".join(str(error).split())[:120]
        raise ScenarioError(f"workload {path} is no {kind}: {line}", remedy="give keys and values") from None


def _decode_steps(values: dict[str, Any], path: Path) -> int:
    tokens = values["max_new_tokens"]
    if type(tokens) is not int or tokens < 1:
        raise ScenarioError(f"max_new_tokens is {tokens!r} in {path}", remedy="give a whole number of at least 1")
    if values.get("decode_steps", tokens - 1) != tokens - 1:
        raise ScenarioError(
            f"max_new_tokens and decode_steps contradict each other in {path}",
            remedy="give one of them; the prefill yields the first token",
        )
    return tokens - 1


def _pages(value: Any, path: Path) -> tuple[Page, ...]:
    return tuple(_page(entry, path) for entry in (value if isinstance(value, list) else [value]))


def page_of(text: str) -> Page:
    """A page as a user writes it: ``1240x1754`` in pixels, ``grid:3x2`` in crops, or the name of a file."""
    kind, colon, size = text.partition(":")
    if kind == "grid" and colon:
        return Page(grid=parse_size(size, "grid"))
    return Page(*parse_size(text, "page", "1240x1754")) if is_size(text) else read_page(Path(text))


def _page(entry: Any, path: Path) -> Page:
    if isinstance(entry, str) and entry:
        file = path.parent / entry
        if is_size(entry):
            return Page(*parse_size(entry, f"page in {path}", "1240x1754"))
        if file.suffix or file.exists():
            return read_page(file)
    if isinstance(entry, dict) and set(entry) == {"grid"}:
        return Page(grid=parse_size(str(entry["grid"]), f"grid in {path}"))
    raise ScenarioError(f"page {entry!r:.80} in {path}", remedy=_EXAMPLE)
