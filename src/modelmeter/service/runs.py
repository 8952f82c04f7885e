"""The runs of the service: which are queued, running, done and failed. What is done lies in the store."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future

from attrs import frozen

from modelmeter.planning.report import report_id
from modelmeter.planning.store import ReportStore
from modelmeter.planning.what_if import Question
from modelmeter.service.pool import WorkerPool
from modelmeter.service.worker import REPORT

QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"

MOST_FAILURES = 1000
"""So many failed runs are remembered, the latest; the store has the others."""


@frozen
class RunStatus:
    """Where a run is, and why it failed."""

    state: str
    reason: str | None = None


class Runs:
    """Starts runs, each once, and knows how they stand. Any thread may ask."""

    def __init__(self, store: ReportStore, pool: WorkerPool) -> None:
        self._store = store
        self._pool = pool
        self._lock = threading.Lock()
        self._active: dict[str, Future[str]] = {}
        self._failed: OrderedDict[str, str] = OrderedDict()

    def start(self, question: Question, *, rebuild: bool = False) -> tuple[str, RunStatus]:
        """Start a run unless it is under way or its report is there; gives the report's id and where the run is.

        A run that failed is started again. Raises ScenarioError for what the model cannot have, QueueFullError.
        """
        inputs = question.inputs()
        asked = report_id(inputs)
        job = {"kind": REPORT, "report_id": asked, "inputs": inputs, "replace": rebuild}
        with self._lock:
            if asked in self._active:
                return asked, _status(self._active[asked])
            if self._store.has(asked) and not rebuild:
                return asked, RunStatus(DONE)
            future = self._active[asked] = self._pool.submit(job)
            self._failed.pop(asked, None)
        future.add_done_callback(lambda done: self._finish(asked, done))
        return asked, _status(future)

    def status(self, asked: str) -> RunStatus | None:
        """Where a run is; None if there is none."""
        # What is under way is looked at first: between the two looks a run may end, and is then in the store.
        with self._lock:
            future, reason = self._active.get(asked), self._failed.get(asked)
        if self._store.has(asked):
            return RunStatus(DONE)
        if future is not None:
            return _status(future)
        return None if reason is None else RunStatus(FAILED, reason)

    def all(self) -> dict[str, RunStatus]:
        """Every run by its report's id, sorted."""
        with self._lock:
            found = {asked: RunStatus(FAILED, reason) for asked, reason in self._failed.items()}
            found |= {asked: _status(future) for asked, future in self._active.items()}
        found |= dict.fromkeys(self._store.report_ids(), RunStatus(DONE))
        return dict(sorted(found.items()))

    def under_way(self) -> list[RunStatus]:
        """Those that are queued or running."""
        with self._lock:
            return [_status(future) for future in self._active.values()]

    def _finish(self, asked: str, future: Future[str]) -> None:
        with self._lock:
            self._active.pop(asked, None)
            error = None if future.cancelled() else future.exception()
            if error is not None:
                self._failed[asked] = str(error)
                if len(self._failed) > MOST_FAILURES:
                    self._failed.popitem(last=False)


def _status(future: Future[str]) -> RunStatus:
    return RunStatus(QUEUED if not (future.running() or future.done()) else RUNNING)
