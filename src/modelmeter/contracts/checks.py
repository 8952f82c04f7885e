"""What a report must satisfy beyond its types: unique ids, references that resolve, a tree, intervals in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from attrs import fields_dict

from modelmeter.contracts.report import (
    AnalyticModelReport,
    AnalyticModuleNode,
    Capacity,
    Interval,
    ModuleMetricsSnapshot,
    OCRWorkloadProfile,
    OperatorCategory,
    StageModuleMetrics,
)
from modelmeter.schema.constraints import Key, Step

Problem = tuple[tuple[Step, ...], str]
"""Where in the document, and what is wrong there."""

_NOISE = 1e-9
"""A part of a number: sums of floats that differ by it are equal."""


class HasModules(Protocol):
    """A report, or its model view."""

    @property
    def workload(self) -> OCRWorkloadProfile: ...
    @property
    def modules(self) -> tuple[AnalyticModuleNode, ...]: ...
    @property
    def operator_categories(self) -> tuple[OperatorCategory, ...]: ...
    @property
    def module_metrics(self) -> tuple[ModuleMetricsSnapshot, ...]: ...


def report_problems(report: AnalyticModelReport) -> Iterator[Problem]:
    """Everything that is wrong with a report whose types are right."""
    yield from model_problems(report)
    if report.stage_metrics is not None:
        yield from _stage_metrics(report.stage_metrics, {node.module_id for node in report.modules})
    if report.totals is not None:
        for stage, totals in report.totals.stages.items():
            yield from _interval(("totals", "stages", Key(stage), "time_s"), totals.time_s)
    if report.capacity is not None:
        for key in fields_dict(Capacity):
            value = getattr(report.capacity, key)
            if isinstance(value, Interval):
                yield from _interval(("capacity", key), value)


def model_problems(report: HasModules) -> Iterator[Problem]:
    """What is wrong with the modules, the categories and the metrics."""
    yield from _unique((("modules", i, "module_id"), node.module_id) for i, node in enumerate(report.modules))
    yield from _unique(
        (("operator_categories", i, "category_id"), category.category_id)
        for i, category in enumerate(report.operator_categories)
    )
    yield from _tree(report.modules)
    yield from _metrics(report)


def _unique(ids: Iterable[tuple[tuple[Step, ...], str]]) -> Iterator[Problem]:
    seen: set[str] = set()
    for path, name in ids:
        if name in seen:
            yield path, f"{name!r:.80} stands there twice, ids are unique"
        seen.add(name)


def _tree(modules: tuple[AnalyticModuleNode, ...]) -> Iterator[Problem]:
    nodes = {node.module_id: node for node in modules}
    roots = [index for index, node in enumerate(modules) if node.parent_id is None]
    if not modules:
        yield ("modules",), "expected at least one module"
    for index in roots[1:]:
        yield ("modules", index, "parent_id"), f"{modules[index].module_id!r:.80} is a second root, a tree has one"
    for index, node in enumerate(modules):
        parent = node.parent_id
        if parent is not None and parent not in nodes:
            yield ("modules", index, "parent_id"), f"names {parent!r:.80}, which is no module"
        elif parent is not None and node.module_id not in nodes[parent].children:
            yield ("modules", index, "parent_id"), f"{parent!r:.80} does not have it among its children"
        for place, child in enumerate(node.children):
            path: tuple[Step, ...] = ("modules", index, "children", place)
            if child not in nodes:
                yield path, f"names {child!r:.80}, which is no module"
            elif nodes[child].parent_id != node.module_id:
                yield path, f"{child!r:.80} has the parent {nodes[child].parent_id!r:.80}"
        yield from _unique((("modules", index, "children", place), child) for place, child in enumerate(node.children))
    yield from _cycles(modules, nodes)


def _cycles(modules: tuple[AnalyticModuleNode, ...], nodes: dict[str, AnalyticModuleNode]) -> Iterator[Problem]:
    settled: set[str] = set()
    for index, start in enumerate(modules):
        line: dict[str, None] = {}
        current: str | None = start.module_id
        while current is not None and current in nodes and current not in settled:
            if current in line:
                yield ("modules", index, "parent_id"), f"{current!r:.80} is below itself"
                break
            line[current] = None
            current = nodes[current].parent_id
        settled.update(line)


def _metrics(report: HasModules) -> Iterator[Problem]:
    modules = {node.module_id for node in report.modules}
    categories = {category.category_id for category in report.operator_categories}
    yield from _unique(
        (("module_metrics", i, "module_id"), metrics.module_id) for i, metrics in enumerate(report.module_metrics)
    )
    for index, metrics in enumerate(report.module_metrics):
        if metrics.module_id not in modules:
            yield ("module_metrics", index, "module_id"), f"names {metrics.module_id!r:.80}, which is no module"
        if metrics.profile_id != report.workload.profile_id:
            yield (
                ("module_metrics", index, "profile_id"),
                f"names {metrics.profile_id!r:.80}, the workload is {report.workload.profile_id!r:.80}",
            )
        breakdown = metrics.operator_breakdown
        for place, part in enumerate(breakdown):
            if part.category_id not in categories:
                yield (
                    ("module_metrics", index, "operator_breakdown", place, "category_id"),
                    f"names {part.category_id!r:.80}, which is no operator category",
                )
        yield from _unique(
            (("module_metrics", index, "operator_breakdown", place, "category_id"), part.category_id)
            for place, part in enumerate(breakdown)
        )


def _stage_metrics(metrics: tuple[StageModuleMetrics, ...], modules: set[str]) -> Iterator[Problem]:
    seen: set[tuple[str, str]] = set()
    for index, part in enumerate(metrics):
        if part.module_id not in modules:
            yield ("stage_metrics", index, "module_id"), f"names {part.module_id!r:.80}, which is no module"
        if (part.stage, part.module_id) in seen:
            yield (
                ("stage_metrics", index, "module_id"),
                f"{part.module_id!r:.80} stands twice in the stage {part.stage}",
            )
        seen.add((part.stage, part.module_id))


def _interval(path: tuple[Step, ...], value: Interval) -> Iterator[Problem]:
    slack = _NOISE * value.high
    if not value.low - slack <= value.estimate <= value.high + slack:
        yield path, f"expected low <= estimate <= high, got {value.low}, {value.estimate} and {value.high}"


def report_flags(report: AnalyticModelReport) -> list[str]:
    """What is suspicious in a valid report, each with its place: a share over 1."""
    return [f"{path} is {share:g}, a share over 1" for path, share in _shares(report) if share > 1 + _NOISE]


def _shares(report: AnalyticModelReport) -> Iterator[tuple[str, float]]:
    for index, metrics in enumerate(report.module_metrics):
        yield f"module_metrics[{index}].share_of_model_time", metrics.share_of_model_time
        for place, part in enumerate(metrics.operator_breakdown):
            path = f"module_metrics[{index}].operator_breakdown[{place}].share_of_module_flops"
            yield path, part.share_of_module_flops
    for index, stage in enumerate(report.stage_metrics or ()):
        yield f"stage_metrics[{index}].share_of_stage_time", stage.share_of_stage_time
