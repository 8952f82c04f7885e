"""The folded graph as a tree for the terminal."""

from __future__ import annotations

import io

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from modelmeter.callgraph.axis import Axis
from modelmeter.callgraph.folded import FoldedGraph
from modelmeter.render.colours import colour, stages_below
from modelmeter.render.labels import compact, rows, title
from modelmeter.render.terminal import MAX_WIDTH
from modelmeter.units import format_count, format_share


def tree_view(folded: FoldedGraph, axis: Axis) -> RenderableType:
    """One line a family: label, calls, parameters, cost and its share."""
    whole = max((axis.of(family) for family in folded.families.values()), default=0)
    stages = stages_below(folded)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("module", no_wrap=True, overflow="ellipsis")
    for column in ("calls", "params", axis.name, "share"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows(folded):
        guides = ""
        if row.is_last:
            guides = "".join("  " if last else "│ " for last in row.is_last[:-1]) + ("└ " if row.is_last[-1] else "├ ")
        family, value = row.family, axis.of(row.family)
        table.add_row(
            Text.assemble((guides, "dim"), (compact(row), colour(stages[family.id]).terminal)),
            f"{family.calls:,}",
            format_count(family.parameters) if family.parameters else "-",
            axis.text(value).removesuffix(" operations") if value else "-",
            format_share(value, whole) if value else "-",
        )
    note = Text(
        "Costs include callees; params are a module's own and those of what is not shown below it.", style="dim"
    )
    heading = Text(f"{title(folded)}: {axis.title}", no_wrap=True, overflow="ellipsis")
    return Group(heading, table, note)


def to_tree(folded: FoldedGraph, axis: Axis) -> str:
    """The tree as plain text."""
    made = Console(file=io.StringIO(), width=MAX_WIDTH, color_system=None, legacy_windows=False)
    made.print(tree_view(folded, axis))
    text = made.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.split("\n"))
