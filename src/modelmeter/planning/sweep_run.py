"""Running a sweep into a file: chunk by chunk, taking up what an interrupted run has finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from attrs import define, field

from modelmeter.cost.arrays import Array
from modelmeter.errors import UsageError
from modelmeter.planning.sweep_columns import RESULTS, SMALLEST, Cells
from modelmeter.planning.sweep_files import Unfinished
from modelmeter.planning.sweep_plan import Chunk, SweepPlan
from modelmeter.planning.sweep_tables import FORMATS, assemble, cell, check_format, compact, encode
from modelmeter.schema.files import check_writable

Row = dict[str, Any]


@define
class SweepOutcome:
    """What a sweep has written."""

    rows: int = 0
    possible: int = 0
    """Rows that the model and the device can have."""
    fit: int = 0
    """Rows that fit the device's memory as well."""
    chunks: int = 0
    resumed_chunks: int = 0
    """Chunks that an earlier run had finished."""
    best: dict[str, Row] = field(factory=dict)
    """The best row that fits, by column; of equal ones the first."""

    def add(self, summary: Mapping[str, Any]) -> None:
        """Add a chunk; chunks come in the order of their rows."""
        self.chunks += 1
        self.rows += summary["rows"]
        self.possible += summary["possible"]
        self.fit += summary["fit"]
        for column, row in summary["best"].items():
            if column not in self.best or _better(column, row[column], self.best[column][column]):
                self.best[column] = row


def check_target(plan: SweepPlan, target: Path, *, force: bool) -> None:
    """Refuse early what could not be written: changes nothing.

    Raises UsageError for a file that is neither .csv nor .parquet, OutputError for one that exists and for
    unfinished work of another sweep, unless ``force`` is set, MissingDependencyError for Parquet without its package.
    """
    suffix = target.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(
            f"--out {target} is neither CSV nor Parquet", remedy="give a name that ends in .csv or .parquet"
        )
    check_format(suffix)
    check_writable(target.parent, [target.name], force=force)
    Unfinished(target).check(plan.manifest(suffix), force=force)


def run_sweep(
    plan: SweepPlan,
    target: Path,
    *,
    force: bool = False,
    done: Callable[[int, bool], None] = lambda rows, resumed: None,
) -> SweepOutcome:
    """Work out a sweep into a file; ``done`` is told the rows of each chunk, and whether they were there.

    Raises what ``check_target`` does, and OutputError for what cannot be written. Finished chunks stay then.
    """
    check_target(plan, target, force=force)
    suffix = target.suffix.lower()
    work = Unfinished(target)
    outcome = SweepOutcome()
    chunks = plan.chunks()
    with work.opened(plan.manifest(suffix)):
        for number, places in enumerate(chunks):
            summary = work.summary(number)
            resumed = summary is not None
            if summary is None:
                chunk = plan.work_out(places)
                summary = _summary(chunk)
                work.put(number, encode(chunk.columns, chunk.shape, suffix), summary)
            outcome.add(summary)
            outcome.resumed_chunks += resumed
            done(summary["rows"], resumed)
        assemble([work.rows(number) for number in range(len(chunks))], plan.columns, work.whole)
        work.finish()
    return outcome


def _summary(chunk: Chunk) -> dict[str, Any]:
    """How many rows there are, and the best of each result: what is asked of the whole sweep in the end."""
    best: dict[str, Row] = {}
    for name, cells in chunk.columns.items():
        if name in RESULTS and RESULTS[name].best:
            place = _best_place(cells, chunk.fits, RESULTS[name].best)
            if place is not None:
                best[name] = {column: cell(own, chunk.shape, place) for column, own in chunk.columns.items()}
    return {
        "rows": chunk.valid.size,
        "possible": int(chunk.valid.sum()),
        "fit": int(chunk.fits.sum()),
        "best": best,
    }


def _best_place(cells: Cells, fits: Array, best: str) -> int | None:
    """The first row that fits and has the best value."""
    candidates = np.flatnonzero(fits & ~cells.empty)
    if not candidates.size:
        return None
    values = np.broadcast_to(compact(cells.values), fits.shape).ravel()[candidates]
    return int(candidates[values.argmin() if best == SMALLEST else values.argmax()])


def _better(column: str, one: Any, other: Any) -> bool:
    return bool(one < other if RESULTS[column].best == SMALLEST else one > other)
