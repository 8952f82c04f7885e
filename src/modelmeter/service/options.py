"""What bounds the service: how much it takes in, how much it does at once, and for how long."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from modelmeter.errors import UsageError


def _positive(_: Any, attribute: Any, value: float) -> None:
    if not 0 < value < float("inf"):
        option = f"--{attribute.name.replace('_', '-')}"
        raise UsageError(f"{option} is {value}", remedy="give a number above 0")


@frozen
class ServiceOptions:
    """Bounds of the service; what is beyond one is refused with a problem that says so."""

    workers: int = field(default=2, validator=_positive)
    """Runs at once, each in a process of its own."""
    queue_length: int = field(default=64, validator=_positive)
    """Runs that wait; one more is refused with 503."""
    run_seconds: float = field(default=60.0, validator=_positive)
    """After so long a run is ended and has failed."""
    request_seconds: float = field(default=30.0, validator=_positive)
    """After so long a request is answered with 503, whatever it waits for."""
    body_bytes: int = field(default=1 << 20, validator=_positive)
    """Bytes of a request's body; a larger one is refused with 413."""
