"""Chrome trace JSON for Perfetto, speedscope and chrome://tracing: nested calls, as long as they cost.

Slices carry no ``args``: speedscope writes them into the names, which then cannot be read. What is to be
said of a family is said once, in ``otherData``.
"""

from __future__ import annotations

import json
from typing import Any

from modelmeter.callgraph.axis import Axis, Span
from modelmeter.callgraph.folded import FoldedGraph
from modelmeter.callgraph.selection import execution_order
from modelmeter.render.colours import colour
from modelmeter.render.labels import MOST_IN_TOOLTIP_LINE, plain, shorten, title, tooltip
from modelmeter.units import format_bytes, format_count, format_flops

MOST_SLICES = 200_000
"""Calls of modules that are shared by many callers are drawn below each of them, up to this many."""

_SHORTEST = 10**6
"""Microseconds that a run takes at least on the axis: a second, where it is not measured."""

_PARTS = 64
"""Times are multiples of 1/64 microsecond, of which sums are exact in floating point: nesting is by equality.

Every slice has at least one, since viewers nest slices without length wrongly.
"""


def to_chrome(folded: FoldedGraph, axis: Axis) -> str:
    """The modules of the graph's families as slices, forward after forward."""
    unit = _unit(axis, sum(max(span.totals.values(), default=0) for span in axis.spans))
    drawing = _Drawing(folded, unit)
    end = 0
    for span in axis.spans:
        end = drawing.forward(span, end)
    note = _note(axis, unit)
    whole = max((axis.of(family) for family in folded.families.values()), default=0)
    about = {
        "axis": axis.name,
        "axis_title": axis.title,
        "unit": note,
        "model": title(folded),
        "families": {plain(f.label): tooltip(f, axis, whole)[1:] for f in folded.families.values()},
    }
    if drawing.left_out:
        about["left_out"] = f"{drawing.left_out} calls beyond {MOST_SLICES:,}"
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "tid": 1, "name": "process_name", "args": {"name": f"{title(folded)} ({note})"}},
        {"ph": "M", "pid": 1, "tid": 1, "name": "thread_name", "args": {"name": f"calls, by {axis.title}"}},
    ]
    for start, stop, fields in drawing.slices:
        events.append({"ph": "X", "pid": 1, "tid": 1, "ts": _micro(start), "dur": _micro(stop - start), **fields})
    encode = json.JSONEncoder(ensure_ascii=False).encode
    lines, head = ",\n".join(map(encode, events)), encode(about)
    return f'{{"displayTimeUnit": "ms",\n"otherData": {head},\n"traceEvents": [\n{lines}\n]}}\n'


def _unit(axis: Axis, end: int) -> int:
    """Units of the axis in a microsecond: a measured one has 1000 ns, another a power of 1000."""
    unit = 1000 if axis.name == "time" else 1
    while axis.name != "time" and end >= unit * 1000 * _SHORTEST:
        unit *= 1000
    return unit


def _note(axis: Axis, unit: int) -> str:
    if axis.name == "time":
        return f"the time axis is {axis.title}"
    second = unit * 10**6
    formats = {"flops": format_flops(second), "bytes": format_bytes(second)}
    return f"the time axis is {axis.title}: 1 s is {formats.get(axis.name, f'{format_count(second)} operations')}"


def _micro(parts: int) -> int | float:
    return parts // _PARTS if parts % _PARTS == 0 else parts / _PARTS


class _Drawing:
    """Slices of all forwards: start and end in parts of a microsecond, and what they show."""

    def __init__(self, folded: FoldedGraph, unit: int) -> None:
        self.unit = unit
        self.rank = execution_order(folded.source)
        self.family = {member: family for family in folded.families.values() for member in family.members}
        self.slices: list[tuple[int, int, dict[str, Any]]] = []
        self.planned = 0
        self.left_out = 0

    def forward(self, span: Span, start: int) -> int:
        """Draw one forward from a start; gives its end."""
        callees: dict[str, list[tuple[str, int]]] = {}
        called: dict[str, int] = {}
        for edge, calls in span.edges.items():
            caller, _, callee = edge.partition("->")
            if callee in self.family and caller in self.family:
                callees.setdefault(caller, []).append((callee, calls))
                called[callee] = called.get(callee, 0) + calls
        for found in callees.values():
            found.sort(key=lambda pair: self.rank[pair[0]])
        roots = [name for name in self.family if name in span.call_counts and not called.get(name)]
        if not roots:  # everything is called by something: a loop
            roots = [name for name in self.family if name in span.call_counts][:1]
        number = len(self.slices)
        self.slices.append((start, start, {"name": plain(span.name), "cat": "forward"}))
        end = start
        for root in roots:
            end = self._calls(root, span, callees, called, end)
        self.slices[number] = (start, end, self.slices[number][2])
        return end

    def _calls(
        self,
        root: str,
        span: Span,
        callees: dict[str, list[tuple[str, int]]],
        called: dict[str, int],
        start: int,
    ) -> int:
        """Depth first without recursion: a module's slice ends after its own cost, or its last callee if later."""
        open_names: set[str] = set()
        end = start
        work: list[tuple[int, str, int, list[tuple[str, int]]]] = []

        def enter(name: str, calls: int, value: int) -> None:
            below = [] if name in open_names else list(reversed(callees.get(name, ())))
            if self.planned + len(below) > MOST_SLICES:
                self.left_out += len(below)
                below = []
            self.planned += len(below)
            open_names.add(name)
            work.append((len(self.slices), name, end + max(1, value * _PARTS // self.unit), below))
            self.slices.append((end, end, self._fields(name, calls)))

        enter(root, span.call_counts.get(root, 0), span.totals.get(root, 0))
        while work:
            number, name, planned, below = work[-1]
            if below:
                callee, made = below.pop()
                enter(callee, made, span.totals.get(callee, 0) * made // max(1, called[callee]))
                continue
            work.pop()
            if all(other != name for _, other, *_ in work):
                open_names.discard(name)
            end = max(end, planned)
            begin, _, fields = self.slices[number]
            self.slices[number] = (begin, end, fields)
        return end

    def _fields(self, name: str, calls: int) -> dict[str, Any]:
        family = self.family[name]
        times = f" ×{calls}" if calls > 1 else ""
        return {
            "name": f"{shorten(name, MOST_IN_TOOLTIP_LINE)}{times}",
            "cat": plain(family.stage),
            "cname": colour(family.stage).chrome,
        }
