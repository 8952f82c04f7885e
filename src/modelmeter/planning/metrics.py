"""Metrics of a report: every module with what is below it, by stage, by category, and in exact totals."""

from __future__ import annotations

from collections.abc import Iterable

from modelmeter.contracts.report import (
    ExactCosts,
    Interval,
    ModuleMetricsSnapshot,
    OperatorMetrics,
    ReportTotals,
    StageModuleMetrics,
    StageTotals,
)
from modelmeter.cost.categories import CATEGORIES, OTHER, category_of
from modelmeter.schema.analysis import Analysis
from modelmeter.schema.cost import DECODE, PREFILL, Amount, CostTree, total
from modelmeter.schema.timing import OperatorTime, Seconds, span

TERA, GIGA, MILLI = 1e12, 1e9, 1e3


def operators_below(analysis: Analysis) -> dict[str, list[OperatorTime]]:
    """Operators of every node and of all nodes below it."""
    found: dict[str, list[OperatorTime]] = {}
    for node in reversed(analysis.tree.nodes):
        mine = [*analysis.timed.operators.get(node.id, ()), *found.get(node.id, ())]
        found[node.id] = mine
        if node.caller:
            found.setdefault(node.caller, []).extend(mine)
    return found


def module_metrics(analysis: Analysis, profile_id: str) -> tuple[ModuleMetricsSnapshot, ...]:
    """What every node costs over the whole request batch, with everything below it."""
    tree = analysis.tree
    below = operators_below(analysis)
    whole = analysis.timed.total.seconds.estimate
    peaks = tree.peaks
    weights, caches = _sums(tree, "weight_bytes"), _sums(tree, "cache")
    found = []
    for node in tree.nodes:
        times = below[node.id]
        amount, seconds = total(time.costs.amount for time in times), span(times).seconds.estimate
        found.append(
            ModuleMetricsSnapshot(
                module_id=node.id,
                profile_id=profile_id,
                calls=sum(node.calls.values()),
                total_time_ms=seconds * MILLI,
                total_flops_tflops=amount.flops / TERA,
                total_io_tb=amount.ideal_bytes / TERA,
                memory_weights_gb=weights[node.id] / GIGA,
                memory_activations_gb=peaks[node.id] / GIGA,
                memory_kvcache_gb=caches[node.id] / GIGA,
                share_of_model_time=seconds / whole if whole else 0.0,
                operator_breakdown=_breakdown(times, amount),
            )
        )
    return tuple(found)


def _breakdown(times: Iterable[OperatorTime], amount: Amount) -> tuple[OperatorMetrics, ...]:
    parts: dict[str, Amount] = {}
    for time in times:
        category = category_of(time.costs.operator)
        parts[category] = parts.get(category, Amount()).plus(time.costs.amount)
    return tuple(
        OperatorMetrics(
            category_id=category.replace(" ", "_"),
            calls=parts[category].calls,
            flops_tflops=parts[category].flops / TERA,
            io_tb=parts[category].ideal_bytes / TERA,
            share_of_module_flops=parts[category].flops / amount.flops if amount.flops else 0.0,
        )
        for category in (*CATEGORIES, OTHER)
        if category in parts
    )


def _sums(tree: CostTree, what: str) -> dict[str, int]:
    """A number of every node with those below it."""
    found: dict[str, int] = {}
    for node in reversed(tree.nodes):
        held = node.kv_cache_bytes
        own = node.weight_bytes if what == "weight_bytes" else held.get(DECODE, held.get(PREFILL, 0))
        found[node.id] = found.get(node.id, 0) + own
        if node.caller:
            found[node.caller] = found.get(node.caller, 0) + found[node.id]
    return found


def stage_metrics(analysis: Analysis) -> tuple[StageModuleMetrics, ...]:
    """What every node costs in each stage that it runs in, with everything below it."""
    below = operators_below(analysis)
    stages = analysis.timed.stages
    found = []
    for node in analysis.tree.nodes:
        parts: dict[str, list[OperatorTime]] = {}
        for time in below[node.id]:
            parts.setdefault(time.costs.stage, []).append(time)
        for stage, times in parts.items():
            amount, spent = total(time.costs.amount for time in times), span(times)
            whole = stages[stage].seconds.estimate
            found.append(
                StageModuleMetrics(
                    stage=stage,
                    module_id=node.id,
                    calls=_calls_in(node.calls, node.stage, stage),
                    total_time_ms=spent.seconds.estimate * MILLI,
                    total_flops_tflops=amount.flops / TERA,
                    total_io_tb=amount.ideal_bytes / TERA,
                    bound=spent.bound,
                    share_of_stage_time=spent.seconds.estimate / whole if whole else 0.0,
                )
            )
    return tuple(found)


def _calls_in(calls: dict[str, int], own_stage: str, stage: str) -> int:
    """Calls of a node in a stage; of a node that only contains modules of the stage, those that run them."""
    if stage == DECODE:
        return calls.get(DECODE, 0)
    return sum(number for run, number in calls.items() if run != DECODE)


def totals_of(analysis: Analysis) -> ReportTotals:
    """The exact integers behind the rounded figures."""
    tree = analysis.tree
    by_dtype: dict[str, int] = {}
    for node in tree.nodes:
        for entry in node.operators:
            if entry.amount.matrix_flops:
                by_dtype[entry.dtype] = by_dtype.get(entry.dtype, 0) + entry.amount.matrix_flops
    return ReportTotals(
        costs=_exact(tree.total),
        stages={
            stage: StageTotals(
                costs=_exact(amount),
                time_s=interval(analysis.timed.stages[stage].seconds),
                bound=analysis.timed.stages[stage].bound,
            )
            for stage, amount in tree.stages.items()
        },
        matrix_flops_by_dtype=dict(sorted(by_dtype.items())),
        parameters=tree.parameter_count,
        weight_bytes=tree.weight_bytes,
        kv_cache_bytes=tree.kv_cache_bytes,
        peak_live_bytes=tree.peak.bytes,
        peak_module=tree.peak.module,
    )


def _exact(amount: Amount) -> ExactCosts:
    costs = amount._asdict()
    del costs["calls"]
    if not amount.wire_steps:
        del costs["wire_bytes"], costs["wire_steps"]
    return ExactCosts(**costs)


def interval(seconds: Seconds, bound_by: str | None = None) -> Interval:
    """A time as the contract has it."""
    return Interval(low=seconds.low, estimate=seconds.estimate, high=seconds.high, bound_by=bound_by)
