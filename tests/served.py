"""Runs ``modelmeter serve`` in a process of its own, and asks it over a real socket."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

BASE = "/analytic/deepseek-ocr"

PATIENCE_S = 60.0
"""So long a test waits for a run: the machine may be busy."""


@frozen
class Answer:
    """What the service answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)

    def problem(self, status: int) -> dict[str, Any]:
        """The problem details, which have their shape."""
        assert self.status == status, self.body[:500]
        assert self.headers["content-type"] == "application/problem+json"
        found: dict[str, Any] = self.data
        assert {"type", "title", "status", "detail", "instance"} <= set(found)
        assert found["status"] == status and found["type"] == "about:blank" and found["title"] and found["detail"]
        return found


@frozen
class Server:
    """A service that is running."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json", timeout: float = 30
    ) -> Answer:
        """One request on a connection of its own; ``body`` is JSON data, or bytes as they are sent."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, content, {"Content-Type": kind} if content is not None else {})
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def run(self, **changes: Any) -> str:
        """Start a run; gives the report's id."""
        answer = self.ask("POST", f"{BASE}/run", asked(**changes))
        assert answer.status == 202, answer.body
        assert set(answer.data) == {"report_id", "status"} and answer.data["status"] in ("queued", "running")
        report_id: str = answer.data["report_id"]
        return report_id

    def summary(self, report_id: str) -> dict[str, Any]:
        """A report's summary, when it is done."""
        answer = self.waited(report_id)
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.data
        assert found["report_id"] == report_id
        return found

    def waited(self, report_id: str) -> Answer:
        """What is answered for a summary when its run is neither queued nor running."""
        end = time.monotonic() + PATIENCE_S
        while True:
            answer = self.get(f"{BASE}/{report_id}/summary")
            if answer.status != 409 or answer.data["run_status"] == "failed":
                return answer
            assert time.monotonic() < end, answer.body
            time.sleep(0.05)


def asked(scenario: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A request."""
    found = {
        "model_id": "deepseek-ai/DeepSeek-OCR",
        "model_variant": "deepseek-ocr-3b",
        "workload_profile_id": "dsocr-standard-v1",
        **changes,
    }
    return found if scenario is None else {**found, "scenario": scenario}


def start(store: Path, *options: object) -> Server:
    """Start a service on a free port; it takes connections when this returns."""
    command = [sys.executable, "-m", "modelmeter", "serve", "--port", "0", "--store", str(store), *map(str, options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "http://127.0.0.1:" in line, line
    return Server(process, int(line.partition(" (")[0].rpartition(":")[2]))


@contextmanager
def serving(store: Path, *options: object) -> Iterator[Server]:
    """A service that ends with the block."""
    server = start(store, *options)
    try:
        yield server
    finally:
        stop(server)


def stop(server: Server) -> None:
    """End a service as an operator does."""
    server.process.terminate()
    server.process.wait(30)
    assert server.process.stdout is not None
    server.process.stdout.close()


def kill(server: Server) -> None:
    """End a service as a loss of power does."""
    server.process.kill()
    server.process.wait(30)
    assert server.process.stdout is not None
    server.process.stdout.close()
