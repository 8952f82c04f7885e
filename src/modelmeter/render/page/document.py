"""All data of a page as one JSON object: what the page's script reads and nothing else.

``live`` is what ``planning.live`` made of the report: with it the figures change with the page's controls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

import modelmeter
from modelmeter.callgraph.folded import FoldedGraph
from modelmeter.callgraph.folding import fold
from modelmeter.callgraph.selection import in_order
from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.render.page.figures import graph_figures, packed, report_figures
from modelmeter.render.page.formulas import module_formulas
from modelmeter.render.page.rows import instance_columns, module_rows
from modelmeter.schema.callgraph import CallGraph


@frozen
class Subject:
    """What a page is about: a report, a call graph, or both, and how the report can be asked again."""

    report: AnalyticModelReport | None = None
    graph: CallGraph | None = None
    live: Mapping[str, Any] | None = None
    why_not_live: str = ""


def page_data(subject: Subject, other: Subject | None = None) -> dict[str, Any]:
    """The page's data; ``other`` is what it is compared with."""
    data = subject_data(subject)
    if other is not None:
        data["other"] = _compared(other)
    data["tool"] = {"name": "modelmeter", "version": modelmeter.__version__}
    return data


def subject_data(subject: Subject) -> dict[str, Any]:
    """Rows, figures, and what each of the two documents says besides."""
    report, graph = subject.report, subject.graph
    folded = in_order(fold(graph)) if graph is not None and graph.call_counts else None
    rows = module_rows(report, folded)
    data: dict[str, Any] = {"modules": rows, "why_not_live": subject.why_not_live}
    figures: dict[str, float] = graph_figures(folded, rows) if folded is not None and report is None else {}
    if report is not None:
        data["report"] = _about_report(report)
        data["formulas"] = module_formulas(report)
        figures |= report_figures(report)
        if subject.live is not None:
            data["live"] = dict(subject.live)
    if graph is not None:
        data["callgraph"] = _about_graph(graph, folded)
        if folded is not None:
            data["instances"] = instance_columns(folded, rows)
            data |= _drawn(folded)
    data["figures"] = packed(figures, len(rows))
    data["title"] = _title(subject)
    return data


def _drawn(folded: FoldedGraph) -> dict[str, Any]:
    from modelmeter.render.page.graph_data import graph_data
    from modelmeter.render.page.timeline_data import timeline_data

    return {"graph": graph_data(folded), "timeline": timeline_data(folded.source)}


def _compared(other: Subject) -> dict[str, Any]:
    """Of what is compared with: its figures and the names of its modules."""
    data = subject_data(other)
    kept = ("modules", "figures", "report", "callgraph", "title")
    return {name: data[name] for name in kept if name in data}


def _title(subject: Subject) -> str:
    if subject.report is not None:
        return subject.report.model.model_id
    assert subject.graph is not None
    return str(subject.graph.model.get("class") or subject.graph.root or "an empty model")


def _about_report(report: AnalyticModelReport) -> dict[str, Any]:
    inputs = report.scenario or {}
    device = inputs.get("device", {})
    return {
        "described": inputs.get("described", {}),
        "device": {"id": device.get("id", ""), "name": device.get("name", "")},
        "id": report.report_id,
        "measured_s": None if report.measured_total_time_ms is None else report.measured_total_time_ms / 1e3,
        "model_id": report.model.model_id,
        "notes": report.notes,
        "profile": {"description": report.workload.description, "id": report.workload.profile_id},
        "scenario": inputs.get("scenario", {}),
        "variant": report.model.model_variant,
    }


def _about_graph(graph: CallGraph, folded: FoldedGraph | None) -> dict[str, Any]:
    return {
        "assumptions": [
            {"calls": one.calls, "module": one.module, "operator": one.operator, "rule": one.rule}
            for one in graph.assumptions
        ],
        "class": graph.model.get("class", graph.root),
        "disagreements": list(folded.disagreements) if folded is not None else [],
        "forwards": [forward.name for forward in graph.forwards],
        "lower_bound": graph.is_lower_bound,
        "modules": len(graph.call_counts),
        "scenario": graph.scenario,
        "unknown_operators": dict(graph.unknown_operators),
    }
