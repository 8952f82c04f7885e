"""``modelmeter sweep``: every combination of some values, worked out into a CSV or Parquet file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from modelmeter.cli.arguments import Flag, Json
from modelmeter.cli.console import printing, write_text
from modelmeter.cli.subject import FamilySubject, find_subject
from modelmeter.errors import UnknownNameError, UsageError
from modelmeter.families.registry import families

if TYPE_CHECKING:
    from modelmeter.planning.sweep_plan import SweepPlan
    from modelmeter.planning.sweep_run import SweepOutcome


def sweep(
    spec: Path,
    /,
    *,
    out: Path,
    best: str | None = None,
    force: Flag = False,
    as_json: Json = False,
    quiet: Flag = False,
) -> None:
    """Work out every combination of some values, without running anything, into a CSV or Parquet file.

    An interrupted sweep goes on where it was when it is run again.

    Examples:

        modelmeter sweep examples/sweep.yaml --out results.csv

        modelmeter sweep examples/sweep.yaml --out results.parquet --best pages_per_s --json

    Parameters
    ----------
    spec
        What is fixed and what varies, in YAML: model, base, axes, columns; docs/sweeps.md describes it.
    out
        The file to write, .csv or .parquet.
    best
        The column whose best row is shown, among those that fit the device.
    force
        Overwrite a file that exists, and discard the unfinished work of another sweep.
    as_json
        Print counts, and the best row with --best, as JSON.
    quiet
        No progress and no table.
    """
    from modelmeter.planning.sweep_run import run_sweep

    plan = _plan(spec)
    _check_best(best, plan)
    kept = 0
    try:
        with _bar(plan.rows, quiet=quiet) as advance:

            def done(rows: int, resumed: bool) -> None:
                nonlocal kept
                kept += 1
                advance(rows)

            outcome = run_sweep(plan, out, force=force, done=done)
    except KeyboardInterrupt:
        if kept and not quiet:
            print(f"modelmeter: {kept} finished chunks are kept; run it again to go on", file=sys.stderr)
        raise
    if outcome.resumed_chunks and not quiet:
        print(
            f"modelmeter: resumed; {outcome.resumed_chunks} of {outcome.chunks} chunks were finished before",
            file=sys.stderr,
        )
    with printing():
        _show(plan, outcome, out, best, as_json=as_json, quiet=quiet)


def _plan(path: Path) -> SweepPlan:
    from modelmeter.planning.sweep_plan import plan_sweep
    from modelmeter.planning.sweep_spec import read_sweep

    spec = read_sweep(path, families())
    subject = find_subject(spec.model)
    if not isinstance(subject, FamilySubject):
        raise UsageError(f"{spec.model} has no closed form", remedy=f"give one of {', '.join(families())}")
    return plan_sweep(subject.family, subject.config, spec)


def _check_best(best: str | None, plan: SweepPlan) -> None:
    from modelmeter.planning.sweep_columns import RESULTS

    if best is None:
        return
    ranked = [name for name in plan.spec.results if RESULTS[name].best]
    if best not in ranked:
        raise UnknownNameError("column for --best", best, ranked)


@contextmanager
def _bar(rows: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from modelmeter.render.sweep import sweep_progress

    with sweep_progress(rows) as advance:
        yield advance


def _show(plan: SweepPlan, outcome: SweepOutcome, out: Path, best: str | None, *, as_json: bool, quiet: bool) -> None:
    counts = {"rows": outcome.rows, "possible": outcome.possible, "fit": outcome.fit}
    if as_json:
        answer = {**counts, "chunks": outcome.chunks, "file": str(out), "resumed_chunks": outcome.resumed_chunks}
        if best is not None:
            answer["best"] = outcome.best.get(best)
        write_text(json.dumps(answer, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        return
    if quiet:
        return
    from modelmeter.planning.sweep_columns import MAIN
    from modelmeter.render.sweep import sweep_view
    from modelmeter.render.terminal import console

    shown = MAIN if best is None else (best,)
    rows = {column: outcome.best[column] for column in shown if column in outcome.best}
    console().print(sweep_view(counts, rows, list(plan.spec.names)), crop=False)
    print(f"Wrote {out}")
