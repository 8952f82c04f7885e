"""Markdown: an outline of the families, and a table of their configuration and shapes."""

from __future__ import annotations

import re

from modelmeter.callgraph.axis import Axis
from modelmeter.callgraph.folded import FoldedGraph
from modelmeter.render.labels import Row, configuration, count, plain, rows, shapes, shorten, title
from modelmeter.units import format_count, format_share

_MOST_IN_NAME = 120
_MOST_IN_CELL = 400


def to_markdown(folded: FoldedGraph, axis: Axis) -> str:
    """The graph as Markdown."""
    whole = max((axis.of(family) for family in folded.families.values()), default=0)
    placed = list(rows(folded))
    modules = sum(len(family.members) for family in folded.families.values())
    lines = [
        f"# {_text(title(folded))}",
        "",
        f"{count(len(placed), 'node')} for {count(modules, 'module')}; shares are of {axis.title}, callees included.",
        "",
    ]
    for note in folded.disagreements:
        lines += [f"> **Note:** {_text(plain(note))}", ""]
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
        lines.append(f"| {' | '.join(_text(shorten(cell, _MOST_IN_CELL)) or '-' for cell in cells)} |")
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
    name = f"**{_text(shorten(family.class_name, _MOST_IN_NAME)) or '?'}** @ {_code(shorten(family.id, _MOST_IN_NAME))}"
    return f"{'  ' * row.depth}- {name}{repeat}: {', '.join(facts)}"


def _code(text: str) -> str:
    """A code span, fenced by more backticks in a row than are in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    # Markdown takes one space off both ends, where both are spaces and something else is between them.
    space = " " if longest or not text.strip() or (text[0] == text[-1] == " ") else ""
    return f"{fence}{space}{text or ' '}{space}{fence}"


_SPECIAL = re.compile(r"[\\`*\[\]<>|&~#!]|(?<![^\W_])_|_(?![^\W_])")


def _text(text: str) -> str:
    """Entities for what Markdown or a table would read; an underscore inside a word is none of it."""
    text = _SPECIAL.sub(lambda match: f"&#{ord(match.group())};", text)
    return re.sub(r"(?i)(https?|ftp|www|mailto|xmpp)(?=[:.])", lambda m: f"{m[0]}&#8203;", text)
