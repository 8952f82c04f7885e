"""Where a report goes: a folder of its own, or a store of reports."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from modelmeter.errors import MissingDependencyError, UsageError
from modelmeter.schema.files import check_writable, write_files

if TYPE_CHECKING:
    from modelmeter.contracts.report import AnalyticModelReport
    from modelmeter.planning.traced import TracedQuestion
    from modelmeter.planning.what_if import Question

RUNS = Path("runs")
"""Where runs go that have a name and no folder."""


def run_folder(out: Path | None, run_id: str | None, store: Path | None) -> Path | None:
    """The folder of a run, if it has one. Raises UsageError for a name that would lead out of it."""
    if run_id is None:
        return out
    if store is not None:
        raise UsageError(
            "--run-id names a folder, and in a store it is the report's id", remedy="leave one of them out"
        )
    if not run_id or run_id in (".", "..") or not set(run_id).isdisjoint("/\\\0"):
        raise UsageError(f"--run-id {run_id!r:.60} is no name of a folder", remedy="give a name without '/'")
    return (out or RUNS) / run_id


def check_artifacts(folder: Path, *, force: bool) -> None:
    """Refuse a folder that holds a report already, before anything is worked out."""
    check_writable(folder, ("report.json", "report.yaml"), force=force)


def write_artifacts(report: AnalyticModelReport, out: Path, *, force: bool) -> None:
    """The report as JSON and YAML, the configuration that it names, and its documents where mdutils is there."""
    from modelmeter.contracts import report_files

    files = {**report_files(report), **_documents(report)}
    write_files({out / name: text for name, text in files.items()}, force=force)


def stored(
    question: Question | TracedQuestion, folder: Path, *, force_rebuild: bool
) -> tuple[AnalyticModelReport, Path]:
    """The report from a store, worked out and put there if it is not there yet; and its folder there."""
    from modelmeter.contracts.files import report_files
    from modelmeter.planning.report import report_id
    from modelmeter.planning.store import ReportStore

    store = ReportStore(folder)
    identity = report_id(question.inputs())
    if not force_rebuild and store.has(identity):
        return store.load(identity), store.place(identity)
    report = question.report()
    return report, store.put(report, {**report_files(report), **_documents(report)}, replace=force_rebuild)


def _documents(report: AnalyticModelReport) -> dict[str, str]:
    """The configuration and the documents, by their places beside the report."""
    assert report.scenario is not None
    files = {report.model.config_path: json.dumps(report.scenario["configuration"], indent=1, sort_keys=True) + "\n"}
    try:
        from modelmeter.render.report import report_documents

        return files | report_documents(report)
    except MissingDependencyError as error:
        print(f"modelmeter: note: no documents: {error}", file=sys.stderr)
        return files
