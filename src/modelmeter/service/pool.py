"""A bounded queue of jobs and the worker processes that do them, each minded by a thread.

Work is done in other processes so that the service answers while it goes on, and so that what takes too long can be
ended: a thread cannot be.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from attrs import frozen

from modelmeter.service.options import ServiceOptions


class QueueFullError(Exception):
    """As many jobs wait as may."""


class RefusedError(Exception):
    """A job that cannot be done, and why: ModelMeter's own words."""


class BrokenJobError(Exception):
    """A job that was not done: it took too long, or its process ended."""


class MistakeError(Exception):
    """A job that met a mistake in ModelMeter; the log has it."""


@frozen
class _Task:
    job: Mapping[str, Any]
    future: Future[str]


class WorkerPool:
    """Jobs are done in the order in which they were given, as many at once as there are workers."""

    def __init__(self, store: Path, options: ServiceOptions, device_files: Sequence[Path] = ()) -> None:
        self._options = options
        self._command = [sys.executable, "-m", "modelmeter.service.worker", str(store), *map(str, device_files)]
        self._waiting: queue.Queue[_Task | None] = queue.Queue()
        self._open = threading.BoundedSemaphore(options.queue_length)
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._mind, daemon=True) for _ in range(options.workers)]
        self._processes: set[subprocess.Popen[bytes]] = set()
        for thread in self._threads:
            thread.start()

    def submit(self, job: Mapping[str, Any]) -> Future[str]:
        """Put a job into the queue; its future has the answer, a RefusedError or a BrokenJobError.

        Raises QueueFullError if it is full.
        """
        if self._closed.is_set() or not self._open.acquire(blocking=False):
            raise QueueFullError
        future: Future[str] = Future()
        self._waiting.put(_Task(job, future))
        return future

    def close(self) -> None:
        """End all workers; what they were doing and what waits is given up."""
        self._closed.set()
        for process in list(self._processes):
            process.kill()
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _mind(self) -> None:
        """One worker's thread: gives its process one job after another, and starts another when one ends."""
        process: subprocess.Popen[bytes] | None = None
        while (task := self._waiting.get()) is not None and not self._closed.is_set():
            self._open.release()
            if not task.future.set_running_or_notify_cancel():
                continue
            try:
                if process is None or process.poll() is not None:
                    process = self._start()
                answer = self._ask(process, task.job)
            except (OSError, BrokenJobError) as error:
                task.future.set_exception(error if isinstance(error, BrokenJobError) else BrokenJobError(str(error)))
                continue
            if "answer" in answer:
                task.future.set_result(answer["answer"])
            elif "refused" in answer:
                task.future.set_exception(RefusedError(answer["refused"]))
            else:
                task.future.set_exception(MistakeError(answer["mistake"]))
        if process is not None:
            self._end(process)

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._processes.add(process)
        if self._closed.is_set():  # while it started: who closed did not see it
            process.kill()
        return process

    def _ask(self, process: subprocess.Popen[bytes], job: Mapping[str, Any]) -> dict[str, Any]:
        assert process.stdin is not None and process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._options.run_seconds, end)
        timer.daemon = True
        timer.start()
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = b""
        finally:
            timer.cancel()
        if line.endswith(b"\n"):
            answer: dict[str, Any] = json.loads(line)
            return answer
        self._end(process)
        if late.is_set():
            raise BrokenJobError(f"the run took longer than {self._options.run_seconds:g} s and was ended")
        raise BrokenJobError("the run's process ended; ask again")

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.communicate()
        self._processes.discard(process)
