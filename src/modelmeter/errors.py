"""The exception tree: every error that a user can cause, with its exit code and its remedy.

A message says what was wrong and where, what was expected, and what to do. The command line prints
it as one line and leaves with the class's exit code; nothing else in the project calls ``exit``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_PROBLEM = 1000
"""Letters of a problem that are shown: a line that quotes a document stays a line."""


class ModelMeterError(Exception):
    """Base of all errors that ModelMeter raises on purpose.

    ``problem`` says what was wrong and what was expected, ``remedy`` what to do about it.
    """

    exit_code = 1

    def __init__(self, problem: str, *, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        text = " ".join(self.problem.split())
        if len(text) > MAX_PROBLEM:
            text = f"{text[: MAX_PROBLEM - 1]}…"
        return f"{text}; {' '.join(self.remedy.split())}" if self.remedy else text


class UsageError(ModelMeterError):
    """Options that do not exist, do not parse or contradict each other."""

    exit_code = 2


class PageError(ModelMeterError):
    """A page file that is missing, empty, truncated or no image."""

    exit_code = 3


class ConfigurationError(ModelMeterError):
    """A model configuration with unknown, contradictory or impossible keys."""

    exit_code = 4


class ScenarioError(ModelMeterError):
    """A workload that the model cannot have: grid, sizes, text length, split over devices."""

    exit_code = 5


class DocumentError(ModelMeterError):
    """A ModelMeter file that cannot be read: truncated, foreign, or of another schema version."""

    exit_code = 6


class OutputError(ModelMeterError):
    """A result that cannot be written, or that exists already."""

    exit_code = 7


class TracingError(ModelMeterError):
    """The module under trace raised; the message names the innermost module that was running."""

    exit_code = 8


class MissingDependencyError(ModelMeterError):
    """An optional package or program is needed and not there."""

    exit_code = 9


class InternalError(ModelMeterError):
    """Something that nobody foresaw: a mistake in ModelMeter, or in a library that it calls."""

    exit_code = 70


_MOST_NAMES = 25
"""So many valid names are listed; a model has thousands of modules, and an error is one line."""


class UnknownNameError(UsageError):
    """A name that is not in a list of valid ones; the nearest valid name is offered."""

    def __init__(self, kind: str, name: str, valid: Iterable[str]) -> None:
        names = sorted(valid)
        # Who writes the beginning of a name means that name, however much longer it is.
        begun = [known for known in names if name and known.lower().startswith(name.lower())]
        near = begun[:1] or difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        remedy = f"did you mean {near[0]!r}?" if near else f"valid: {', '.join(names[:_MOST_NAMES])}{more}"
        super().__init__(f"unknown {kind} {name!r}", remedy=remedy)


def require_extra(extra: str, package: str) -> MissingDependencyError:
    """The error for an optional dependency that is not installed."""
    return MissingDependencyError(
        f"this needs the package {package!r}, which is not installed",
        remedy=f"install it with: pip install 'modelmeter[{extra}]'",
    )
