"""Runtime patches: methods wrapped for the time of a trace to note the loops that they run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from modelmeter.families.protocol import RuntimeProbe


@contextmanager
def installed(
    probes: Sequence[RuntimeProbe], forward_name: Callable[[], str], pause: Callable[[], Any]
) -> Iterator[list[dict[str, Any]]]:
    """Wrap the probed methods for the time of a block; gives the list that their events go to.

    Looking at a call's arguments must not count as the model's own work, so it is done within
    ``pause()``.
    """
    events: list[dict[str, Any]] = []
    undo: list[Callable[[], None]] = []
    try:
        for probe in probes:
            undo.append(_wrap(probe, events, forward_name, pause))
        yield events
    finally:
        for restore in reversed(undo):
            restore()


def _wrap(
    probe: RuntimeProbe,
    events: list[dict[str, Any]],
    forward_name: Callable[[], str],
    pause: Callable[[], Any],
) -> Callable[[], None]:
    owner, method = probe.owner, probe.method
    had = method in owner.__dict__
    original = getattr(owner, method)

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with pause():
            noted = probe.observe(args, kwargs)
        name = forward_name()
        if name:
            events.extend({"forward": name, **event} for event in noted)
        return original(*args, **kwargs)

    owner.__dict__[method] = wrapper

    def restore() -> None:
        if had:
            owner.__dict__[method] = original
        else:
            owner.__dict__.pop(method, None)

    return restore


@contextmanager
def modes_paused() -> Iterator[None]:
    """No function or dispatch mode sees what happens in this block."""
    with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
        yield
