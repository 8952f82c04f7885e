"""Two reports side by side for the terminal: every stage before and after, and which bound changes."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from modelmeter.contracts.report import AnalyticModelReport, Interval
from modelmeter.schema.callgraph import STAGES
from modelmeter.units import format_bytes, format_seconds


def comparison_view(before: AnalyticModelReport, after: AnalyticModelReport) -> RenderableType:
    """Tables within 100 columns."""
    assert before.totals and after.totals and before.capacity and after.capacity
    table = _table("time of stage", "before", "after")
    table.add_column("bound", no_wrap=True)
    for stage in STAGES:
        mine, theirs = before.totals.stages[stage], after.totals.stages[stage]
        if not (mine.costs.launches or theirs.costs.launches):
            continue
        bound = mine.bound if mine.bound == theirs.bound else f"{mine.bound or '-'} → {theirs.bound or '-'}"
        times = (mine.time_s.estimate, theirs.time_s.estimate)
        table.add_row(stage, *map(format_seconds, times), _ratio(*times), Text(bound))
    whole = (before.capacity.total_time_s.estimate, after.capacity.total_time_s.estimate)
    table.add_row(Text("total", style="bold"), *map(format_seconds, whole), _ratio(*whole), "")
    return Group(table, _capacities(before, after))


def _capacities(before: AnalyticModelReport, after: AnalyticModelReport) -> Table:
    first, second = before.capacity, after.capacity
    assert first and second
    table = _table("capacity", "before", "after")
    rows: list[tuple[str, Interval | None, Interval | None, str]] = [
        ("time to first token", first.time_to_first_token_s, second.time_to_first_token_s, "s"),
        ("time per output token", first.time_per_output_token_s, second.time_per_output_token_s, "s"),
        ("output tokens per second", first.tokens_per_s, second.tokens_per_s, ""),
        ("pages per second", first.pages_per_s, second.pages_per_s, ""),
        ("dollars per 1,000 pages", first.price_per_1000_pages_usd, second.price_per_1000_pages_usd, ""),
    ]
    for name, mine, theirs, unit in rows:
        if mine is None and theirs is None:
            continue
        ratio = _ratio(mine.estimate, theirs.estimate) if mine and theirs else "-"
        table.add_row(name, _estimate(mine, unit), _estimate(theirs, unit), ratio)
    memory = (first.memory_bytes, second.memory_bytes)
    table.add_row("memory", *map(format_bytes, memory), _ratio(*memory))
    most, then = first.largest_batch, second.largest_batch
    if most is not None and then is not None:
        table.add_row("largest batch that fits", f"{most:,}", f"{then:,}", _ratio(most, then))
    return table


def _table(*titles: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(titles[0], no_wrap=True, min_width=26)
    for title in (*titles[1:], "ratio"):
        table.add_column(title, justify="right", no_wrap=True, min_width=9)
    return table


def _estimate(interval: Interval | None, unit: str) -> str:
    if interval is None:
        return "-"
    return format_seconds(interval.estimate) if unit == "s" else f"{interval.estimate:,.4g}"


def _ratio(before: float, after: float) -> str:
    return f"{after / before:.3g}" if before else "-"
