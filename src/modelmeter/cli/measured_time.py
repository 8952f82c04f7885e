"""The measured time of a report: that of a measurement of the same run, and of no other."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from attrs import asdict, evolve

from modelmeter.errors import UsageError
from modelmeter.schema.measurement import Measurement
from modelmeter.schema.scenario import Scenario

if TYPE_CHECKING:
    from modelmeter.planning.traced import TracedQuestion
    from modelmeter.planning.what_if import Question

_MOST_NAMED = 4


@overload
def with_measurement(question: Question, path: Path) -> Question: ...


@overload
def with_measurement(question: Question | TracedQuestion, path: Path) -> Question | TracedQuestion: ...


def with_measurement(question: Question | TracedQuestion, path: Path) -> Question | TracedQuestion:
    """The question with the measured time of its run.

    Raises UsageError for a measurement of another model or scenario: a ratio of the two would say nothing.
    """
    measurement = Measurement.load(path)
    configuration = question.inputs()["configuration"]
    if measurement.model.get("config") != configuration:
        raise UsageError(
            f"{path} measured another model, {measurement.model.get('name', 'with other sizes')}",
            remedy="analyze the configuration that was measured",
        )
    ours = _plain(question.scenario, question.described())
    others = [
        f"{key} {_short(value)} instead of {_short(ours[key])}"
        for key, value in sorted(measurement.scenario.items())
        if key in ours and ours[key] != value
    ]
    if others:
        more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
        raise UsageError(
            f"{path} measured another run: {', '.join(others[:_MOST_NAMED])}{more}",
            remedy="analyze the scenario that was measured",
        )
    if measurement.device.name not in (question.device.name, question.device.id):
        print(
            f"modelmeter: note: the time was measured on {measurement.device.name}, "
            f"the estimate is for {question.device.name}",
            file=sys.stderr,
        )
    return evolve(question, labels=evolve(question.labels, measured_total_time_ms=measurement.run.time_s * 1e3))


def _plain(scenario: Scenario, described: Mapping[str, Any]) -> dict[str, Any]:
    from modelmeter.planning.report import plain

    resolved = scenario.resolve() if scenario.pages else scenario
    data = {**asdict(evolve(resolved, pages=())), **described, "num_pages": scenario.num_pages}
    found: dict[str, Any] = plain(data)
    return found


def _short(value: Any) -> str:
    return f"{value!s:.40}"
