"""A user's own function that returns a module and its inputs, built and traced without weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from modelmeter.errors import ModelMeterError, TracingError, UsageError
from modelmeter.families.protocol import ForwardCall, Forwards
from modelmeter.routing import parse_routing
from modelmeter.schema.callgraph import CallGraph
from modelmeter.schema.scenario import FUNCTION_KEYS, Scenario
from modelmeter.tracing.backends.weights import build_for, first_of
from modelmeter.tracing.runner import Progress, TraceOptions, trace_forwards


def trace_function(
    build: Callable[[], Any],
    name: str,
    scenario: Scenario | None = None,
    *,
    options: TraceOptions | None = None,
    progress: Progress = lambda _: None,
) -> CallGraph:
    """Call a function for a module and its inputs, and record one forward.

    The inputs are a tuple of positional arguments, a dict of keyword arguments, or one single input.
    Raises TracingError if the function or the module raises, UsageError for what it may not return.
    """
    progress("building")
    scenario = scenario or Scenario()
    options = options or TraceOptions(routing=parse_routing(scenario.routing))
    try:
        made = build_for(options.backend, build, module_of=first_of, fill=False)
    except ModelMeterError:
        raise
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split()) or "no message"
        raise TracingError(
            f"{name} raised {type(error).__name__}: {text}", remedy="the function takes no arguments; check it alone"
        ) from error
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module)):
        raise UsageError(
            f"{name} returned {_described(made)}",
            remedy="return a module and its inputs: (module, (x, y)) or (module, {'x': x})",
        )
    module, inputs = made
    try:
        return trace_forwards(
            module,
            _once(inputs),
            options=options,
            model={"name": name},
            scenario={key: getattr(scenario, key) for key in FUNCTION_KEYS},
            progress=progress,
        )
    except SystemExit as error:
        raise TracingError(f"{name}: the module left with exit({error.code})", remedy="check it alone") from error


def _described(made: Any) -> str:
    if isinstance(made, tuple):
        return f"({', '.join(type(item).__name__ for item in made)})"
    return type(made).__name__


def _once(inputs: Any) -> Forwards:
    if isinstance(inputs, dict):
        yield ForwardCall("forward", (), inputs)
    else:
        yield ForwardCall("forward", inputs if isinstance(inputs, tuple) else (inputs,))
