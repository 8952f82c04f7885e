"""The store: a folder of reports, one folder for each by its id, none of them ever half written.

A report is written into a folder beside its place and renamed into place when all of it is on the disk. A
process that is killed leaves such a folder behind, which the next one removes; it knows a living writer by
the lock that this one holds on it. Any number of threads and processes may share a store.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from modelmeter.contracts.converter import converter
from modelmeter.contracts.files import json_text, load_report, report_json
from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.contracts.requests import DeepSeekOCRAnalyticReportSummary
from modelmeter.errors import DocumentError, OutputError, UsageError
from modelmeter.schema.codec import read_json
from modelmeter.schema.files import UNFINISHED, write_files

REPORT_FILE, SUMMARY_FILE = "report.json", "summary.json"
"""What the folder of every report holds."""

_REMEDY = "free space, or choose another folder with --store"

_ID = re.compile(r"[0-9a-f]{16}")


class ReportStore:
    """Reports by their ids in one folder, which is made with the first report."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, report_id: str) -> Path:
        """Where a report lies or would lie. Raises UsageError for what is no id: no path leads out of the store."""
        if not is_report_id(report_id):
            raise UsageError(f"{report_id!r:.60} is no report id", remedy="an id has 16 hexadecimal digits")
        return self.folder / report_id

    def has(self, report_id: str) -> bool:
        """Whether a report is there, whole."""
        return (self.place(report_id) / REPORT_FILE).is_file()

    def stamp(self, report_id: str) -> tuple[int, ...] | None:
        """What changes when a report is written again; None if it is not there."""
        try:
            found = os.stat(self.place(report_id) / REPORT_FILE)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def report_ids(self) -> list[str]:
        """The ids of the reports that are there, sorted. Raises OutputError if the folder cannot be read."""
        try:
            names = [name for name in os.listdir(self.folder) if is_report_id(name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unusable(self.folder, error) from None
        return sorted(name for name in names if self.has(name))

    def load(self, report_id: str) -> AnalyticModelReport:
        """A report. Raises DocumentError if it is not there or not a report."""
        path = self.place(report_id) / REPORT_FILE
        report = load_report(path)
        if report.report_id != report_id:
            raise DocumentError(f"{path} is the report {report.report_id}", remedy="remove its folder, and ask again")
        return report

    def summary(self, report_id: str) -> DeepSeekOCRAnalyticReportSummary:
        """A report in short, from its small file. Raises DocumentError if it is not there or no summary."""
        path = self.place(report_id) / SUMMARY_FILE
        return converter.structure(read_json(path), DeepSeekOCRAnalyticReportSummary)

    def put(
        self, report: AnalyticModelReport, files: Mapping[str, str] | None = None, *, replace: bool = False
    ) -> Path:
        """Write a report with its summary and perhaps more files, by names relative to it; gives its folder.

        A report that is there already stays as it is unless ``replace``. Then its files are replaced one by one,
        each in one piece: an id stands for all that determines them, so old and new ones belong together.
        Raises DocumentError for a report that breaks the contract, OutputError if it cannot be written.
        """
        place = self.place(report.report_id)
        if not replace and self.has(report.report_id):
            return place
        summary = converter.unstructure(report, unstructure_as=DeepSeekOCRAnalyticReportSummary)
        texts = {_name(name): text for name, text in (files or {}).items()}
        texts |= {REPORT_FILE: report_json(report), SUMMARY_FILE: json_text(summary)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if place.is_dir() or not self._place_new(place, texts):
                self._fill(place, texts, replace=replace)
        except OSError as error:
            raise _unusable(place, error) from None
        except OutputError as error:
            raise OutputError(error.problem, remedy=_REMEDY) from None
        return place

    def clean(self) -> int:
        """Remove what writers that are no more have left unfinished; gives how many files and folders."""
        removed = 0
        with suppress(FileNotFoundError):
            for entry in sorted(self.folder.iterdir()):
                if entry.name.startswith(".") and entry.name.endswith(UNFINISHED):
                    with _locked(entry, wait=False) as mine:
                        if mine:
                            shutil.rmtree(entry, ignore_errors=True)
                            removed += 1
                elif is_report_id(entry.name) and entry.is_dir():
                    removed += _clean_inside(entry)
        return removed

    def _place_new(self, place: Path, texts: Mapping[str, str]) -> bool:
        """Write a new folder and rename it into place; False if another writer was there first."""
        while True:
            beside = self.folder / f".{place.name}.{secrets.token_hex(8)}{UNFINISHED}"
            beside.mkdir()
            with _locked(beside) as mine:
                if not mine:  # removed before it was locked, by one that cleans
                    continue
                try:
                    write_files({beside / name: text for name, text in texts.items()})
                    _flush_folder(beside)
                    os.rename(beside, place)
                except OSError:
                    if place.is_dir():
                        return False
                    raise
                finally:
                    shutil.rmtree(beside, ignore_errors=True)
            _flush_folder(self.folder)
            return True

    def _fill(self, place: Path, texts: Mapping[str, str], *, replace: bool) -> None:
        """Write into a folder that is there, one writer after the other."""
        with _locked(place):
            if replace or not (place / REPORT_FILE).is_file():
                write_files({place / name: text for name, text in texts.items()}, force=True)
                _flush_folder(place)


def is_report_id(text: str) -> bool:
    """Whether a text is an id as reports have them: 16 hexadecimal digits."""
    return _ID.fullmatch(text) is not None


def _name(name: str) -> str:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith(("/", "~")) or any(part == ".." or "\\" in part for part in parts):
        raise OutputError(f"{name!r:.60} is no place in a report's folder", remedy="give a relative name")
    return str(PurePosixPath(name))


def _clean_inside(folder: Path) -> int:
    unfinished = list(folder.rglob(f".*{UNFINISHED}"))
    if not unfinished:
        return 0
    with _locked(folder, wait=False) as mine:
        if not mine:
            return 0
        for path in unfinished:
            path.unlink(missing_ok=True)
    return len(unfinished)


@contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock on a folder, which ends with the process that holds it; gives whether it is held.

    It is not if the folder is no more, or another has it and this one does not wait.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = os.path.samestat(os.fstat(descriptor), os.stat(folder))
        except (BlockingIOError, FileNotFoundError):
            held = False
        yield held
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    """Names outlive a loss of power only when their folder is on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot use {path}: {error.strerror or error}", remedy=_REMEDY)
