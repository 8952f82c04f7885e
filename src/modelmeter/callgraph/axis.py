"""What the modules of a call graph are measured by: FLOPs, bytes, measured time, or operations.

Values are whole numbers and include the callees: FLOPs, bytes, nanoseconds, operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from modelmeter.callgraph.folded import Family
from modelmeter.errors import DocumentError, UnknownNameError, UsageError
from modelmeter.schema.callgraph import CallGraph, Cost, ModuleCost
from modelmeter.units import format_bytes, format_count, format_flops

_TITLES = {
    "flops": "matrix and vector FLOPs",
    "bytes": "bytes read and written by each operation",
    "time": "measured time",
    "operations": "operations",
}
AXES = tuple(_TITLES)


@frozen
class Span:
    """One forward: the value of every module that ran in it, and the calls between them."""

    name: str
    totals: Mapping[str, int]
    call_counts: Mapping[str, int]
    edges: Mapping[str, int]


@frozen
class Axis:
    """A measure of modules, and its values: over the whole run, and forward by forward."""

    name: str
    totals: Mapping[str, int]
    spans: tuple[Span, ...]
    on_device: bool = False

    @property
    def title(self) -> str:
        """The measure in words."""
        return "measured time on the device" if self.on_device else _TITLES[self.name]

    def of(self, family: Family) -> int:
        """All members of a family together."""
        return sum(self.totals.get(member, 0) for member in family.members)

    def text(self, value: int) -> str:
        """A value with its unit."""
        formats: dict[str, Callable[[int], str]] = {"flops": format_flops, "bytes": format_bytes, "time": _nanoseconds}
        return formats[self.name](value) if self.name in formats else f"{format_count(value)} operations"


def choose_axis(graph: CallGraph, name: str | None = None) -> Axis:
    """The axis of this name; without one, the first that the document holds of time, FLOPs and operations.

    Raises UnknownNameError for what is no axis, UsageError where the document does not hold it.
    """
    if name is None:
        name = "time" if graph.times else "flops" if graph.costs else "operations"
    if name not in _TITLES:
        raise UnknownNameError("axis", name, AXES)
    held = {"time": graph.times, "flops": graph.costs, "bytes": graph.costs, "operations": graph.call_counts}
    if not held[name]:
        others = [other for other, values in held.items() if values]
        raise UsageError(
            f"the document holds no {'measured times' if name == 'time' else 'costs'} for --axis {name}",
            remedy=f"choose --axis {' or '.join(others)}",
        )
    if name == "time":
        return _time_axis(graph)
    if name == "operations":
        spans = [Span(f.name, _summed(f.op_call_counts, f), f.call_counts, f.edges) for f in graph.forwards]
        totals = _summed(graph.op_call_counts, graph)
    else:
        spans = [Span(f.name, _costs(f.costs, name), f.call_counts, f.edges) for f in graph.forwards]
        totals = _costs(graph.costs, name)
    whole = Span("all forwards", totals, graph.call_counts, graph.edges)
    return Axis(name, totals, tuple(spans) if any(span.totals for span in spans) else (whole,))


def _costs(costs: Mapping[str, ModuleCost], name: str) -> dict[str, int]:
    value = _flops if name == "flops" else _bytes
    return {module: value(cost.total) for module, cost in costs.items()}


def _flops(cost: Cost) -> int:
    return cost.matrix_flops + cost.vector_flops


def _bytes(cost: Cost) -> int:
    return cost.bytes_read + cost.bytes_written


def _time_axis(graph: CallGraph) -> Axis:
    """Time on the device where it was measured, which the host's calls do not wait for, else on the host."""
    on_device = any("device_total_ms" in times for times in graph.times.values() if isinstance(times, dict))
    totals = {module: _measured(module, times, on_device) for module, times in graph.times.items()}
    parts: dict[str, dict[str, int]] = {forward.name: {} for forward in graph.forwards}
    for module, times in graph.times.items():
        for times_of_forward in times.get("forwards", ()):
            if isinstance(times_of_forward, dict) and times_of_forward.get("name") in parts:
                parts[times_of_forward["name"]][module] = _measured(module, times_of_forward, on_device)
    spans = tuple(Span(f.name, parts[f.name], f.call_counts, f.edges) for f in graph.forwards if parts[f.name])
    return Axis("time", totals, spans or (Span("all forwards", totals, graph.call_counts, graph.edges),), on_device)


def _measured(module: str, times: Any, on_device: bool) -> int:
    """Nanoseconds from a module's ``total_ms`` or ``device_total_ms``."""
    key = "device_total_ms" if on_device else "total_ms"
    spent = times.get(key) if isinstance(times, dict) else None
    if isinstance(spent, bool) or not isinstance(spent, int | float) or not 0 <= spent < math.inf:
        problem = f"times[{module!r:.60}] has no {key} that is a time in milliseconds"
        raise DocumentError(problem, remedy="write the document again, or choose another --axis")
    return round(spent * 10**6)


def _nanoseconds(value: int) -> str:
    for unit, size in (("s", 10**9), ("ms", 10**6), ("µs", 10**3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value} ns"


def _summed(own: Mapping[str, int], graph: Any) -> dict[str, int]:
    """Operations of every module with those of its callees; a callee's are shared among its callers by calls."""
    callees: dict[str, list[tuple[str, int]]] = {}
    for edge, calls in graph.edges.items():
        caller, _, callee = edge.partition("->")
        callees.setdefault(caller, []).append((callee, calls))
    incoming: dict[str, int] = {}
    for called in callees.values():
        for callee, calls in called:
            incoming[callee] = incoming.get(callee, 0) + calls
    totals: dict[str, int] = {}
    seen: set[str] = set()
    for start in graph.call_counts:
        stack = [(start, False)]
        while stack:
            name, ready = stack.pop()
            if ready:
                # A callee without a value yet calls this module in turn.
                below = sum(totals.get(c, 0) * n // max(1, incoming[c]) for c, n in callees.get(name, ()))
                totals[name] = own.get(name, 0) + below
            elif name not in seen:
                seen.add(name)
                stack.append((name, True))
                stack.extend((callee, False) for callee, _ in callees.get(name, ()))
    return totals
