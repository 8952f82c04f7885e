"""What a notebook shows of a document: a caption, figures, and a small table by stage. HTML without style or script.

Everything that comes from a document is escaped; a notebook gives the table its own look, light or dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, TypeVar

from modelmeter.units import format_bytes, format_count, format_flops

if TYPE_CHECKING:
    from modelmeter.schema.callgraph import CallGraph

T = TypeVar("T")


def notebook_table(
    caption: str, facts: Mapping[str, str], columns: Sequence[str], rows: Iterable[Sequence[str]], note: str = ""
) -> str:
    """A table with a head of ``columns``, the first of them names, and ``facts`` with their titles above it."""
    said = " · ".join(f"{_text(title)} <b>{_text(value)}</b>" for title, value in facts.items())
    head = _row(columns, header=True)
    body = "".join(_row(row) for row in rows)
    table = f"<table><thead>{head}</thead><tbody>{body}</tbody></table>" if body else ""
    last = f"<p>{_text(note)}</p>" if note else ""
    return f"<div><p><b>{_text(caption)}</b><br>{said}</p>{table}{last}</div>"


def call_graph_table(graph: CallGraph) -> str:
    """A call graph's size, and its work by stage."""
    bound = "at least " if graph.is_lower_bound else ""
    facts = {
        "modules": format_count(len(graph.call_counts)),
        "calls": format_count(sum(graph.call_counts.values())),
        "parameters": format_count(graph.parameter_count),
    }
    if graph.peak is not None:
        facts["peak"] = format_bytes(graph.peak.bytes)
    rows = [
        (
            stage,
            bound + format_flops(cost.matrix_flops + cost.vector_flops),
            format_bytes(cost.bytes_read + cost.bytes_written),
            format_count(cost.launches),
        )
        for stage, cost in by_stage(graph.stages)
        if cost.launches or cost.matrix_flops
    ]
    name = str(graph.model.get("class") or graph.root or "an empty model")
    return notebook_table(f"Call graph of {name}", facts, ("Stage", "FLOPs", "Bytes moved", "Launches"), rows)


def by_stage(stages: Mapping[str, T]) -> list[tuple[str, T]]:
    """Stages in the order in which they run; files have them in that of the alphabet."""
    from modelmeter.schema.callgraph import STAGES

    known = [(stage, stages[stage]) for stage in STAGES if stage in stages]
    return known + [(stage, part) for stage, part in stages.items() if stage not in STAGES]


def _row(cells: Sequence[str], *, header: bool = False) -> str:
    """Names to the left, numbers to the right."""
    kinds = ["th", *["th" if header else "td"] * (len(cells) - 1)]
    sides = ["left", *["right"] * (len(cells) - 1)]
    found = [
        f'<{kind} style="text-align: {side}">{_text(cell)}</{kind}>'
        for kind, side, cell in zip(kinds, sides, cells, strict=True)
    ]
    return f"<tr>{''.join(found)}</tr>"


def _text(text: str) -> str:
    """A name as text, also one with lone halves of characters, which UTF-8 cannot hold."""
    return escape(text.encode("utf-8", "replace").decode("utf-8"))
