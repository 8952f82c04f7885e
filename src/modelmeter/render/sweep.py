"""The terminal view of a sweep: how many rows there are, and the best row of each main figure; its progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from modelmeter.render.terminal import console
from modelmeter.units import format_bytes, format_flops, format_seconds

_TITLES = {
    "time_to_first_token_s": "time to first token",
    "time_per_output_token_s": "time per output token",
    "tokens_per_s": "tokens/s",
    "pages_per_s": "pages/s",
    "price_per_1000_pages_usd": "price of 1,000 pages",
    "total_time_s": "total time",
}


def sweep_view(counts: Mapping[str, int], best: Mapping[str, Mapping[str, Any]], axes: Sequence[str]) -> RenderableType:
    """Within 100 columns. ``counts``: rows, possible, fit; ``best``: rows by column, of which ``axes`` are shown."""
    rows, possible, fit = (counts[name] for name in ("rows", "possible", "fit"))
    head = Text(f"{rows:,} row{'s' if rows != 1 else ''}: {possible:,} possible, {fit:,} of them fit the device")
    if not best:
        return head
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("best of what fits", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("at")
    for column, row in best.items():
        where = ", ".join(f"{axis} {row[axis]}" for axis in axes)
        table.add_row(_TITLES.get(column, column), Text(_amount(column, row[column])), Text(_plain(where)))
    return Group(head, table)


def _amount(column: str, value: float) -> str:
    name = column.removesuffix("_low").removesuffix("_high")
    if name.endswith("_per_s"):
        return f"{value:,.3g}" if value < 100 else f"{value:,.0f}"
    if name.endswith("_usd"):
        return f"${value:.4g}"
    if name.endswith("_bytes"):
        return format_bytes(value)
    if name.endswith("_flops"):
        return format_flops(value)
    return format_seconds(value) if name.endswith("_s") else f"{value:,}"


@contextmanager
def sweep_progress(rows: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr; what is given takes rows that were finished."""
    columns = (TextColumn("Sweeping"), BarColumn(), MofNCompleteColumn(), TextColumn("rows,"), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task("Sweeping", total=rows)
        yield lambda finished: progress.advance(task, finished)


def _plain(text: str) -> str:
    """Text on one line: a device's or a file's name may hold anything."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
