"""Many architectures in a few processes, each one in a process of its own with a time limit.

The processes are forked from one that has imported torch and transformers and nothing else, so that each
begins in milliseconds and takes nothing over from another.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from attrs import frozen

T = TypeVar("T")

_PRELOADED = [
    "transformers.modeling_utils",  # seconds of imports that every process would have to make
    "transformers.image_processing_utils",
    "transformers.feature_extraction_utils",
    "transformers.models.auto.modeling_auto",
    "modelmeter.tracing.zoo.entry",
]


@frozen
class Failed:
    """Why a process gave no result."""

    reason: str


@frozen
class _Running:
    name: str
    process: Any
    results: Connection
    end: float


def run_each(
    work: Callable[[str], T], names: Sequence[str], *, processes: int, limit_s: float
) -> Iterator[tuple[str, T | Failed]]:
    """The result of ``work`` for every name, in the order in which they are done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    waiting = list(reversed(names))
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                running.append(_started(context, work, waiting.pop(), limit_s))
            wait([item.results for item in running], timeout=0.5)
            for item in list(running):
                result = _result(item, limit_s)
                if result is not None:
                    running.remove(item)
                    _stop(item)
                    yield item.name, result
    finally:
        for item in running:
            _stop(item)


def _started(context: Any, work: Callable[[str], Any], name: str, limit_s: float) -> _Running:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send_result, args=(work, name, theirs))
    process.start()
    theirs.close()
    return _Running(name, process, ours, time.monotonic() + limit_s)


def _send_result(work: Callable[[str], Any], name: str, results: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    results.send(work(name))


def _result(item: _Running, limit_s: float) -> Any:
    if item.results.poll():
        try:
            return item.results.recv()
        except EOFError:
            item.process.join()
            return Failed(f"the process ended with {item.process.exitcode}")
    return Failed(f"took longer than {limit_s:g} s") if time.monotonic() > item.end else None


def _stop(item: _Running) -> None:
    item.results.close()
    item.process.kill()
    item.process.join()
