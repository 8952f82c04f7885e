"""Graphviz DOT: one node a line, stages as clusters, lines as wide as the cost that they carry."""

from __future__ import annotations

from modelmeter.callgraph.axis import Axis
from modelmeter.callgraph.folded import FoldedGraph
from modelmeter.render.colours import colour, pen_width, stages_below
from modelmeter.render.labels import Row, compact, edge_tooltip, legend, rows, title, tooltip
from modelmeter.schema.callgraph import STAGES

# Close rows and short edges: sixty families stay on one screen.
_GRAPH = (
    'rankdir=LR, ranksep="0.28", nodesep="0.06", ordering=out, forcelabels=true, '
    'fontname="Helvetica", fontsize=11, labelloc=t, labeljust=l, pad="0.1", bgcolor=white'
)
_NODE = 'shape=box, style="filled,rounded", fontname="Helvetica", fontsize=10, height="0.17", margin="0.06,0.015"'
MOST_ON_ONE_LINE = 25
"""A longer label takes a second line, since the longest one makes its column wide."""

_EDGE = 'fontname="Helvetica", fontsize=8, arrowsize="0.4", arrowhead=none'


def to_dot(folded: FoldedGraph, axis: Axis) -> str:
    """The graph as DOT."""
    whole = max((axis.of(family) for family in folded.families.values()), default=0)
    stages = stages_below(folded)
    placed = list(rows(folded))
    numbers = {row.family.id: row.number for row in placed}
    lines = [
        f"digraph {_quoted(title(folded))} {{",
        f"  graph [{_GRAPH}, label={_quoted(f'{title(folded)}: {legend(axis)}')}];",
        f"  node [{_NODE}];",
        f"  edge [{_EDGE}];",
    ]
    for row in placed:
        if stages[row.family.id] is None:
            lines.append(f"  {_node(row, None, axis, whole)}")
    for stage in STAGES:
        members = [row for row in placed if stages[row.family.id] == stage]
        if members:
            line = colour(stage).line
            lines.append(f"  subgraph cluster_{stage} {{")
            lines.append(
                f'    label="{stage}"; style=rounded; color="{line}"; fontcolor="{line}"; margin=5; penwidth=0.7;'
            )
            lines += [f"    {_node(row, stage, axis, whole)}" for row in members]
            lines.append("  }")
    # From left to right Graphviz ranks the last edge of a node uppermost.
    for edge in reversed(folded.edges):
        callee = folded.families[edge.callee]
        width = pen_width(axis.of(callee), whole)
        attributes = f'penwidth={width}, color="{colour(stages[edge.callee]).line}80"'
        if edge.label:
            # An xlabel takes no column of its own.
            attributes += f", xlabel={_quoted(edge.label)}"
        attributes += f', tooltip="{_in_tooltip(edge_tooltip(edge))}"'
        lines.append(f"  n{numbers[edge.caller]} -> n{numbers[edge.callee]} [{attributes}];")
    lines.append("}")
    return "\n".join(lines) + "\n"


def _node(row: Row, stage: str | None, axis: Axis, whole: int) -> str:
    paint = colour(stage)
    label = compact(row)
    lines = label.split(" @ ", 1) if len(label) > MOST_ON_ONE_LINE else [label]
    attributes = {
        "label": "\\n@ ".join(map(_escaped, lines)),
        "fillcolor": paint.fill,
        "color": paint.line,
        "penwidth": str(pen_width(axis.of(row.family), whole, 3.0)),
        "tooltip": "&#10;".join(map(_in_tooltip, tooltip(row.family, axis, whole))),
    }
    shown = ", ".join(f'{key}="{value}"' for key, value in attributes.items())
    return f"n{row.number} [{shown}];"


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    """Graphviz reads backslashes and entities in what it shows, so that an ampersand must be one."""
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')


def _in_tooltip(text: str) -> str:
    """Graphviz reads backslashes in tooltips once or twice, by version and place: a letter alike is not read."""
    return _escaped(text.replace("\\", "\N{REVERSE SOLIDUS OPERATOR}"))
