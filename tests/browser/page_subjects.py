"""What the browser tests look at: the example report and call graph, hostile ones, empty ones, large ones."""

from __future__ import annotations

import csv
import io
from functools import cache
from pathlib import Path
from typing import Any

from attrs import evolve

from modelmeter import CallGraph, Scenario
from modelmeter.cli.report import subject_of
from modelmeter.contracts import load_report
from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.planning.traced import TracedQuestion
from modelmeter.planning.traced_run import TracedRun
from modelmeter.planning.what_if import Question, question_of
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
def subject() -> Subject:
    """The example report; its expressions are worked out once."""
    return subject_of(report())


@cache
def both() -> dict[str, Any]:
    return page_data(evolve(subject(), graph=graph()))


@cache
def report_alone() -> dict[str, Any]:
    return page_data(subject())


@cache
def traced_question() -> TracedQuestion:
    """The example's costs as if a trace had found them, of a model that takes no pages."""
    question = question_of(report())
    assert isinstance(question, Question)
    tree = question.analysis().tree
    run = TracedRun(tree, "document", "traced", configuration={}, described={"seq_len": 493}, class_names={})
    scenario = Scenario(decode_steps=question.scenario.decode_steps, device=question.device.id)
    return TracedQuestion(run, scenario, question.device, question.efficiency, question.labels)


@cache
def traced() -> dict[str, Any]:
    return page_data(subject_of(traced_question().report()))


def of_graph(found: CallGraph) -> dict[str, Any]:
    return page_data(subject_of(graph=found))


def compared(other: AnalyticModelReport) -> dict[str, Any]:
    return page_data(subject(), Subject(other))


def compared_graphs(found: CallGraph, other: CallGraph) -> dict[str, Any]:
    return page_data(subject_of(graph=found), Subject(graph=other))


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


def hostile_before() -> CallGraph:
    """The same with a module less, and another whose name is no better."""
    return simple_graph([HOSTILE, "<svg onload=globalThis.hit=1>"])


def large_graph(number: int) -> CallGraph:
    """Modules of as many classes, twenty below each: nothing folds."""
    found = simple_graph([f"m{place}" for place in range(number)])
    found.edges = {f"{'root' if place < 20 else f'm{place // 20 - 1}'}->m{place}": 1 for place in range(number)}
    return found


def large_page(number: int) -> dict[str, Any]:
    """The page of a graph that is too large to draw, its rows and figures repeated until there are so many."""
    data = of_graph(large_graph(6000))
    modules, columns = data["modules"], data["figures"]["columns"]
    known = len(modules)
    for place in range(known, number):
        like = modules[place % known or 1]
        modules.append({**like, "id": f"n{place}", "name": f"n{place}"})
        for column in columns.values():
            column.append(column[place % known or 1])
    return data


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))
