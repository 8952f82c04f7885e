"""The folded graph as JSON: families with their members, counts and costs, and the calls between them."""

from __future__ import annotations

import json
from typing import Any

from modelmeter.callgraph.axis import Axis
from modelmeter.callgraph.folded import Family, FoldedGraph
from modelmeter.schema.codec import converter


def to_json(folded: FoldedGraph, axis: Axis) -> str:
    """One family and one edge a line."""
    families = [_family(folded, family, axis) for family in folded.families.values()]
    edges = [
        {"caller": edge.caller, "callee": edge.callee, "label": edge.label, "count": edge.count, "calls": edge.calls}
        for edge in folded.edges
    ]
    parts = [
        f'"axis": {json.dumps({"name": axis.name, "title": axis.title})}',
        f'"disagreements": {json.dumps(folded.disagreements)}',
        f'"edges": {_lines(edges)}',
        f'"families": {_lines(families)}',
        f'"root": {json.dumps(folded.root)}',
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _lines(values: list[dict[str, Any]]) -> str:
    # ASCII, since a name may hold half a character, which UTF-8 cannot.
    return "[" + ",".join(f"\n  {json.dumps(value, sort_keys=True)}" for value in values) + "\n]"


def _family(folded: FoldedGraph, family: Family, axis: Axis) -> dict[str, Any]:
    plain: dict[str, Any] = converter().unstructure(family)
    return {
        **plain,
        "calls": family.calls,
        "depth": folded.depths[family.id],
        "label": family.label,
        "parent": folded.parents.get(family.id),
        "value": axis.of(family),
    }
