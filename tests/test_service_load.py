"""The service under load and under the knife: no error, no lost report, no half one."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from modelmeter.planning.store import ReportStore
from served import BASE, asked, kill, serving, start, stop

CLIENTS = 32


def test_clients_at_the_same_time(tmp_path: Path) -> None:
    """32 clients with 8 different requests, each asking, waiting and reading what it gets."""
    with serving(tmp_path) as server, ThreadPoolExecutor(CLIENTS) as pool:
        together = threading.Barrier(CLIENTS)

        def client(number: int) -> tuple[int, str, bytes]:
            together.wait()
            batch = 1 + number % 8
            report_id = server.run(scenario={"batch": batch, "decode_steps": 7})
            server.summary(report_id)
            answer = server.get(f"{BASE}/{report_id}/model")
            assert answer.status == 200 and answer.data["report_id"] == report_id
            assert {run["report_id"] for run in server.get(BASE).data["reports"]} >= {report_id}
            return batch, report_id, answer.body

        found = list(pool.map(client, range(CLIENTS)))
        by_batch: dict[int, set[tuple[str, bytes]]] = {}
        for batch, report_id, body in found:
            by_batch.setdefault(batch, set()).add((report_id, body))
        assert sorted(by_batch) == list(range(1, 9)) and all(len(answers) == 1 for answers in by_batch.values())
        ids = {report_id for _, report_id, _ in found}
        assert len(ids) == 8 and set(ReportStore(tmp_path).report_ids()) == ids
        health = server.get("/health").data
        assert (health["queued"], health["running"], health["reports"]) == (0, 0, 8)


def test_a_report_is_never_gone_for_a_moment(tmp_path: Path) -> None:
    """Whoever asks from the beginning sees queued or running, then done, and nothing else in between."""
    with serving(tmp_path) as server:
        for number in range(2):
            report_id = server.run(scenario={"batch": 1 + number})
            seen, end = [], time.monotonic() + 60
            while not seen or seen[-1] != 200:
                seen.append(server.get(f"{BASE}/{report_id}/summary").status)
                assert seen[-1] in (200, 409) and time.monotonic() < end


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_a_killed_service_loses_no_report_and_serves_no_half_one(tmp_path: Path, kills: int) -> None:
    chance = random.Random(5)
    finished: dict[str, bytes] = {}
    asked_for: list[tuple[str, dict[str, Any]]] = []
    for number in range(kills):
        server = start(tmp_path)
        try:
            for report_id, summary in finished.items():
                answer = server.get(f"{BASE}/{report_id}/summary")
                assert (answer.status, answer.body) == (200, summary)
            runs = server.get(BASE).data["reports"]
            # Whatever is there is whole, also what nobody had seen finished.
            assert all(run["status"] == "done" and run["predicted_total_time_ms"] > 0 for run in runs)
            for run in chance.sample(runs, min(5, len(runs))):
                assert server.get(f"{BASE}/{run['report_id']}/model").data["report_id"] == run["report_id"]
            for place in range(3):
                scenario = {"decode_steps": 1 + 3 * number + place}
                asked_for.append((server.run(scenario=scenario, force_rebuild=place == 2), scenario))
            _until(lambda: bool(ReportStore(tmp_path).report_ids()))
            time.sleep(chance.random() * 1.5)
            for report_id, _ in asked_for:
                answer = server.get(f"{BASE}/{report_id}/summary")
                if answer.status == 200:
                    finished[report_id] = answer.body
        finally:
            kill(server)
    server = start(tmp_path)
    try:
        for report_id, scenario in asked_for[-6:]:
            assert server.run(scenario=scenario) == report_id
            assert server.summary(report_id)
        for report_id, summary in finished.items():
            assert server.get(f"{BASE}/{report_id}/summary").body == summary
        store = ReportStore(tmp_path)
        for report_id in store.report_ids():
            assert store.load(report_id).report_id == report_id
        _until(lambda: server.get("/health").data["running"] == 0)
        store.clean()
        assert {path.name for path in tmp_path.iterdir()} == set(store.report_ids())
    finally:
        stop(server)
    assert finished


def test_what_a_killed_service_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    left = tmp_path / f".{'0' * 16}.abc.part"
    left.mkdir()
    (left / "report.json").write_text("{")
    with serving(tmp_path) as server:
        assert not left.exists()
        assert server.get(f"{BASE}/{'0' * 16}/summary").status == 404
        assert server.get(BASE).data == {"reports": []}


def test_a_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", 1) as server:
        server.summary(server.run())
        for task in Path(f"/proc/{server.process.pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
        report_id = server.run(scenario={"batch": 2})
        answer = server.waited(report_id)
        if answer.status == 409:  # it was killed with this run in its hands
            assert "process ended" in answer.problem(409)["detail"]
            assert server.ask("POST", f"{BASE}/run", asked({"batch": 2})).status == 202
        assert server.summary(report_id)


def _until(true: Callable[[], bool], patience_s: float = 60) -> None:
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
