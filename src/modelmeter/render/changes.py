"""The table of changes between two call graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from modelmeter.callgraph.difference import Change


def changes_view(changes: Sequence[Change], rows: int) -> RenderableType:
    """One line a change, numbers with their ratio."""
    if not changes:
        return Text("No difference.")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("what", no_wrap=True, max_width=27, overflow="ellipsis")
    table.add_column("modules", max_width=28, overflow="fold")
    table.add_column("first", justify="right", max_width=18, overflow="ellipsis", no_wrap=True)
    table.add_column("second", justify="right", max_width=18, overflow="ellipsis", no_wrap=True)
    table.add_column("ratio", justify="right", no_wrap=True)
    for change in changes[:rows]:
        table.add_row(change.kind, Text(change.modules), _value(change.before), _value(change.after), _ratio(change))
    parts: list[RenderableType] = [table]
    if len(changes) > rows:
        parts.append(Text(f"{len(changes) - rows} more; --rows shows more of them, --json all.", style="dim"))
    return Group(*parts)


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int):
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{value:,}"


def _ratio(change: Change) -> str:
    numbers = all(isinstance(v, int) and not isinstance(v, bool) for v in (change.before, change.after))
    return f"{change.after / change.before:.3g}" if numbers and change.before else ""
