"""Whether a failure is the architecture's own: the same forward fails in the same way with real weights.

The same inputs, random weights and the configuration with fewer layers and experts, weightlessly and for
real. A failure is excused only if both raise the same error.
"""

from __future__ import annotations

import os
import re
import traceback

from attrs import evolve

from modelmeter.errors import MissingDependencyError, ModelMeterError, TracingError, UsageError
from modelmeter.schema.scenario import Scenario
from modelmeter.tracing.hugging_face import trace_hugging_face
from modelmeter.tracing.hugging_face.own_inputs import own_inputs_of
from modelmeter.tracing.runner import TraceOptions
from modelmeter.tracing.zoo.settings import Setting
from modelmeter.tracing.zoo.shrink import shrunken

MISSING_PACKAGE = "needs the package"
FAILS_TOO = "fails for real too"

_NEEDS = re.compile(r"requires the ([\w.-]+) library|No module named '([\w.-]+)'|requires `?pip install ([\w.-]+)")


_FOLDERS = re.compile(r"/[^\s'\"]*/site-packages/")


def missing_package(error: BaseException) -> str | None:
    """The package that an error says is not installed."""
    for cause in _causes(error):
        if isinstance(cause, (ImportError, MissingDependencyError)):
            found = _NEEDS.search(str(cause))
            if found:
                return next(group for group in found.groups() if group)
    return None


def excuse_for(name: str, dtype: str, setting: Setting) -> str:
    """Why a failure of this name is excused, with the real run's error; empty if it is not."""
    changed = evolve(setting, set=shrunken(name, setting.set))
    weightless = _outcome(name, dtype, changed, weightless=True)
    real = _outcome(name, dtype, changed, weightless=False)
    return f"{FAILS_TOO}: {real}" if real and real == weightless else ""


def excuses(excuse: str, failure: str) -> bool:
    """Whether what ``excuse_for`` gave is about the error of the failure, and not another of the shrunken model's."""
    kind, _, words = excuse.removeprefix(f"{FAILS_TOO}: ").partition(": ")
    return bool(excuse) and (f"{kind}:" in failure or words in failure)


def one_line(words: str, most: int) -> str:
    """At most so many letters on one line; where a machine keeps its packages is no part of them."""
    return " ".join(_FOLDERS.sub("", words).split())[:most]


def _outcome(name: str, dtype: str, setting: Setting, *, weightless: bool) -> str:
    """The error of one run by the class and words of its first cause; empty where it runs."""
    try:
        trace_hugging_face(
            {"model_type": name},
            Scenario(pages=(), dtype=dtype),
            batch=1,
            positions=16,
            name=name,
            fixed_length=False,
            overrides=setting.set,
            own=own_inputs_of(setting.inputs, name),
            options=TraceOptions(weightless=weightless),
        )
    except Exception as error:
        if isinstance(error, UsageError) or not _is_of_library(error):
            return ""  # too large to be run here, or not the architecture's own
        cause = list(_causes(error))[-1]
        words = cause.problem if isinstance(cause, ModelMeterError) else str(cause)
        return one_line(f"{type(cause).__name__}: {words}", 200)
    return ""


def _is_of_library(error: BaseException) -> bool:
    """Whether an error arose while an architecture's own code ran."""
    if isinstance(error, TracingError):
        return True
    steps = [step for cause in _causes(error) for step in traceback.extract_tb(cause.__traceback__)]
    return any(f"{os.sep}transformers{os.sep}" in step.filename for step in steps)


def _causes(error: BaseException) -> list[BaseException]:
    found = [error]
    while found[-1].__cause__ is not None:
        found.append(found[-1].__cause__)
    return found
