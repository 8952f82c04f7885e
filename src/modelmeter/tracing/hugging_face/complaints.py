"""Arguments that a forward calls optional and cannot do without: found where it stumbles.

Many architectures give every argument the default None and fail without some of them. Their message names
one (``encoder_hidden_states must be given``), or the line that failed reads one that is None.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Collection, Iterator
from types import FrameType

_NAMES = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


def argument_asked_for(error: BaseException, candidates: Collection[str]) -> str | None:
    """The first of some argument names that an error is about; None if it is about none of them."""
    cause = _first_cause(error)
    named = next((name for name in _NAMES.findall(str(cause)) if name in candidates), None)
    if named is not None:
        return named
    for frame, line in _frames_from_within(cause):
        text = linecache.getline(frame.f_code.co_filename, line)
        values = frame.f_locals
        for name in _NAMES.findall(text):
            if name in candidates and name in values and values[name] is None:
                return name
    return None


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _frames_from_within(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """The frames of a traceback with their lines, the innermost first."""
    found = []
    step = error.__traceback__
    while step is not None:
        found.append((step.tb_frame, step.tb_lineno))
        step = step.tb_next
    return reversed(found)
