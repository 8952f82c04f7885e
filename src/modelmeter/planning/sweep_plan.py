"""A sweep that is to be written down: its rows, the chunks in which they are worked out, and what determines them."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise, product
from math import ceil, prod
from pathlib import Path
from typing import Any

from attrs import asdict, evolve, frozen

import modelmeter
from modelmeter.cost.arrays import Array
from modelmeter.errors import UsageError
from modelmeter.families.protocol import Family
from modelmeter.planning.sweep import work_out
from modelmeter.planning.sweep_axes import FORMS, is_drawn
from modelmeter.planning.sweep_columns import Cells, axis_cells, fits_cells, reason_cells, result_cells
from modelmeter.planning.sweep_keys import shown
from modelmeter.planning.sweep_spec import SweepSpec

CHUNK_ROWS = 1 << 16
"""Rows that are worked out and kept together: a second's work, and some tens of megabytes as text."""

DRAWN_CHUNK_ROWS = 1 << 5
"""The same where routing is drawn, which takes ten thousand times as long or more."""

MOST_ROWS = 1_000_000_000

FITS, REASON = "fits", "reason"
"""Columns that every sweep has."""

Places = dict[str, slice]
"""A part of the axes."""


@frozen(eq=False)
class Chunk:
    """Some of the rows: all columns, which rows are possible, and which fit the device as well."""

    columns: dict[str, Cells]
    valid: Array
    fits: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes; rows are in C order."""
        return self.valid.shape


@frozen
class SweepPlan:
    """A specification together with its model."""

    family: Family
    config: Any
    spec: SweepSpec
    chunk_rows: int

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns in their order: the axes, whether a row fits and why not, the results."""
        return (*self.spec.names, FITS, REASON, *self.spec.results)

    @property
    def rows(self) -> int:
        """Combinations, possible or not."""
        return prod(self.spec.axes.shape)

    def chunks(self) -> list[Places]:
        """Parts of the axes that follow one another in the rows, each of one closed form and of few enough rows."""
        lengths = {name: len(values) for name, values in self.spec.axes.named.items()}
        names = list(lengths)
        left = sum(name in FORMS for name in names)
        while left < len(names) and prod(lengths[name] for name in names[left:]) > self.chunk_rows:
            left += 1
        # The axes before are taken value by value, those behind whole; the one between is cut evenly.
        cuts = [_cut(lengths[name], lengths[name]) for name in names[:left]]
        if left and names[left - 1] not in FORMS:
            within = prod(lengths[name] for name in names[left:])
            length = lengths[names[left - 1]]
            cuts[-1] = _cut(length, ceil(length / max(1, self.chunk_rows // within)))
        return [dict(zip(names, places, strict=False)) for places in product(*cuts)]

    def work_out(self, places: Places) -> Chunk:
        """The rows of a part of the axes."""
        axes = self.spec.axes.part(places)
        found = work_out(self.family, self.config, axes, self.spec.efficiency)
        columns: dict[str, Cells] = {}
        for column, name in self.spec.names.items():
            columns[column] = axis_cells(axes, name, [shown(column, value) for value in axes.named[name]])
        columns[FITS], columns[REASON] = fits_cells(found), reason_cells(found, axes)
        columns |= {name: result_cells(name, found, axes) for name in self.spec.results}
        return Chunk(columns, found.valid, found.fits)

    def fingerprint(self) -> str:
        """A hash of all that determines the rows besides the columns and the version."""
        axes = self.spec.axes
        # Where a table lies does not matter, only what it holds.
        scenario = evolve(axes.scenario, routing="balanced") if "routing" in axes.named else axes.scenario
        inputs = {
            "axes": {name: self.spec.shown(column) for column, name in self.spec.names.items()},
            "chunk_rows": self.chunk_rows,
            "configuration": self.config.to_dict(),
            "devices": [device.to_data() for device in axes.devices],
            "efficiency": asdict(self.spec.efficiency),
            "family": self.family.name,
            "order": list(axes.named),
            "scenario": {**asdict(scenario), "routing": _contents(scenario.routing)},
            "tables": [_contents(routing) for routing in axes.named.get("routing", ())],
        }
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()

    def manifest(self, suffix: str) -> dict[str, Any]:
        """What has to be the same for unfinished work to be taken up."""
        return {
            "columns": list(self.columns),
            "format": suffix.removeprefix("."),
            "rows": self.rows,
            "sweep": self.fingerprint(),
            "version": modelmeter.__version__,
        }


def plan_sweep(family: Family, config: Any, spec: SweepSpec, chunk_rows: int | None = None) -> SweepPlan:
    """A specification with its model. Raises UsageError for more rows than anybody would read."""
    drawn = any(map(is_drawn, spec.axes.named.get("routing", [spec.axes.scenario.routing])))
    plan = SweepPlan(family, config, spec, chunk_rows or (DRAWN_CHUNK_ROWS if drawn else CHUNK_ROWS))
    if plan.rows > MOST_ROWS:
        raise UsageError(f"the sweep has {plan.rows:,} rows", remedy=f"give axes of at most {MOST_ROWS:,} in all")
    return plan


def _cut(length: int, pieces: int) -> list[slice]:
    """About equal parts of an axis."""
    ends = [length * piece // pieces for piece in range(pieces + 1)]
    return [slice(*pair) for pair in pairwise(ends)]


def _contents(routing: str) -> str:
    """A policy, or the hash of its table."""
    if not routing.endswith(".json"):
        return routing
    return hashlib.sha256(Path(routing).read_bytes()).hexdigest()
