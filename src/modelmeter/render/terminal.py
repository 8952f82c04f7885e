"""Tables for the terminal: they draw what they are given."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from modelmeter.callgraph.outline import OutlineRow
from modelmeter.schema.callgraph import CallGraph
from modelmeter.units import format_bytes, format_count, format_flops, format_quantity, format_share

MAX_WIDTH = 100


def console(*, stderr: bool = False) -> Console:
    """A console at most 100 columns wide; NO_COLOR is honoured by rich."""
    made = Console(stderr=stderr, highlight=False)
    if made.width > MAX_WIDTH or not made.is_terminal:
        made = Console(stderr=stderr, highlight=False, width=MAX_WIDTH)
    return made


def call_graph_view(graph: CallGraph, rows: Sequence[OutlineRow]) -> RenderableType:
    """The tree of modules and the totals per stage."""
    return Group(*_titles(graph), module_table(graph, rows), Text(), stage_table(graph), *_footnotes(graph))


def _titles(graph: CallGraph) -> list[RenderableType]:
    name = graph.model.get("family") or graph.model.get("name") or graph.root
    forwards = [forward.name for forward in graph.forwards]
    runs = ", ".join(forwards if len(forwards) <= 4 else [*forwards[:2], "…", forwards[-1]])
    return [Text.assemble((_plain(str(name)), "bold"), _plain(f": {graph.root}, {runs}"))]


def module_table(graph: CallGraph, rows: Sequence[OutlineRow]) -> Table:
    """Modules, equal ones on one line, with calls, output shape, parameters, matrix FLOPs and share."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("module", no_wrap=True, overflow="ellipsis", max_width=46)
    table.add_column("calls", justify="right", no_wrap=True)
    table.add_column("output", no_wrap=True, overflow="ellipsis", max_width=20)
    table.add_column("params", justify="right", no_wrap=True)
    table.add_column("FLOPs", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    whole = graph.total.matrix_flops
    for row in rows:
        table.add_row(
            _tree_label(row),
            str(row.calls),
            row.shape,
            format_count(row.parameters) if row.parameters else "-",
            format_quantity(row.flops, "") if row.flops else "-",
            format_share(row.flops, whole) if row.flops else "-",
        )
    return table


def _tree_label(row: OutlineRow) -> Text:
    guides = ""
    if row.is_last:
        guides = "".join("  " if last else "│ " for last in row.is_last[:-1]) + ("└ " if row.is_last[-1] else "├ ")
    class_name = f" {_plain(row.class_name)}" if row.class_name != row.label else ""
    repeat = f" {row.repeat}" if row.repeat else ""
    return Text.assemble((guides, "dim"), _plain(row.label), (repeat, "bold"), (class_name, "cyan"))


def _plain(name: str) -> str:
    """A name on one line: a module's or a file's may hold anything."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)


def stage_table(graph: CallGraph) -> Table:
    """What each stage costs; the stages add up to the last line."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("stage")
    for title in ("matrix FLOPs", "vector FLOPs", "share", "read", "written", "launches", "peak"):
        table.add_column(title, justify="right", no_wrap=True)
    whole = graph.total
    bound = "≥" if graph.is_lower_bound else ""
    named = [(name, cost) for name, cost in graph.stages.items() if cost.launches or cost.matrix_flops]
    for name, cost in [*named, ("total", whole)]:
        table.add_row(
            Text(_plain(name)),
            bound + format_flops(cost.matrix_flops),
            format_flops(cost.vector_flops),
            format_share(cost.matrix_flops, whole.matrix_flops),
            format_bytes(cost.bytes_read),
            format_bytes(cost.bytes_written),
            f"{cost.launches:,}",
            format_bytes(cost.peak_bytes or 0),
            style="bold" if name == "total" else "",
        )
    return table


def _footnotes(graph: CallGraph) -> list[RenderableType]:
    notes = []
    parameters = graph.model.get("parameter_count", graph.parameter_count)
    size = graph.model.get("parameter_bytes", sum(info.bytes for info in graph.parameters.values()))
    notes.append(f"{parameters:,} parameters, {format_bytes(size)}; one multiply-add is 2 FLOPs.")
    held = sum(sizes[-1] for sizes in graph.kv_cache.values() if sizes)
    if held:
        notes.append(f"Key-value cache at the end: {format_bytes(held)}.")
    if graph.assumptions:
        rules = sorted({assumption.rule for assumption in graph.assumptions})
        count = sum(assumption.calls for assumption in graph.assumptions)
        notes.append(f"{count} values were supplied to shape-only tensors: {'; '.join(rules)}.")
    if graph.unknown_operators:
        names = ", ".join(f"{name} ({calls})" for name, calls in sorted(graph.unknown_operators.items()))
        notes.append(f"Lower bounds: the FLOPs of these operators are not known: {names}.")
    return [Text(_plain(note), style="dim") for note in notes]
