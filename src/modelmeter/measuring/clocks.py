"""Two clocks: the host's for the CPU, and a GPU's own, which does not stop it to be read."""

from __future__ import annotations

import time
from typing import Any, Protocol

import torch


class Clock(Protocol):
    """Marks moments; how far apart they are is known after ``finish``."""

    name: str

    def mark(self) -> Any:
        """This moment, in the order of the work that was asked for."""
        ...

    def finish(self) -> None:
        """Wait until all work that was asked for is done."""
        ...

    def seconds(self, begin: Any, end: Any) -> float:
        """Seconds between two marks, after ``finish``."""
        ...


class HostClock:
    """For work that is done when a call returns."""

    name = "time.perf_counter"

    def mark(self) -> float:
        return time.perf_counter()

    def finish(self) -> None:
        """Nothing is under way."""

    def seconds(self, begin: float, end: float) -> float:
        return end - begin


class DeviceClock:
    """CUDA events: the device notes when it comes to them, so what it waited for is included."""

    name = "cuda events"

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def finish(self) -> None:
        torch.cuda.synchronize()

    def seconds(self, begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return float(begin.elapsed_time(end)) / 1e3


def clock_of(device: str) -> Clock:
    """The clock that is right for a device."""
    return DeviceClock() if device == "cuda" else HostClock()
