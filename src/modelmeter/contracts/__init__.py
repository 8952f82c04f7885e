"""The report's contract: its classes, one strict converter, files, checks, and the operator list."""

from modelmeter.contracts.checks import report_flags
from modelmeter.contracts.converter import converter
from modelmeter.contracts.files import load_report, report_files, report_json, report_yaml, save_report
from modelmeter.contracts.operators import OperatorSpec, TargetOperatorList
from modelmeter.contracts.report import (
    AnalyticModelReport,
    AnalyticModuleNode,
    Capacity,
    DeepSeekOCRModelSpec,
    ExactCosts,
    Interval,
    ModuleMetricsSnapshot,
    OCRWorkloadProfile,
    OperatorCategory,
    OperatorMetrics,
    ReportTotals,
    StageModuleMetrics,
    StageTotals,
)
from modelmeter.contracts.requests import (
    AnalyticModuleSummary,
    DeepSeekOCRAnalyticAccepted,
    DeepSeekOCRAnalyticModel,
    DeepSeekOCRAnalyticReportSummary,
    DeepSeekOCRAnalyticRequest,
)
from modelmeter.contracts.service import (
    AnalyticRun,
    AnalyticRunList,
    DeviceEntry,
    DeviceList,
    FieldProblem,
    ProblemDetails,
    ServiceHealth,
    WhatIfAnswer,
    WhatIfRequest,
)

__all__ = [
    "AnalyticModelReport",
    "AnalyticModuleNode",
    "AnalyticModuleSummary",
    "AnalyticRun",
    "AnalyticRunList",
    "Capacity",
    "DeepSeekOCRAnalyticAccepted",
    "DeepSeekOCRAnalyticModel",
    "DeepSeekOCRAnalyticReportSummary",
    "DeepSeekOCRAnalyticRequest",
    "DeepSeekOCRModelSpec",
    "DeviceEntry",
    "DeviceList",
    "ExactCosts",
    "FieldProblem",
    "Interval",
    "ModuleMetricsSnapshot",
    "OCRWorkloadProfile",
    "OperatorCategory",
    "OperatorMetrics",
    "OperatorSpec",
    "ProblemDetails",
    "ReportTotals",
    "ServiceHealth",
    "StageModuleMetrics",
    "StageTotals",
    "TargetOperatorList",
    "WhatIfAnswer",
    "WhatIfRequest",
    "converter",
    "load_report",
    "report_files",
    "report_flags",
    "report_json",
    "report_yaml",
    "save_report",
]
