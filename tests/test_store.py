"""The store: whole reports or none, whoever writes at the same time and whenever a writer is killed."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from attrs import evolve

from modelmeter.contracts import converter, load_report, report_json
from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.contracts.summary import summary_of
from modelmeter.cost.catalogue import find_device
from modelmeter.errors import DocumentError, OutputError, UsageError
from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.planning.report import build_report
from modelmeter.planning.store import REPORT_FILE, SUMMARY_FILE, ReportStore
from modelmeter.schema.scenario import Page, Scenario


@pytest.fixture(scope="module")
def report() -> AnalyticModelReport:
    scenario = Scenario(pages=(Page(grid=(1, 1)),))
    return build_report(FAMILY, FAMILY.default_configuration(), scenario, find_device("h100-sxm"))


@pytest.fixture
def store(tmp_path: Path) -> ReportStore:
    return ReportStore(tmp_path / "store")


def numbered(report: AnalyticModelReport, number: int) -> AnalyticModelReport:
    return evolve(report, report_id=f"{number:016x}")


def test_what_is_put_is_there(store: ReportStore, report: AnalyticModelReport) -> None:
    assert store.report_ids() == [] and not store.has(report.report_id) and store.stamp(report.report_id) is None
    place = store.put(report, {"layers/index.md": "# Layers\n", "report.txt": "é\n"})
    assert place == store.folder / report.report_id
    assert store.report_ids() == [report.report_id] and store.has(report.report_id)
    assert store.load(report.report_id) == report == load_report(place / REPORT_FILE)
    assert store.summary(report.report_id) == summary_of(report)
    assert (place / REPORT_FILE).read_text(encoding="utf-8") == report_json(report)
    assert (place / "layers" / "index.md").read_text() == "# Layers\n"
    assert (place / "report.txt").read_text(encoding="utf-8") == "é\n"
    assert sorted(path.name for path in place.iterdir()) == ["layers", REPORT_FILE, "report.txt", SUMMARY_FILE]
    assert [path.name for path in store.folder.iterdir()] == [report.report_id]


def test_permissions_follow_the_umask(store: ReportStore, report: AnalyticModelReport) -> None:
    before = os.umask(0o027)
    try:
        place = store.put(report)
    finally:
        os.umask(before)
    assert stat.S_IMODE(place.stat().st_mode) == 0o750
    assert stat.S_IMODE((place / REPORT_FILE).stat().st_mode) == 0o640


def test_a_report_that_is_there_stays_unless_it_is_replaced(store: ReportStore, report: AnalyticModelReport) -> None:
    place = store.put(report, {"page.md": "first"})
    stamp = store.stamp(report.report_id)
    store.put(report, {"page.md": "second"})
    assert store.stamp(report.report_id) == stamp and (place / "page.md").read_text() == "first"
    store.put(report, {"page.md": "second"}, replace=True)
    assert store.stamp(report.report_id) != stamp and (place / "page.md").read_text() == "second"
    assert store.load(report.report_id) == report


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "0" * 15, "0" * 17, "A" * 16, "0" * 15 + "/", "/" + "0" * 15, "0" * 16 + "\n", "é" * 16],
)
def test_an_id_leads_nowhere_else(store: ReportStore, name: str) -> None:
    for ask in (store.place, store.has, store.load, store.summary, store.stamp):
        with pytest.raises(UsageError, match="is no report id"):
            ask(name)


@pytest.mark.parametrize("name", ["", "/etc/x", "../x", "a/../../x", "~/x", "a\\..\\x"])
def test_a_file_lies_below_its_report(store: ReportStore, report: AnalyticModelReport, name: str) -> None:
    with pytest.raises(OutputError, match="is no place in a report's folder"):
        store.put(report, {name: "text"})
    assert not store.folder.exists()


def test_a_report_that_breaks_the_contract_is_not_put(store: ReportStore, report: AnalyticModelReport) -> None:
    with pytest.raises(DocumentError):
        store.put(evolve(report, modules=()))
    assert not store.folder.exists()


def test_what_is_not_there_is_said(store: ReportStore, report: AnalyticModelReport) -> None:
    with pytest.raises(DocumentError, match="cannot read"):
        store.load(report.report_id)
    place = store.put(report)
    place.rename(store.folder / ("0" * 16))
    with pytest.raises(DocumentError, match=f"is the report {report.report_id}"):
        store.load("0" * 16)


def test_other_things_in_the_folder_are_no_reports(store: ReportStore, report: AnalyticModelReport) -> None:
    store.put(report)
    (store.folder / "notes.txt").write_text("")
    (store.folder / ("1" * 16)).mkdir()
    (store.folder / ("2" * 16)).write_text("")
    assert store.report_ids() == [report.report_id]
    assert not store.has("2" * 16)
    # An empty folder, or one with something else in it, becomes the report's.
    (store.folder / ("3" * 16)).mkdir()
    (store.folder / ("3" * 16) / "notes.txt").write_text("mine")
    for number in ("1", "3"):
        store.put(evolve(report, report_id=number * 16))
        assert store.has(number * 16)
    assert (store.folder / ("3" * 16) / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path, report: AnalyticModelReport) -> None:
    (tmp_path / "file").write_text("")
    store = ReportStore(tmp_path / "file")
    with pytest.raises(OutputError, match="--store"):
        store.put(report)
    with pytest.raises(OutputError, match="--store"):
        store.report_ids()


def test_writers_at_the_same_time(store: ReportStore, report: AnalyticModelReport) -> None:
    """Every report is whole whenever it can be seen, and none is lost."""
    reports = [numbered(report, number) for number in range(4)]
    stop, seen, errors = threading.Event(), set(), []

    def write(replace: bool) -> None:
        try:
            for one in reports:
                store.put(one, replace=replace)
        except Exception as error:
            errors.append(error)

    def read() -> None:
        try:
            while not stop.is_set():
                for found in store.report_ids():
                    assert converter.unstructure(store.load(found))["report_id"] == found
                    assert store.summary(found).report_id == found
                    seen.add(found)
        except Exception as error:
            errors.append(error)

    def clean() -> None:
        while not stop.is_set():
            store.clean()

    writers = [threading.Thread(target=write, args=(number == 0,)) for number in range(3)]
    others = [threading.Thread(target=read), threading.Thread(target=clean)]
    for thread in (*writers, *others):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in others:
        thread.join()
    assert not errors
    assert store.report_ids() == [one.report_id for one in reports] and seen
    assert all(path.name in store.report_ids() for path in store.folder.iterdir())


WRITER = """
import sys
from pathlib import Path
from attrs import evolve
from modelmeter.contracts import load_report
from modelmeter.planning.store import ReportStore
report, store = load_report(sys.argv[1]), ReportStore(Path(sys.argv[2]))
print("ready", flush=True)
for number in range(10 ** 6):
    store.put(evolve(report, report_id=f"{number % 50:016x}"), {"a/b.txt": "b"}, replace=True)
    print(number, flush=True)
"""


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_a_killed_writer_leaves_whole_reports(
    store: ReportStore, report: AnalyticModelReport, tmp_path: Path, kills: int
) -> None:
    source = tmp_path / "report.json"
    source.write_text(report_json(report), encoding="utf-8")
    finished: set[str] = set()
    for number in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(source), str(store.folder)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        finished.add(f"{int(process.stdout.readline()):016x}")
        time.sleep(0.037 * (number % 7))
        process.send_signal(signal.SIGKILL)
        finished |= {f"{int(line) % 50:016x}" for line in process.communicate()[0].splitlines()}
        found = store.report_ids()
        assert finished <= set(found)
        for name in found:
            assert store.load(name).report_id == store.summary(name).report_id == name
            assert (store.folder / name / "a" / "b.txt").read_text() == "b"
        store.clean()
        assert {path.name for path in store.folder.iterdir()} == set(found)
        assert not list(store.folder.rglob("*.part"))


def test_cleaning_spares_what_is_being_written(store: ReportStore, report: AnalyticModelReport) -> None:
    place = store.put(report)
    living = store.folder / f".{'0' * 16}.abc.part"
    living.mkdir()
    (living / REPORT_FILE).write_text("{")
    inside = place / f".{REPORT_FILE}.abc.part"
    inside.write_text("{")
    locks = [os.open(folder, os.O_RDONLY) for folder in (living, place)]
    for lock in locks:
        fcntl.flock(lock, fcntl.LOCK_EX)
    assert store.clean() == 0 and living.exists() and inside.exists()
    for lock in locks:
        os.close(lock)
    assert store.clean() == 2 and not living.exists() and not inside.exists()
    assert store.load(report.report_id) == report
    assert ReportStore(store.folder / "none").clean() == 0
