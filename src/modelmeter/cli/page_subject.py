"""A model as the subject of a page: its report, and its call graph beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve

from modelmeter.cli.hugging_face_options import HuggingFaceOptions
from modelmeter.cli.questions import asked
from modelmeter.cli.subject import FamilySubject
from modelmeter.cli.subject_trace import trace_subject
from modelmeter.errors import ScenarioError

if TYPE_CHECKING:
    from modelmeter.planning.what_if import Question
    from modelmeter.schema.callgraph import CallGraph

DRAWN_DECODE_STEPS = 2
"""Decode steps of the call graph beside a report from closed forms: they look alike."""

_DOCUMENTS = (".json", ".yaml", ".yml")


def is_model(text: str) -> bool:
    """Whether it names a model, and no report or call graph: JSON is told by what it holds, the rest by its name."""
    path = Path(text)
    if path.suffix.lower() not in _DOCUMENTS or path.is_dir():
        return True
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    from modelmeter.schema.codec import read_json

    data = read_json(path)
    return isinstance(data, dict) and "model_type" in data


def report_and_graph(
    text: str,
    given: Mapping[str, Any],
    profile: str | None,
    input_ids: str | None,
    model: HuggingFaceOptions,
    device_file: tuple[Path, ...],
    step: Callable[[str], None],
) -> dict[str, Any]:
    """``report`` of a model, and ``graph`` where a trace can run what the report is of."""
    graphs: list[CallGraph] = []
    question = asked(
        text, given, device_file, None, profile, {}, input_ids, step, traced=False, model=model, keep=graphs.append
    )
    found: dict[str, Any] = {"report": question.report()}
    from modelmeter.planning.what_if import Question

    if isinstance(question, Question):
        graphs += _drawn(question, step)
    return {**found, "graph": graphs[0]} if graphs else found


def _drawn(question: Question, step: Callable[[str], None]) -> list[CallGraph]:
    """A short trace of what has closed forms; none for several devices, and for types that eager code does not mix."""
    from modelmeter.routing import parse_routing
    from modelmeter.tracing import TraceOptions

    steps = min(question.scenario.decode_steps, DRAWN_DECODE_STEPS)
    wanted = evolve(question.scenario, decode_steps=steps)
    if wanted.devices > 1:
        return []
    try:
        wanted.check_traceable()
    except ScenarioError:
        return []
    options = TraceOptions(routing=parse_routing(wanted.routing))
    return [trace_subject(FamilySubject(question.family, question.config), wanted, None, options, step)]
