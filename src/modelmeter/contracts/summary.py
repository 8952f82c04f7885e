"""The two views of a report: the summary and the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from modelmeter.contracts.report import AnalyticModelReport, ModuleMetricsSnapshot
from modelmeter.contracts.requests import (
    AnalyticModuleSummary,
    DeepSeekOCRAnalyticModel,
    DeepSeekOCRAnalyticReportSummary,
)
from modelmeter.ranking import largest_first

TOP_MODULES = 10
"""So many modules a summary lists."""

_NOISE = 1e-9
"""A part of a module's total: what is left of a sum of floats is no time of its own."""


def own_times_ms(report: AnalyticModelReport) -> dict[str, float]:
    """A module's own time: its total without those below it. A module without metrics has none.

    Noise of floating-point sums is 0.
    """
    return _own(report, lambda metrics: metrics.total_time_ms)


def _own(report: AnalyticModelReport, figure: Callable[[ModuleMetricsSnapshot], float]) -> dict[str, float]:
    totals = {metrics.module_id: figure(metrics) for metrics in report.module_metrics}
    children = {node.module_id: node.children for node in report.modules}
    return {module: _without_children(module, totals, children) for module in children if module in totals}


def _without_children(module: str, totals: Mapping[str, float], children: Mapping[str, tuple[str, ...]]) -> float:
    below = 0.0
    waiting = list(children[module])
    while waiting:
        child = waiting.pop()
        if child in totals:
            below += totals[child]
        else:
            # Without metrics of its own it hides nothing of those below it.
            waiting += children[child]
    own = totals[module] - below
    return own if own > _NOISE * totals[module] else 0.0


def top_modules(report: AnalyticModelReport, most: int = TOP_MODULES) -> tuple[AnalyticModuleSummary, ...]:
    """The modules with the largest own time, the largest first; those without any are left out.

    Time, share and FLOPs are the module's own, without those below it: where a module is listed beside its
    ancestor it is for other work, and shares add up to at most 1. Activations are the module's peak.
    """
    times = own_times_ms(report)
    shares = _own(report, lambda metrics: metrics.share_of_model_time)
    flops = _own(report, lambda metrics: metrics.total_flops_tflops)
    nodes = {node.module_id: node for node in report.modules}
    activations = {metrics.module_id: metrics.memory_activations_gb for metrics in report.module_metrics}
    ranked = largest_first({module: time for module, time in times.items() if time})
    return tuple(
        AnalyticModuleSummary(
            module_id=module,
            name=nodes[module].name,
            stage=nodes[module].stage,
            share_of_model_time=shares[module],
            total_time_ms=times[module],
            total_flops_tflops=flops[module],
            memory_activations_gb=activations[module],
        )
        for module in ranked[:most]
    )


def summary_of(report: AnalyticModelReport) -> DeepSeekOCRAnalyticReportSummary:
    """A report in short."""
    return DeepSeekOCRAnalyticReportSummary(
        report_id=report.report_id,
        model_variant=report.model.model_variant,
        workload_profile_id=report.workload.profile_id,
        predicted_total_time_ms=report.predicted_total_time_ms,
        measured_total_time_ms=report.measured_total_time_ms,
        predicted_vs_measured_ratio=report.predicted_vs_measured_ratio,
        top_modules=top_modules(report),
        notes=report.notes,
    )


def model_of(report: AnalyticModelReport) -> DeepSeekOCRAnalyticModel:
    """A report's model view."""
    return DeepSeekOCRAnalyticModel(
        report_id=report.report_id,
        model=report.model,
        workload=report.workload,
        modules=report.modules,
        operator_categories=report.operator_categories,
        module_metrics=report.module_metrics,
        profile_run_id=report.profile_run_id,
    )
