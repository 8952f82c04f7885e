"""The views of reports as they are sent, kept in memory: a summary is asked for far more often than it is made."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict

from modelmeter.contracts.converter import converter
from modelmeter.contracts.requests import DeepSeekOCRAnalyticModel
from modelmeter.planning.store import ReportStore

SUMMARY, MODEL, PAGE = "summary", "model", "page"

MOST_BYTES = 64 << 20
"""Bytes of answers that are kept; what was asked for longest ago goes first."""


class Views:
    """Answers by report and view. One that is kept counts for as long as the report's file is the same."""

    def __init__(self, store: ReportStore, most_bytes: int = MOST_BYTES) -> None:
        self._store = store
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], tuple[tuple[int, ...], bytes]] = OrderedDict()
        self._bytes = 0

    def kept(self, report_id: str, view: str) -> bytes | None:
        """The answer if it is in memory and the report as it was."""
        stamp = self._store.stamp(report_id)
        with self._lock:
            found = self._kept.get((report_id, view))
            if found is None or found[0] != stamp:
                return None
            self._kept.move_to_end((report_id, view))
            return found[1]

    def get(self, report_id: str, view: str) -> bytes:
        """The answer. Raises DocumentError for a report that is not there or cannot be read."""
        found = self.kept(report_id, view)
        if found is not None:
            return found
        stamp = self.stamp(report_id)
        if view == SUMMARY:
            data = converter.unstructure(self._store.summary(report_id))
        else:
            data = converter.unstructure(self._store.load(report_id), unstructure_as=DeepSeekOCRAnalyticModel)
        answer = json.dumps(data, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
        self.keep(report_id, view, stamp, answer)
        return answer

    def stamp(self, report_id: str) -> tuple[int, ...] | None:
        """What says that a report is still the one that an answer was made from."""
        return self._store.stamp(report_id)

    def keep(self, report_id: str, view: str, stamp: tuple[int, ...] | None, answer: bytes) -> None:
        """Keep an answer that was made from the report with this stamp."""
        if stamp is None:
            return
        key = report_id, view
        with self._lock:
            before = self._kept.pop(key, None)
            self._bytes += len(answer) - (len(before[1]) if before else 0)
            self._kept[key] = stamp, answer
            while self._bytes > self._most_bytes:
                _, (_, dropped) = self._kept.popitem(last=False)
                self._bytes -= len(dropped)
