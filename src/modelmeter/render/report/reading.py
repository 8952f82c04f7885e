"""A report as documents read it: modules in order, what each costs by stage, exactly where the report says so."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from attrs import define, field, frozen

from modelmeter.contracts.expressions import evaluate_graph
from modelmeter.contracts.fields import REPORT_STAGES
from modelmeter.contracts.report import (
    AnalyticModelReport,
    AnalyticModuleNode,
    ModuleMetricsSnapshot,
    StageModuleMetrics,
)

EXACT = ("matrix_flops", "vector_flops", "bytes_read", "bytes_written", "launches")
"""Exact amounts of a module that documents show; the bytes are ideal ones."""


@frozen
class Exact:
    """Whole numbers behind a figure; ``None`` for a report without expressions."""

    matrix_flops: int = 0
    vector_flops: int = 0
    bytes: int = 0
    launches: int = 0

    def plus(self, other: Exact) -> Exact:
        """Both together."""
        return Exact(
            self.matrix_flops + other.matrix_flops,
            self.vector_flops + other.vector_flops,
            self.bytes + other.bytes,
            self.launches + other.launches,
        )


@frozen
class Rates:
    """The device's peaks that roofs are drawn from; 0 where the report does not say."""

    name: str = ""
    peaks: Mapping[str, float] = field(factory=dict)
    """FLOP/s of dense products, by the dtypes that the run multiplies in."""
    vector: float = 0.0
    bandwidth: float = 0.0
    overhead: float = 0.0
    memory: int = 0

    @property
    def peak(self) -> float:
        """The highest of the peaks."""
        return max(self.peaks.values(), default=0.0)

    @property
    def ridge(self) -> float:
        """FLOPs a byte at which the highest roof begins; 0 where there are no roofs."""
        return self.peak / self.bandwidth if self.bandwidth else 0.0


@define(slots=False, eq=False)
class ReportView:
    """A report with its modules by id and in order, callers before callees."""

    report: AnalyticModelReport

    @cached_property
    def nodes(self) -> dict[str, AnalyticModuleNode]:
        """Modules by id."""
        return {node.module_id: node for node in self.report.modules}

    @cached_property
    def depths(self) -> dict[str, int]:
        """How deep every module is, in the order of the tree."""
        found: dict[str, int] = {}
        stack = [(node.module_id, 0) for node in reversed(self.report.modules) if node.parent_id not in self.nodes]
        while stack:
            name, depth = stack.pop()
            if name in found:
                continue
            found[name] = depth
            stack += [(child, depth + 1) for child in reversed(self.nodes[name].children) if child in self.nodes]
        return found

    @cached_property
    def metrics(self) -> dict[str, ModuleMetricsSnapshot]:
        """What every module costs in all."""
        return {snapshot.module_id: snapshot for snapshot in self.report.module_metrics}

    @cached_property
    def stages(self) -> dict[str, list[StageModuleMetrics]]:
        """What every module costs in each stage, stages in the order of a run."""
        found: dict[str, list[StageModuleMetrics]] = {name: [] for name in self.nodes}
        for part in sorted(self.report.stage_metrics or (), key=lambda part: REPORT_STAGES.index(part.stage)):
            found.setdefault(part.module_id, []).append(part)
        return found

    @cached_property
    def own(self) -> dict[tuple[str, str], Exact]:
        """Exact amounts of every module's own operators, by module and stage; empty without expressions."""
        expressions = self.report.expressions
        if expressions is None:
            return {}
        roots = {name: place for name, place in expressions["roots"].items() if name.rpartition("/")[2] in EXACT}
        parts: dict[tuple[str, str], dict[str, Any]] = {}
        for name, value in evaluate_graph({**expressions, "roots": roots}, expressions["keys"]).items():
            where, _, amount = name.rpartition("/")
            kind, _, place = where.partition("/")
            if kind == "modules":
                module, _, stage = place.rpartition("/")
                parts.setdefault((module, stage), {})[amount] = value
        return {
            place: Exact(
                amounts.get("matrix_flops", 0),
                amounts.get("vector_flops", 0),
                amounts.get("bytes_read", 0) + amounts.get("bytes_written", 0),
                amounts.get("launches", 0),
            )
            for place, amounts in parts.items()
        }

    @cached_property
    def exact(self) -> dict[tuple[str, str], Exact]:
        """The same with what is below."""
        found: dict[tuple[str, str], Exact] = dict(self.own)
        for name in reversed(list(self.depths)):
            parent = self.nodes[name].parent_id
            for stage in REPORT_STAGES:
                if parent in self.nodes and (name, stage) in found:
                    found[parent, stage] = found.get((parent, stage), Exact()).plus(found[name, stage])
        return found

    def exclusive_ms(self, name: str) -> float:
        """The time of a module without the modules below it."""
        below = sum(self.metrics[child].total_time_ms for child in self.nodes[name].children if child in self.metrics)
        return max(0.0, self.metrics[name].total_time_ms - below)

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """What the report was made from; empty where it does not say."""
        return self.report.scenario or {}

    def part(self, name: str) -> Mapping[str, Any]:
        """One object of what the report was made from: ``scenario``, ``described``, ``configuration``, …"""
        found = self.inputs.get(name)
        return found if isinstance(found, Mapping) else {}

    @cached_property
    def rates(self) -> Rates:
        """The device's peaks, as the report's own copy of it has them."""
        device = self.part("device")
        figures = device.get("figures", {})
        dense = figures.get("dense_flops_per_s", {})
        used = self.report.totals.matrix_flops_by_dtype if self.report.totals else {}
        return Rates(
            str(device.get("name", "")),
            {dtype: float(dense[dtype]["value"]) for dtype in sorted(used) if dtype in dense},
            _figure(figures, "vector_flops_per_s"),
            _figure(figures, "memory_bytes_per_s"),
            _figure(figures, "launch_overhead_s"),
            int(_figure(figures, "memory_bytes")),
        )

    @property
    def is_eager(self) -> bool:
        """Whether the host issues every launch."""
        return bool(self.part("scenario").get("execution", "eager") == "eager")


def _figure(figures: Mapping[str, Any], name: str) -> float:
    return float(figures.get(name, {}).get("value", 0.0))
