"""What the browser tests look at: the example report and call graph, hostile ones, empty ones, large ones."""

from __future__ import annotations

import csv
import io
from functools import cache
from pathlib import Path
from typing import Any

from modelmeter import CallGraph
from modelmeter.cli.report import subject_of
from modelmeter.contracts import load_report
from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.render.page import Subject, page_data
from modelmeter.schema.callgraph import Cost, ModuleCost, ParameterInfo

EXAMPLES = Path(__file__).parents[2] / "examples"

HOSTILE = "<img src=x onerror=globalThis.hit=1>"
BREAKING = "</script><script>globalThis.hit=1</script>\"'&\u2028=1+1"


@cache
def report() -> AnalyticModelReport:
    return load_report(EXAMPLES / "report.json")


@cache
def graph() -> CallGraph:
    return CallGraph.load(EXAMPLES / "callgraph.json")


@cache
def both() -> dict[str, Any]:
    return page_data(subject_of(report(), graph()))


@cache
def report_alone() -> dict[str, Any]:
    return page_data(subject_of(report()))


def of_graph(found: CallGraph) -> dict[str, Any]:
    return page_data(subject_of(graph=found))


def compared(other: AnalyticModelReport) -> dict[str, Any]:
    return page_data(subject_of(report()), Subject(other))


def simple_graph(names: list[str], cost: Cost | None = None) -> CallGraph:
    """A root that calls some modules of different classes once each, so that none of them fold."""
    root = "root"
    each = cost or Cost(matrix_flops=10, bytes_read=5, bytes_written=5, launches=1, output_bytes=4, peak_bytes=8)
    ids = [root, *names]
    return CallGraph(
        call_counts=dict.fromkeys(ids, 1),
        edges={f"{root}->{name}": 1 for name in names},
        op_call_counts=dict.fromkeys(ids, 1),
        module_children={root: list(names), **{name: [] for name in names}},
        module_types={root: "Root", **{name: f"Class{place} {name}" for place, name in enumerate(names)}},
        module_stages=dict.fromkeys(ids, "other"),
        constructor_params={name: {name: name} for name in names},
        parameters={name: ParameterInfo(count=3, bytes=6) for name in ids},
        costs={name: ModuleCost(own=each, total=each) for name in ids},
        stages={"other": each},
    )


def hostile_graph() -> CallGraph:
    return simple_graph([HOSTILE, BREAKING, "=cmd|' /C calc'!A0"])


def large_graph(number: int) -> CallGraph:
    """Modules of as many classes, twenty below each: nothing folds."""
    found = simple_graph([f"m{place}" for place in range(number)])
    found.edges = {f"{'root' if place < 20 else f'm{place // 20 - 1}'}->m{place}": 1 for place in range(number)}
    return found


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))
