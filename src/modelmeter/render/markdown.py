"""Markdown: an outline of the families, and a table of their configuration and shapes."""

from __future__ import annotations

from modelmeter.callgraph.axis import Axis
from modelmeter.callgraph.folded import FoldedGraph
from modelmeter.render.labels import Row, configuration, count, plain, rows, shapes, shorten, title
from modelmeter.render.markdown_text import code, text
from modelmeter.units import format_count, format_share

_MOST_IN_NAME = 120
_MOST_IN_CELL = 400


def to_markdown(folded: FoldedGraph, axis: Axis) -> str:
    """The graph as Markdown."""
    whole = max((axis.of(family) for family in folded.families.values()), default=0)
    placed = list(rows(folded))
    modules = sum(len(family.members) for family in folded.families.values())
    lines = [
        f"# {text(title(folded))}",
        "",
        f"{count(len(placed), 'node')} for {count(modules, 'module')}; shares are of {axis.title}, callees included.",
        "",
    ]
    for note in folded.disagreements:
        lines += [f"> **Note:** {text(plain(note))}", ""]
    lines += [_item(row, axis, whole) for row in placed]
    lines += [
        "",
        "## Configuration and shapes",
        "",
        "| family | configuration | inputs | outputs |",
        "|---|---|---|---|",
    ]
    for row in placed:
        family = row.family
        cells = (
            f"{family.class_name} @ {family.id}",
            configuration(family),
            "; ".join(shapes(family.inputs)),
            "; ".join(shapes(family.outputs)),
        )
        lines.append(f"| {' | '.join(text(shorten(cell, _MOST_IN_CELL)) or '-' for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _item(row: Row, axis: Axis, whole: int) -> str:
    family = row.family
    facts = [family.stage, count(family.calls, "call")]
    if family.parameters:
        facts.append(f"{format_count(family.parameters)} parameters")
    value = axis.of(family)
    if value:
        facts.append(f"{axis.text(value)} ({format_share(value, whole)})")
    repeat = f" **{family.repeat_label}**" if family.repeat_label else ""
    name = f"**{text(shorten(family.class_name, _MOST_IN_NAME)) or '?'}** @ {code(shorten(family.id, _MOST_IN_NAME))}"
    return f"{'  ' * row.depth}- {name}{repeat}: {', '.join(facts)}"
