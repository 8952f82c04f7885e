"""A user's own function that returns a module and its inputs, built and traced without weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from modelmeter.errors import ModelMeterError, TracingError, UsageError
from modelmeter.families.protocol import ForwardCall, Forwards
from modelmeter.schema.callgraph import CallGraph
from modelmeter.tracing.build import build_weightless
from modelmeter.tracing.runner import Progress, TraceOptions, trace_forwards


def trace_function(
    build: Callable[[], Any],
    name: str,
    *,
    options: TraceOptions | None = None,
    progress: Progress = lambda _: None,
) -> CallGraph:
    """Call a function for a module and its inputs, and record one forward.

    The inputs are a tuple of positional arguments, a dict of keyword arguments, or one single input.
    """
    progress("building")
    try:
        made = build_weightless(build)
    except ModelMeterError:
        raise
    except Exception as error:
        first = str(error).strip().splitlines()[:1] or ["no message"]
        raise TracingError(
            f"{name} raised {type(error).__name__}: {first[0]}",
            remedy="the function takes no arguments; check it alone",
        ) from error
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module)):
        raise UsageError(
            f"{name} returned {type(made).__name__}",
            remedy="return a module and its inputs: (module, (x, y)) or (module, {'x': x})",
        )
    module, inputs = made
    return trace_forwards(module, _once(inputs), options=options, model={"name": name}, progress=progress)


def _once(inputs: Any) -> Forwards:
    if isinstance(inputs, dict):
        yield ForwardCall("forward", (), inputs)
    else:
        yield ForwardCall("forward", inputs if isinstance(inputs, tuple) else (inputs,))
