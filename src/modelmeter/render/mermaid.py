"""Mermaid flow chart: drawn by GitHub, GitLab and many editors from its text."""

from __future__ import annotations

from modelmeter.callgraph.axis import Axis
from modelmeter.callgraph.folded import FoldedGraph
from modelmeter.render.colours import colour, pen_width, stages_below
from modelmeter.render.labels import Row, compact, configuration, legend, rows, shapes, shorten, title
from modelmeter.schema.callgraph import STAGES

MOST_LETTERS = 50_000
MOST_EDGES = 500
"""Mermaid's own settings refuse to draw more than this."""

# Close rows, labels on one line: the usual settings need several screens.
_SETTINGS = (
    '%%{init: {"flowchart": {"nodeSpacing": 6, "rankSpacing": 28, "padding": 5, "wrappingWidth": 420}, '
    '"themeVariables": {"fontSize": "12px"}}}%%'
)

_MOST_IN_TOOLTIP = 160
_READ_BY_MERMAID = {letter: f"#{ord(letter)};" for letter in '"#&<>`\\|;%'}


def to_mermaid(folded: FoldedGraph, axis: Axis) -> str:
    """The graph as Mermaid."""
    whole = max((axis.of(family) for family in folded.families.values()), default=0)
    stages = stages_below(folded)
    placed = list(rows(folded))
    numbers = {row.family.id: row.number for row in placed}
    lines = [_SETTINGS, "flowchart LR", f"  %% {_text(title(folded))}: {legend(axis)}"]
    lines += [f"  {_node(row)}" for row in placed if stages[row.family.id] is None]
    for stage in STAGES:
        members = [row for row in placed if stages[row.family.id] == stage]
        if members:
            lines += [f'  subgraph stage_{stage}["{stage}"]', *(f"    {_node(row)}" for row in members), "  end"]
            lines.append(f"  style stage_{stage} fill:#ffffff,stroke:{colour(stage).line}")
    for edge in folded.edges:
        label = f'|"{_text(edge.label)}"|' if edge.label else ""
        lines.append(f"  n{numbers[edge.caller]} -->{label} n{numbers[edge.callee]}")
    for index, edge in enumerate(folded.edges):
        width = pen_width(axis.of(folded.families[edge.callee]), whole)
        lines.append(f"  linkStyle {index} stroke:{colour(stages[edge.callee]).line},stroke-width:{width}px")
    for kind in (*STAGES, None):
        members = [row for row in placed if stages[row.family.id] == kind]
        if members:
            name, paint = f"is_{kind or 'several'}", colour(kind)
            lines.append(f"  classDef {name} fill:{paint.fill},stroke:{paint.line},color:#111111")
            lines.append(f"  class {','.join(f'n{row.number}' for row in members)} {name}")
    # A click does nothing: the statement is the one that carries a tooltip.
    lines += [f'  click n{row.number} call void() "{_tooltip(row)}"' for row in placed if _tooltip(row)]
    return "\n".join(lines) + "\n"


def too_large(text: str, folded: FoldedGraph) -> str | None:
    """Why Mermaid with its usual settings will not draw this, if so."""
    if len(folded.edges) > MOST_EDGES:
        return f"{len(folded.edges)} edges, Mermaid draws at most {MOST_EDGES}: maxEdges, or a smaller --depth"
    if len(text) > MOST_LETTERS:
        return f"{len(text):,} letters, Mermaid draws at most {MOST_LETTERS:,}: maxTextSize, or a smaller --depth"
    return None


def _node(row: Row) -> str:
    return f'n{row.number}["{_text(compact(row))}"]'


def _tooltip(row: Row) -> str:
    family = row.family
    parts = [configuration(family), *(f"in {line}" for line in shapes(family.inputs[:1]))]
    return _text(shorten("; ".join(part for part in parts if part), _MOST_IN_TOOLTIP))


def _text(text: str) -> str:
    """Mermaid's own entities are written with a number sign."""
    return "".join(_READ_BY_MERMAID.get(letter, letter) for letter in text)
