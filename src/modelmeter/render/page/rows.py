"""The module tree of a page: modules of the report with what the call graph knows of each, and those only it has."""

from __future__ import annotations

from typing import Any

from modelmeter.callgraph.folded import Family, FoldedGraph
from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.patterns import last_part
from modelmeter.render.labels import shapes
from modelmeter.schema.callgraph import Signature


def module_rows(report: AnalyticModelReport | None, folded: FoldedGraph | None) -> list[dict[str, Any]]:
    """Rows with the place of their parent, parents before children; those of the report are the first, in its order."""
    found: dict[str, dict[str, Any]] = {}
    if report is not None:
        for node in report.modules:
            repeat = f"{node.repetition} {node.repetition_count}" if node.repetition != "none" else ""
            found[node.module_id] = {
                "class": node.qualified_class_name.rpartition(".")[2],
                "config": dict(node.constructor_params),
                "id": node.module_id,
                "name": node.name,
                "parent": node.parent_id,
                "qualified": node.qualified_class_name,
                "repeat": repeat,
                "stage": node.stage,
            }
    if folded is not None:
        for family in folded.families.values():
            if family.id in found:
                found[family.id] |= _traced(family)
                continue
            found[family.id] = {
                "class": family.class_name,
                "config": dict(family.constructor_params),
                "id": family.id,
                "name": last_part(family.id),
                "parent": folded.parents.get(family.id),
                "qualified": folded.source.module_classes.get(next(iter(family.members), ""), family.class_name),
                "repeat": family.repeat_label,
                "stage": family.stage,
                **_traced(family),
            }
    places = {name: number for number, name in enumerate(found)}
    for row in found.values():
        row["parent"] = places.get(row["parent"]) if row["parent"] is not None else None
    return list(found.values())


def _traced(family: Family) -> dict[str, Any]:
    return {
        "inputs": shapes(family.inputs),
        "outputs": shapes(family.outputs),
        "shape": _shape(family.outputs),
    }


def _shape(signatures: list[Signature]) -> str:
    """The first output's shape, and how many others there are."""
    seen = list(
        dict.fromkeys("×".join(map(str, one.tensors[0].shape)) or "scalar" for one in signatures if one.tensors)
    )
    if not seen:
        return ""
    return seen[0] if len(seen) == 1 else f"{seen[0]} +{len(seen) - 1}"


def instance_columns(folded: FoldedGraph, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Single modules of families that stand for several, as columns; ``parent`` is a place in the columns or -1.

    ``family`` is the place of the module's row. A module's parent is the first that calls it.
    """
    source = folded.source
    family_of = {row["id"]: place for place, row in enumerate(rows)}
    names = [(name, family) for family in folded.families.values() for name in family.members]
    if all(len(family.members) == 1 for family in folded.families.values()):
        return {}
    place_of = {name: place for place, (name, _) in enumerate(names)}
    callers: dict[str, str] = {}
    for edge in source.edges:
        caller, _, callee = edge.partition("->")
        if caller != callee:
            callers.setdefault(callee, caller)
    costs = [source.costs.get(name) for name, _ in names]
    own = [source.parameters.get(name) for name, _ in names]
    return {
        "calls": [family.members[name] for name, family in names],
        "family": [family_of[family.id] for _, family in names],
        "flops": [cost.total.matrix_flops + cost.total.vector_flops if cost else None for cost in costs],
        "id": [name for name, _ in names],
        "parameters": [info.count if info else None for info in own],
        "parent": [place_of.get(callers.get(name, ""), -1) for name, _ in names],
        "peak": [cost.total.peak_bytes if cost else None for cost in costs],
    }
