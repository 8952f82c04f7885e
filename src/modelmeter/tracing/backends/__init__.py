"""Other tracers, one document: the back ends by name. Each runs a model with real weights.

``native`` is the project's own weightless trace; it is no class here but the default of the runner.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modelmeter.errors import UnknownNameError
from modelmeter.tracing.backends.base import Backend, Job
from modelmeter.tracing.backends.hooks import HooksBackend
from modelmeter.tracing.backends.profiler import ProfilerBackend
from modelmeter.tracing.backends.torchlens import TorchLensBackend

__all__ = ["BACKENDS", "Backend", "HooksBackend", "Job", "ProfilerBackend", "TorchLensBackend", "make_backend"]

NATIVE = "native"

BACKENDS: dict[str, Callable[..., Backend]] = {
    "hooks": HooksBackend,
    "profiler": ProfilerBackend,
    "torchlens": TorchLensBackend,
}


def make_backend(name: str, **settings: Any) -> Backend | None:
    """A back end by name, with its settings; None for the native one.

    Raises UnknownNameError, MissingDependencyError if its package is not installed, and UsageError for
    a setting that it cannot have.
    """
    if name == NATIVE:
        return None
    if name not in BACKENDS:
        raise UnknownNameError("back end", name, (NATIVE, *BACKENDS))
    return BACKENDS[name](**settings)
