"""What is asked over HTTP and what is answered: the requests, and the two views of a report."""

from __future__ import annotations

from attrs import frozen

from modelmeter.contracts.fields import (
    AcceptedState,
    Amount,
    Identifier,
    Name,
    ScenarioKeys,
    Stage,
)
from modelmeter.contracts.report import (
    AnalyticModuleNode,
    DeepSeekOCRModelSpec,
    ModuleMetricsSnapshot,
    OCRWorkloadProfile,
    OperatorCategory,
)


@frozen(kw_only=True)
class DeepSeekOCRAnalyticRequest:
    """An analysis to be made. ``scenario`` has keys that override the workload profile's."""

    model_id: Name
    model_variant: Name
    workload_profile_id: Identifier
    profile_run_id: Identifier | None = None
    force_rebuild: bool = False
    scenario: ScenarioKeys | None = None


@frozen(kw_only=True)
class DeepSeekOCRAnalyticAccepted:
    """A request that was accepted: the report will have this id. The same request has the same id."""

    report_id: Identifier
    status: AcceptedState


@frozen(kw_only=True)
class AnalyticModuleSummary:
    """One of the modules that take the most time by themselves.

    Share, time and FLOPs are the module's own, without those below it, so that no work is listed twice;
    ``memory_activations_gb`` is the peak while it runs, as in its metrics.
    """

    module_id: Name
    name: str
    stage: Stage
    share_of_model_time: Amount
    total_time_ms: Amount
    total_flops_tflops: Amount
    memory_activations_gb: Amount


@frozen(kw_only=True)
class DeepSeekOCRAnalyticReportSummary:
    """A report in short: what it is about, how long it takes, and where the time goes."""

    report_id: Identifier
    model_variant: Name
    workload_profile_id: Name
    predicted_total_time_ms: Amount
    measured_total_time_ms: Amount | None = None
    predicted_vs_measured_ratio: Amount | None = None
    top_modules: tuple[AnalyticModuleSummary, ...]
    notes: str = ""


@frozen(kw_only=True)
class DeepSeekOCRAnalyticModel:
    """A report without its summary: the model, the workload, the modules and what each costs."""

    report_id: Identifier
    model: DeepSeekOCRModelSpec
    workload: OCRWorkloadProfile
    modules: tuple[AnalyticModuleNode, ...]
    operator_categories: tuple[OperatorCategory, ...]
    module_metrics: tuple[ModuleMetricsSnapshot, ...]
    profile_run_id: str | None = None
