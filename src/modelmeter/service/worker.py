"""One worker of the service: a process that works out one report after another, and can be ended at any time.

``python -m modelmeter.service.worker STORE`` reads jobs from stdin and answers on stdout, one JSON line each;
it ends with the process that started it, whose death closes its stdin.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from modelmeter.contracts.converter import converter
from modelmeter.contracts.files import json_text
from modelmeter.contracts.service import WhatIfAnswer, WhatIfRequest
from modelmeter.errors import DocumentError, InternalError, ModelMeterError
from modelmeter.planning.comparison import ratios
from modelmeter.planning.store import ReportStore
from modelmeter.planning.what_if import question_from, question_of
from modelmeter.service.questions import question_changed

REPORT, WHAT_IF, PAGE = "report", "what-if", "page"
"""Kinds of jobs."""

_MISTAKE = "a mistake in modelmeter; the log of the service says where"


def main() -> None:
    """Answer jobs until there are none."""
    store, device_files = ReportStore(Path(sys.argv[1])), [Path(name) for name in sys.argv[2:]]
    # Ctrl-C in a terminal reaches every process in it; this one ends with the service.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    with suppress(BrokenPipeError):
        for line in sys.stdin.buffer:
            answers.write(json.dumps(_answer(store, device_files, json.loads(line))) + "\n")
            answers.flush()


def _answer(store: ReportStore, device_files: list[Path], job: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {"answer": _WORK[job["kind"]](store, device_files, job)}
    except InternalError:
        traceback.print_exc()
        return {"mistake": _MISTAKE}
    except ModelMeterError as error:
        return {"refused": str(error)}
    except Exception:
        traceback.print_exc()
        return {"mistake": _MISTAKE}


def _report(store: ReportStore, _: list[Path], job: Mapping[str, Any]) -> str:
    """Work a report out and put it into the store."""
    report = question_from(job["inputs"]).report()
    if report.report_id != job["report_id"]:
        raise InternalError(f"the report {job['report_id']} came out as {report.report_id}")
    store.put(report, replace=job["replace"])
    return ""


def _what_if(store: ReportStore, device_files: list[Path], job: Mapping[str, Any]) -> str:
    """The answer to a what-if question, as text."""
    try:
        before = store.load(job["report_id"])
    except DocumentError as error:  # not the client's doing
        raise InternalError(str(error)) from error
    request = converter.structure(job["request"], WhatIfRequest)
    after = question_changed(question_of(before), request, device_files).report()
    answer = WhatIfAnswer(before=before, after=after, ratio=ratios(before, after))
    return json_text(converter.unstructure(answer))


def _page(store: ReportStore, device_files: list[Path], job: Mapping[str, Any]) -> str:
    """The interactive page of a report, as text."""
    from modelmeter.cli.report import html_of, subject_of

    try:
        report = store.load(job["report_id"])
    except DocumentError as error:  # not the client's doing
        raise InternalError(str(error)) from error
    return html_of(subject_of(report, device_file=tuple(device_files)))


_WORK: dict[str, Callable[[ReportStore, list[Path], Mapping[str, Any]], str]] = {
    REPORT: _report,
    WHAT_IF: _what_if,
    PAGE: _page,
}


if __name__ == "__main__":
    main()
