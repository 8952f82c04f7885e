"""The terminal view of a real run: its modules, and where its time went if that was measured."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from modelmeter.callgraph.outline import OutlineRow
from modelmeter.render.terminal import module_table
from modelmeter.schema.callgraph import CallGraph
from modelmeter.units import format_share

MOST_OPERATORS = 12
"""Lines of the operator table; the file has them all."""


def measured_view(graph: CallGraph, rows: Sequence[OutlineRow]) -> RenderableType:
    """The tree of modules; under it times per forward and operator, where there are any."""
    forwards = ", ".join(forward.name for forward in graph.forwards)
    backend = graph.tool.get("backend", "")
    parts: list[RenderableType] = [
        Text(f"{graph.root}, {forwards}, by {backend}", style="bold"),
        module_table(graph, rows),
    ]
    if graph.times:
        parts += [Text(), _forward_table(graph), Text(), _operator_table(graph)]
    else:
        parts.append(Text(f"{backend} knows calls and shapes; FLOPs, bytes and times are not known.", style="dim"))
    return Group(*parts)


def _forward_table(graph: CallGraph) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("forward")
    on_device = "device_total_ms" in graph.times.get(graph.root, {})
    for title in ("time ms", *(["device ms"] if on_device else [])):
        table.add_column(title, justify="right")
    for entry in graph.times.get(graph.root, {}).get("forwards", ()):
        device = [f"{entry['device_total_ms']:.3f}"] if on_device else []
        table.add_row(Text(entry["name"]), f"{entry['total_ms']:.3f}", *device)
    return table


def _operator_table(graph: CallGraph) -> Table:
    calls: dict[str, int] = {}
    spent: dict[str, float] = {}
    for entry in graph.times.values():
        for name, operator in entry["operators"].items():
            calls[name] = calls.get(name, 0) + operator["calls"]
            spent[name] = spent.get(name, 0.0) + operator.get("device_ms", operator["own_ms"])
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("operator", no_wrap=True, overflow="ellipsis")
    for title in ("calls", "ms", "share"):
        table.add_column(title, justify="right")
    ranked = sorted(spent, key=lambda name: (-spent[name], name))
    whole = sum(spent.values())
    shown = [(name, calls[name], spent[name]) for name in ranked[:MOST_OPERATORS]]
    rest = ranked[MOST_OPERATORS:]
    if rest:
        shown.append((f"{len(rest)} others", sum(calls[name] for name in rest), sum(spent[name] for name in rest)))
    for label, number, milliseconds in shown:
        table.add_row(Text(label), f"{number:,}", f"{milliseconds:.3f}", format_share(milliseconds, whole))
    return table
