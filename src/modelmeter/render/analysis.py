"""The answer of ``modelmeter analyze``: stages, categories, modules, memory, and what was assumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from modelmeter.ranking import largest_first
from modelmeter.schema.analysis import Analysis, ModuleTotals
from modelmeter.schema.cost import Amount
from modelmeter.schema.scenario import Scenario
from modelmeter.schema.timing import Seconds, Span
from modelmeter.units import format_bytes, format_flops, format_seconds

NAME_COLUMNS = 40


def analysis_view(analysis: Analysis, described: Mapping[str, Any], *, rows: int, whole_tree: bool) -> RenderableType:
    """Tables within 100 columns."""
    parts: list[RenderableType] = [_head(analysis, described), _stages(analysis), _categories(analysis)]
    parts.append(_tree(analysis) if whole_tree else _top_modules(analysis, rows))
    parts += [_memory(analysis), Text("Assumed:", style="bold")]
    parts += [Text(f"  {line}", style="dim") for line in analysis.assumptions]
    return Group(*parts)


def _head(analysis: Analysis, described: Mapping[str, Any]) -> Text:
    scenario = analysis.scenario
    text = Text()
    several = f"{scenario.devices} × " if scenario.devices > 1 else ""
    text.append(f"{analysis.tree.family} on {several}{analysis.device.name}", style="bold")
    text.append(": " + ", ".join(_workload(analysis.scenario, described)) + "\n")
    text.append(f"Time to first token {_time(analysis.time_to_first_token)}")
    per_token = analysis.time_per_output_token
    if per_token is not None:
        text.append(f", per output token {_time(per_token)}")
        text.append(f", {scenario.batch * scenario.replicas / per_token.estimate:,.0f} tokens/s")
    return text


def _workload(scenario: Scenario, described: Mapping[str, Any]) -> Iterator[str]:
    pages = described.get("pages") or ()
    if pages:
        yield f"{len(pages)} page{'s' if len(pages) != 1 else ''}"
    if "seq_len" in described:
        yield f"{described['seq_len']:,} positions"
        yield f"{scenario.decode_steps:,} decode steps"
    yield f"batch {scenario.batch}"
    yield scenario.dtype
    yield scenario.execution


def _stages(analysis: Analysis) -> Table:
    table = _table("stage")
    amounts = analysis.tree.stages
    for stage, span in analysis.timed.stages.items():
        if amounts[stage].launches:
            _row(table, Text(stage), amounts[stage], span)
    _row(table, Text("total", style="bold"), analysis.tree.total, analysis.timed.total)
    return table


def _categories(analysis: Analysis) -> Table:
    table = _table("category", share=True)
    whole = analysis.timed.total.seconds.estimate
    found = analysis.categories
    for name in largest_first({name: span.seconds.estimate for name, (_, span) in found.items()}):
        amount, span = found[name]
        _row(table, Text(name), amount, span, whole)
    return table


def _top_modules(analysis: Analysis, rows: int) -> Table:
    table = _table("module, own operators", share=True)
    whole = analysis.timed.total.seconds.estimate
    modules = {total.node.id: total for total in analysis.modules()}
    for name in largest_first({name: total.own.seconds.estimate for name, total in modules.items()})[:rows]:
        total = modules[name]
        _row(table, Text(_shortened(total.node.id)), total.node.own, total.own, whole)
    return table


def _tree(analysis: Analysis) -> Table:
    table = _table("module, with what is below", share=True)
    whole = analysis.timed.total.seconds.estimate
    depths: dict[str, int] = {}
    for total in analysis.modules():
        depth = depths[total.node.id] = depths.get(total.node.caller, -1) + 1
        _row(table, _name(total, depth), total.amount, total.span, whole)
    return table


def _name(total: ModuleTotals, depth: int) -> Text:
    parent, name = total.node.caller, total.node.id
    short = name.removeprefix(parent) if name.startswith(f"{parent}.") else name
    indent = "  " * depth
    return Text(indent + _shortened(short.lstrip("."), NAME_COLUMNS - len(indent)))


def _shortened(name: str, columns: int = NAME_COLUMNS) -> str:
    """A name without its first parts where it is too long: its end is what tells modules apart."""
    shown = name
    while len(shown) > columns and "." in name:
        name = name.partition(".")[2]
        shown = f"….{name}"
    return shown


def _table(first: str, *, share: bool = False) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)
    for title in ("FLOPs", "bytes", "launches", "time", "share" if share else "low to high"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("bound", no_wrap=True)
    return table


def _row(table: Table, name: Text, amount: Amount, span: Span, whole: float | None = None) -> None:
    cells = [
        format_flops(amount.flops) if amount.flops else "-",
        format_bytes(amount.ideal_bytes),
        f"{amount.launches:,}",
        format_seconds(span.seconds.estimate),
    ]
    if whole is None:
        cells.append(f"{format_seconds(span.seconds.low)} to {format_seconds(span.seconds.high)}")
    else:
        cells.append(f"{span.seconds.estimate / whole:.1%}" if whole else "-")
    table.add_row(name, *cells, span.bound)


def _memory(analysis: Analysis) -> Text:
    need = analysis.memory
    peak = analysis.tree.peak
    return Text(
        f"Memory{' of one device' if analysis.scenario.devices > 1 else ''}: "
        f"{format_bytes(need.total_bytes)} of {format_bytes(need.capacity_bytes)}: "
        f"{format_bytes(need.weight_bytes)} weights, {format_bytes(need.live_bytes)} live at the peak "
        f"(in {peak.module}), {format_bytes(need.reserve_bytes)} for the runtime; "
        f"the cache ends at {format_bytes(analysis.tree.kv_cache_bytes)}.\n"
    )


def _time(seconds: Seconds) -> str:
    return f"{format_seconds(seconds.estimate)} ({format_seconds(seconds.low)} to {format_seconds(seconds.high)})"
