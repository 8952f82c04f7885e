"""Views of a page as expressions: which side is shown, and which crop grid a page's size gives.

The same rule as ``views.closest_grid``, written so that it takes keys; a test compares the two.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from modelmeter.cost.arithmetic import Number, equal, less, maximum, where
from modelmeter.cost.expression import key
from modelmeter.families.deepseek_ocr.views import NO_CROP_LIMIT, VisionWorkload
from modelmeter.schema.scenario import Scenario

FARTHEST = 1e300
"""Farther than any two ratios of sides are apart."""


def scenario_keys(scenario: Scenario) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keys of a resolved scenario, and the closed form's keys that follow from them.

    Where all pages are of one size in pixels, its crop grid follows from that size; pages that were given by
    their grid, or that differ, keep their grid as the key.
    """
    values: dict[str, Any] = {
        "base_size": scenario.base_size,
        "crop_mode": int(bool(scenario.crop_mode)),
        "image_size": scenario.image_size,
    }
    base, crop_mode, image = (key(name) for name in ("base_size", "crop_mode", "image_size"))
    derived: dict[str, Number] = {"crop_side": image, "global_side": where(crop_mode, base, image)}
    groups = [page for page, _ in groupby(scenario.pages, key=lambda page: (page.width, page.height, page.grid))]
    if len(groups) == 1 and groups[0][2] is None:
        values |= {"page_height": groups[0][1], "page_width": groups[0][0]}
        columns, rows = crop_grid(key("page_width"), key("page_height"), crop_mode)
        derived |= {"page_columns.0": columns, "page_rows.0": rows}
    return values, derived


def crop_grid(width: Number, height: Number, crop_mode: Number) -> tuple[Number, Number]:
    """Columns and rows of a page of so many pixels, 1 and 1 where it is not cropped."""
    ratio = width / height
    area = 2 * width * height
    columns: Number = 1
    rows: Number = 1
    nearest: Number = FARTHEST
    for w, h in VisionWorkload().grids():
        away = maximum(ratio - w / h, w / h - ratio)
        fills = less(NO_CROP_LIMIT * NO_CROP_LIMIT * w * h, area)
        better = maximum(less(away, nearest), equal(away, nearest) * fills)
        columns, rows, nearest = where(better, w, columns), where(better, h, rows), where(better, away, nearest)
    is_cropped = crop_mode * maximum(less(NO_CROP_LIMIT, width), less(NO_CROP_LIMIT, height))
    return where(is_cropped, columns, 1), where(is_cropped, rows, 1)
