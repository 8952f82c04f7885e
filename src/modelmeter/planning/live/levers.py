"""What can be changed on a page, within what, and why something cannot.

A lever has the value that the report has, the keys that it sets, and a ``reason`` where it is out of use.
"""

from __future__ import annotations

from typing import Any

from modelmeter.cost.arithmetic import Number
from modelmeter.errors import ModelMeterError
from modelmeter.planning.capacity import MOST_REQUESTS, REGULAR_ROUTING
from modelmeter.planning.traced import TracedQuestion
from modelmeter.planning.what_if import Question, changed
from modelmeter.schema.scenario import A4_AT_150_DPI, RESOLUTION_MODES, Page, Scenario

MOST_ON_A_SIDE = 9
"""Grids of up to so many crops on a side are tried."""

MOST_PIXELS, MOST_PAGES = 100_000, 1000

_SIZED = "the report's routing ({}) is drawn for its own tokens: ask modelmeter what-if"
_MIXED = "the pages of one request differ from each other: ask modelmeter what-if"
_FIXED = "the report fixes all positions of the prompt (seq_len): ask modelmeter what-if"
_NO_PAGES = "the model takes no pages"
_TRACED = "the report comes from a trace, which would have to be made anew: ask modelmeter what-if --retrace"
_SHARED = "devices that share layers have other formulas: ask modelmeter what-if --tensor-parallel"
_ONE_TRACED = "a trace is of one device"


def levers(question: Question, keys: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every lever by name. ``keys`` are those of the report's expressions, with the report's values."""
    scenario = question.scenario.resolve()
    drawn = "" if scenario.routing in REGULAR_ROUTING else _SIZED.format(scenario.routing)
    limit = question.family.costs(question.config, question.scenario).form.max_positions or MOST_REQUESTS
    numbers = {
        "batch": ("batch", 1, MOST_REQUESTS, drawn),
        "decode_steps": ("decode_steps", 0, limit, drawn),
        "pages": ("page_count.0", 1, MOST_PAGES, drawn or _page_reason(keys)),
        "text_tokens": ("text_tokens", 1, limit, drawn),
    }
    found: dict[str, dict[str, Any]] = {}
    for name, (key, least, most, reason) in numbers.items():
        lacking = "" if key in keys else "the report's expressions do not depend on it"
        found[name] = {"key": key, "max": most, "min": least, "reason": reason or lacking, "value": keys.get(key)}
    for name in ("attention", "dtype"):
        found[name] = {"reason": ""}
    found["execution"] = {"reason": "", "value": scenario.execution}
    found["device"] = {"reason": "", "value": question.device.id}
    found["devices"] = {"reason": _SHARED, "value": _devices(scenario)}
    page_reason = drawn or _page_reason(keys)
    found["page"] = _page(question, keys, page_reason)
    found["mode"] = _mode(question, page_reason or (_FIXED if question.scenario.seq_len is not None else ""))
    return found


def traced_levers(question: TracedQuestion) -> dict[str, dict[str, Any]]:
    """Of a traced run: where it runs can be changed, what runs cannot."""
    scenario = question.scenario
    described = question.run.described
    sizes = {"batch": scenario.batch, "decode_steps": scenario.decode_steps, "text_tokens": described.get("seq_len")}
    found: dict[str, dict[str, Any]] = {
        name: {"key": name, "max": value or 0, "min": 0, "reason": _TRACED, "value": value}
        for name, value in {**sizes, "pages": scenario.num_pages}.items()
    }
    found |= {name: {"reason": _TRACED} for name in ("attention", "dtype", "mode", "page")}
    found["execution"] = {"reason": "", "value": scenario.execution}
    found["device"] = {"reason": "", "value": question.device.id}
    found["devices"] = {"reason": _ONE_TRACED, "value": _devices(scenario)}
    return found


def _devices(scenario: Scenario) -> str:
    """``1``, or ``8: tensor parallel 2``."""
    degrees = {"tensor": scenario.tensor_parallel, "expert": scenario.expert_parallel}
    named = [f"{name} parallel {degree}" for name, degree in degrees.items() if degree > 1]
    return f"{scenario.devices}{': ' if named else ''}{', '.join(named)}"


def grid_rules(question: Question) -> dict[str, Number]:
    """The crop grid of a page of some size, by the keys that it sets; empty for a model that crops no pages."""
    try:
        asked = changed(question, {"pages": (Page(*A4_AT_150_DPI),)})
        values, derived = asked.family.scenario_keys(asked.config, asked.scenario)
    except ModelMeterError:
        return {}
    if "page_width" not in values:
        return {}
    return {name: rule for name, rule in derived.items() if name.startswith("page_")}


def _page_reason(keys: dict[str, Any]) -> str:
    if "page_columns.1" in keys:
        return _MIXED
    return "" if "page_columns.0" in keys else _NO_PAGES


def _page(question: Question, keys: dict[str, Any], reason: str) -> dict[str, Any]:
    """Pages by crop grid or by size in pixels; the report's own is one of the two."""
    if reason:
        return {"reason": reason}
    page = question.scenario.pages[0]
    grids = {mode: _grids(question, crops) for mode, crops in (("crops", True), ("whole", False))}
    # A page that is changed frees the prompt's length, as in ``changed``.
    text = changed(question, {"pages": question.scenario.pages})
    described = text.family.describe(text.config, text.scenario)
    return {
        "columns": "page_columns.0",
        "grid": [keys["page_columns.0"], keys["page_rows.0"]],
        "grids": grids,
        "max": MOST_PIXELS,
        "reason": "",
        "rows": "page_rows.0",
        "size": None if page.grid is not None else [page.width, page.height],
        "text_tokens": described["text_tokens"],
    }


def _grids(question: Question, crops: bool) -> list[list[int]]:
    """Grids that the model can have, with crops or without."""
    found = []
    for columns in range(1, MOST_ON_A_SIDE + 1):
        for rows in range(1, MOST_ON_A_SIDE + 1):
            changes = {
                "pages": (Page(grid=(columns, rows)),),
                "crop_mode": crops,
                "decode_steps": 0,
                "text_tokens": 1,
            }
            asked = changed(question, changes)
            try:
                asked.family.describe(asked.config, asked.scenario)
            except ModelMeterError:
                continue
            found.append([columns, rows])
    return found


def _mode(question: Question, reason: str) -> dict[str, Any]:
    """Resolution modes with the keys that each sets; "" where the report's sizes are those of no mode."""
    if reason:
        return {"reason": reason}
    modes: dict[str, dict[str, int]] = {}
    for name in RESOLUTION_MODES:
        asked = changed(question, {"mode": name}).scenario.resolve()
        modes[name] = {
            "base_size": asked.base_size or 0,
            "crop_mode": int(bool(asked.crop_mode)),
            "image_size": asked.image_size or 0,
        }
    scenario = question.scenario.resolve()
    own = (scenario.base_size, scenario.image_size, scenario.crop_mode)
    is_own = RESOLUTION_MODES[scenario.mode] == own
    return {"choices": modes, "reason": "", "value": scenario.mode if is_own else ""}
