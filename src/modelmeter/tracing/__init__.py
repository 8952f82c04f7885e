"""Tracing: weightless execution, the recorder, and ``trace``. Imports torch."""

from modelmeter.tracing.api import trace, trace_family
from modelmeter.tracing.build import build_weightless
from modelmeter.tracing.runner import TraceOptions, trace_forwards

__all__ = ["TraceOptions", "build_weightless", "trace", "trace_family", "trace_forwards"]
