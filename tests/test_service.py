"""The service over a real socket: what it answers, what it refuses, and what bounds it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import USAGE, command, document, refused
from modelmeter.contracts import (
    AnalyticRunList,
    DeepSeekOCRAnalyticModel,
    DeepSeekOCRAnalyticReportSummary,
    DeviceList,
    ProblemDetails,
    WhatIfAnswer,
    converter,
    load_report,
)
from modelmeter.contracts.openapi import openapi_path
from modelmeter.contracts.summary import model_of, summary_of
from modelmeter.cost.catalogue import find_device, load_catalogue
from modelmeter.planning.what_if import changed, question_of
from served import BASE, Server, asked, serving, start, stop

SMALL = {"pages": [{"grid": [1, 1]}], "decode_steps": 3}
"""A scenario that is not the profile's."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service") / "store"


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Server]:
    with serving(store) as found:
        yield found


@pytest.fixture(scope="module")
def done(server: Server) -> str:
    """The id of a report that is there."""
    report_id = server.run()
    server.summary(report_id)
    return report_id


def test_a_report_from_the_request_to_its_views(server: Server, store: Path, done: str) -> None:
    report = load_report(store / done / "report.json")
    assert report.report_id == done and report.workload.profile_id == "dsocr-standard-v1"
    summary, model = (server.get(f"{BASE}/{done}/{view}") for view in ("summary", "model"))
    assert summary.status == model.status == 200
    assert summary.headers["content-type"] == model.headers["content-type"] == "application/json"
    assert converter.structure(summary.data, DeepSeekOCRAnalyticReportSummary) == summary_of(report)
    assert converter.structure(model.data, DeepSeekOCRAnalyticModel) == model_of(report)
    assert server.get(f"{BASE}/{done}/model").body == model.body
    runs = converter.structure(server.get(BASE).data, AnalyticRunList).reports
    (run,) = (run for run in runs if run.report_id == done)
    assert (run.status, run.predicted_total_time_ms) == ("done", report.predicted_total_time_ms)
    assert [run.report_id for run in runs] == sorted(run.report_id for run in runs)


def test_the_same_request_again_starts_nothing(server: Server, store: Path, done: str) -> None:
    written = (store / done / "report.json").stat()
    assert server.run() == done
    assert server.run(scenario={}) == done
    assert server.run(scenario={"decode_steps": load_report(store / done / "report.json").workload.max_new_tokens - 1})
    assert server.get(f"{BASE}/{done}/summary").status == 200
    time.sleep(0.5)
    assert (store / done / "report.json").stat() == written
    content = (store / done / "report.json").read_bytes()
    assert server.run(force_rebuild=True) == done
    assert server.get(f"{BASE}/{done}/summary").status == 200  # what is there is given meanwhile
    end = time.monotonic() + 60
    while (store / done / "report.json").stat().st_ino == written.st_ino:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert (store / done / "report.json").read_bytes() == content


def test_a_scenario_is_what_the_command_line_takes(server: Server, store: Path) -> None:
    report_id = server.run(scenario={**SMALL, "mode": "base", "device": "h200", "routing": "zipf:1.1"})
    assert report_id != server.run(scenario=SMALL)
    assert server.summary(report_id)["workload_profile_id"] == "dsocr-standard-v1"
    report = load_report(store / report_id / "report.json")
    assert report.scenario is not None and report.scenario["device"]["id"] == "h200"
    assert (report.workload.base_size, report.workload.image_size, report.workload.crop_mode) == (1024, 1024, False)
    pages = [{"width": 800, "height": 600}, {"grid": [3, 2]}]
    two = server.run(scenario={"pages": pages})
    assert server.summary(two)["report_id"] == two
    assert load_report(store / two / "report.json").workload.num_pages == 2


def test_the_command_line_gives_the_same_id(server: Server, done: str) -> None:
    usual = ("analyze", "deepseek-ocr", "--workload", "dsocr-standard-v1")
    assert document(*usual)["report_id"] == done
    more = document(
        *usual, "--page", "800x600", "--grid", "3x2", "--batch", 4, "--device", "h200", "--dtype", "float16"
    )
    pages = [{"width": 800, "height": 600}, {"grid": [3, 2]}]
    scenario = {"pages": pages, "batch": 4, "device": "h200", "dtype": "float16"}
    assert server.run(scenario=scenario) == more["report_id"]


def test_a_report_that_was_spoilt_is_no_fault_of_the_client(tmp_path: Path, done: str, server: Server) -> None:
    (tmp_path / done).mkdir()
    for name in ("report.json", "summary.json"):
        (tmp_path / done / name).write_text("{")
    with serving(tmp_path) as other:
        for method, view in (("GET", "summary"), ("GET", "model"), ("GET", "page"), ("POST", "what-if")):
            answer = other.ask(method, f"{BASE}/{done}/{view}", {} if method == "POST" else None)
            assert str(tmp_path) not in answer.problem(500)["detail"]
        assert other.get(BASE).data == {"reports": [{"report_id": done, "status": "done"}]}
        assert other.run(force_rebuild=True) == done
        end = time.monotonic() + 60
        while other.get(f"{BASE}/{done}/summary").status != 200:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert other.get(f"{BASE}/{done}/model").body == server.get(f"{BASE}/{done}/model").body


def test_a_run_that_fails_says_why(server: Server) -> None:
    report_id = server.run(scenario={"batch": 10**6})
    for _ in range(2):
        problem = server.waited(report_id).problem(409)
        assert problem["run_status"] == "failed"
        assert "the run does not fit" in problem["detail"] and problem["instance"] == f"{BASE}/{report_id}/summary"
    for path in ("model", "what-if"):
        method = "POST" if path == "what-if" else "GET"
        assert server.ask(method, f"{BASE}/{report_id}/{path}", {} if method == "POST" else None).status == 409
    (run,) = (run for run in server.get(BASE).data["reports"] if run["report_id"] == report_id)
    assert run["status"] == "failed" and "does not fit" in run["reason"]
    assert server.run(scenario={"batch": 10**6}) == report_id  # and is tried again


def test_the_page_is_the_commands_own(server: Server, store: Path, done: str, tmp_path: Path) -> None:
    answer = server.get(f"{BASE}/{done}/page")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    made = command("report", str(store / done / "report.json"), "--out", "page.html", cwd=tmp_path)
    assert made.code == 0, made.err
    assert answer.body == (tmp_path / "page.html").read_bytes()
    assert server.get(f"{BASE}/{done}/page").body == answer.body


def test_what_if_is_exact(server: Server, store: Path, done: str) -> None:
    answer = server.ask("POST", f"{BASE}/{done}/what-if", {"scenario": {"device": "h200", "batch": 8}})
    assert answer.status == 200, answer.body
    found = converter.structure(answer.data, WhatIfAnswer)
    before = load_report(store / done / "report.json")
    assert found.before == before
    assert found.after == changed(question_of(before), {"batch": 8}, find_device("h200")).report()
    assert found.ratio["total.flops"] == pytest.approx(8, rel=1e-3) and found.ratio["total.weight_bytes"] == 1


def test_what_if_with_other_peaks(server: Server, done: str) -> None:
    body = {"peak_tflops_per_s": 2 * 989.4, "memory_tb_per_s": 1.0}
    found = converter.structure(server.ask("POST", f"{BASE}/{done}/what-if", body).data, WhatIfAnswer)
    assert found.before.scenario is not None and found.after.scenario is not None
    before, after = (report.scenario["device"]["figures"] for report in (found.before, found.after))
    assert after["memory_bytes_per_s"]["value"] == 1e12
    factors = [
        after["dense_flops_per_s"][name]["value"] / peak["value"] for name, peak in before["dense_flops_per_s"].items()
    ]
    assert len(factors) > 2 and factors == pytest.approx([factors[0]] * len(factors))
    assert after["dense_flops_per_s"]["bfloat16"]["value"] == pytest.approx(2 * 989.4e12)
    assert found.ratio["stage.vision.time"] != 1


def test_devices_and_health(server: Server, done: str) -> None:
    devices = converter.structure(server.get("/devices").data, DeviceList).devices
    assert [device.id for device in devices] == list(load_catalogue())
    health = server.get("/health").data
    assert health["status"] == "ok" and health["reports"] >= 1


def test_the_contract_is_served(server: Server) -> None:
    contract = server.get("/openapi.yaml")
    assert contract.status == 200 and contract.body == openapi_path().read_bytes()
    page = server.get("/docs")
    assert page.status == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
    text = page.body.decode()
    assert "POST /analytic/deepseek-ocr/run" in text and 'id="DeepSeekOCRAnalyticRequest"' in text
    assert "src=" not in text and "http" not in text.replace("application/http", "")


@pytest.mark.parametrize(
    "name",
    [
        "0" * 16,
        "x",
        "..%2f..%2fetc",
        "%2e%2e",
        "..",
        "%00",
        "0" * 5000,
        "..%5c..",
        "%ff%fe",
        "report.json",
        "%2fetc%2fpasswd",
    ],
)
def test_an_id_that_is_none_is_not_found(server: Server, name: str) -> None:
    for method, view in (("GET", "summary"), ("GET", "model"), ("GET", "page"), ("POST", "what-if")):
        answer = server.ask(method, f"{BASE}/{name}/{view}", {} if method == "POST" else None)
        converter.structure(answer.problem(404), ProblemDetails)


@pytest.mark.parametrize(
    "path", ["/", "/analytic", "/analytic/deepsek-ocr", "/analytic/os/run", f"{BASE}/../../etc/passwd"]
)
def test_a_path_that_is_none_is_not_found(server: Server, path: str) -> None:
    assert server.get(path).status in (404, 405)
    problem = server.get("/analytic/deepsek-ocr").problem(404)
    assert "did you mean 'deepseek-ocr'" in problem["detail"]


def test_other_methods_are_refused(server: Server) -> None:
    answer = server.ask("DELETE", "/health")
    answer.problem(405)
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1,",
        b'"\xff"',
        b"nan",
        b'{"scenario": {"batch": NaN}}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b"1" * 5000,
    ],
)
def test_what_is_no_json(server: Server, done: str, body: bytes) -> None:
    for path in ("run", f"{done}/what-if"):
        assert "no complete JSON" in server.ask("POST", f"{BASE}/{path}", body).problem(400)["detail"]


def test_what_does_not_say_that_it_is_json(server: Server) -> None:
    body = json.dumps(asked()).encode()
    problem = server.ask("POST", f"{BASE}/run", body, kind="text/plain").problem(400)
    assert "Content-Type: application/json" in problem["detail"]
    assert server.ask("POST", f"{BASE}/run", body, kind="application/json; charset=utf-8").status == 202


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"scenario": {"bacth": 4}}, "scenario.bacth", "did you mean 'batch'?"),
        ({"scenario": {"batch": "8"}}, "scenario.batch", "expected int, got str '8'"),
        ({"scenario": {"batch": 0}}, "scenario.batch", "--batch is 0"),
        ({"scenario": {"pages": [{"width": 5}]}}, "scenario.pages[0]", "a page needs a width and a height, or a grid"),
        ({"scenario": {"pages": [{"grid": [1, 2, 3]}]}}, "scenario.pages[0].grid", ""),
        ({"scenario": 3}, "scenario", ""),
        ({"force_rebuild": 1}, "force_rebuild", "expected bool"),
        ({"workload_profile_id": "../x"}, "workload_profile_id", "expected an id"),
        ({"modelid": "x"}, "$", "extra fields found (modelid)"),
    ],
)
def test_what_the_contract_does_not_allow(server: Server, changes: dict[str, object], path: str, message: str) -> None:
    problem = server.ask("POST", f"{BASE}/run", asked(**changes)).problem(422)
    assert message in problem["detail"]
    converter.structure(problem, ProblemDetails)
    (error,) = problem["errors"]
    assert error["path"] == path and message in error["message"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workload_profile_id": "dsocr-standrad-v1"}, "did you mean 'dsocr-standard-v1'?"),
        ({"scenario": {"device": "h100-sxn"}}, "did you mean 'h100-sxm'?"),
        ({"scenario": {"device": "../../etc/passwd"}}, "unknown device"),
        ({"scenario": {"pages": []}}, "there is no page"),
        ({"scenario": {"pages": [{"grid": [10, 1]}]}}, "10 crops"),
        ({"scenario": {"decode_steps": 9000}}, "exceed the model's 8192"),
        ({"scenario": {"batch": 10**15}}, "above 1,000,000,000,000"),
        ({"scenario": {"pages": [{"width": 10**300, "height": 1}]}}, "above 1,000,000,000,000"),
        ({"scenario": {"routing": "examples/routing.json"}}, "unknown routing policy"),
        ({"scenario": {"routing": "/etc/passwd"}}, "unknown routing policy"),
        ({"scenario": {"routing": "zipf:x"}}, "no valid parameter"),
        ({"scenario": {"routing": "random:" + "1" * 4000}}, "200"),
        ({"scenario": {"tensor_parallel": 3}}, "10 attention heads do not divide by --tensor-parallel 3"),
    ],
)
def test_what_the_model_cannot_have(server: Server, changes: dict[str, object], message: str) -> None:
    assert message in server.ask("POST", f"{BASE}/run", asked(**changes)).problem(422)["detail"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"changes": {}}, "extra fields found (changes)"),
        ({"scenario": {"device": "h100-sxn"}}, "did you mean 'h100-sxm'?"),
        ({"scenario": {"batch": 10**6}}, "does not fit"),
        ({"scenario": {"routing": "/etc/passwd"}}, "unknown routing policy"),
        ({"peak_tflops_per_s": 0}, "peak_tflops_per_s is 0.0"),
        ({"peak_tflops_per_s": 1e300}, "peak_tflops_per_s is 1e+300"),
        ({"memory_tb_per_s": 5e-324}, "memory_tb_per_s is 5e-324"),
    ],
)
def test_what_if_refuses(server: Server, done: str, body: dict[str, object], message: str) -> None:
    assert message in server.ask("POST", f"{BASE}/{done}/what-if", body).problem(422)["detail"]


def test_a_body_that_is_too_large(server: Server, store: Path) -> None:
    server.ask("POST", f"{BASE}/run", b" " * (1 << 20) + b"{").problem(413)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        head = f"POST {BASE}/run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        received = b""
        try:
            for _ in range(40):
                connection.sendall(chunk)
            received = connection.recv(100)
        except OSError:  # the service has closed the connection while this one still wrote
            return
        assert b" 413 " in received


def test_bounds(tmp_path: Path) -> None:
    options = ("--workers", 1, "--queue-length", 1, "--run-seconds", 0.02, "--request-seconds", 1, "--body-bytes", 1000)
    with serving(tmp_path, *options) as server:
        answers = [server.ask("POST", f"{BASE}/run", asked({"batch": 1 + number})) for number in range(6)]
        assert {answer.status for answer in answers} == {202, 503}
        full = next(answer for answer in answers if answer.status == 503)
        assert "the queue is full" in full.problem(503)["detail"] and full.headers["retry-after"] == "1"
        late = server.waited(answers[0].data["report_id"]).problem(409)
        assert late["run_status"] == "failed" and "longer than 0.02 s" in late["detail"]
        server.ask("POST", f"{BASE}/run", b" " * 1001).problem(413)
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            head = f"POST {BASE}/run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
            connection.sendall(head.encode())
            assert b" 503 " in connection.recv(100)


def test_it_ends_with_its_workers(tmp_path: Path) -> None:
    server = start(tmp_path)
    server.summary(server.run(scenario=SMALL))
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    workers = _workers(server.process.pid) if children.exists() else []
    stop(server)
    end = time.monotonic() + 10
    while any(Path(f"/proc/{worker}/cmdline").exists() for worker in workers):
        assert time.monotonic() < end
        time.sleep(0.05)


def _workers(parent: int) -> list[int]:
    """Processes that another has started, from any of its threads."""
    tasks = Path(f"/proc/{parent}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def test_no_torch_on_this_path() -> None:
    code = (
        "import sys, modelmeter.cli.serve, modelmeter.service.app, modelmeter.service.worker\n"
        "print([name for name in ('torch', 'transformers', 'PIL', 'sympy') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_worker_starts_without_the_framework() -> None:
    code = "import sys, modelmeter.service.worker\nprint('litestar' in sys.modules or 'uvicorn' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refused(USAGE, "serve", "--port", port, cwd=tmp_path)
    assert said.startswith(f"cannot listen on 127.0.0.1 port {port}: ") and "--port" in said


@pytest.mark.parametrize(
    "option", ["--workers", "--queue-length", "--run-seconds", "--request-seconds", "--body-bytes"]
)
def test_bounds_are_above_nothing(tmp_path: Path, option: str) -> None:
    assert refused(USAGE, "serve", option, "0", cwd=tmp_path).startswith(f"{option} is 0")


def test_without_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    said = refused(9, "serve", cwd=tmp_path)
    assert "pip install 'modelmeter[serve]'" in said
