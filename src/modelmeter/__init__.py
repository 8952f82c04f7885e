"""ModelMeter: what a PyTorch model runs and what it costs, exactly, without weights and without a GPU."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelmeter.families.deepseek_ocr import VisionWorkload, compute_view_layout
    from modelmeter.schema import CallGraph, Page, Scenario
    from modelmeter.tracing import TraceOptions, build_weightless
    from modelmeter.tracing.api import trace
    from modelmeter.tracing.record_region import record

__version__ = "0.1.0"

_HOMES = {
    "CallGraph": "modelmeter.schema",
    "Page": "modelmeter.schema",
    "Scenario": "modelmeter.schema",
    "VisionWorkload": "modelmeter.families.deepseek_ocr",
    "compute_view_layout": "modelmeter.families.deepseek_ocr",
    "TraceOptions": "modelmeter.tracing",
    "build_weightless": "modelmeter.tracing",
    "record": "modelmeter.tracing.record_region",
    "trace": "modelmeter.tracing",
}

__all__ = [
    "CallGraph",
    "Page",
    "Scenario",
    "TraceOptions",
    "VisionWorkload",
    "build_weightless",
    "compute_view_layout",
    "record",
    "trace",
]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that torch is only when it is needed."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'modelmeter' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
