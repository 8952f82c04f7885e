"""Tracing what the user named: which options it takes, and who traces it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from modelmeter.cli.subject import DocumentSubject, FamilySubject, FunctionSubject, HuggingFaceSubject, Subject
from modelmeter.errors import ScenarioError, UsageError
from modelmeter.schema.scenario import FUNCTION_KEYS, HUGGING_FACE_KEYS, Scenario, parse_size

if TYPE_CHECKING:
    from modelmeter.schema.callgraph import CallGraph
    from modelmeter.tracing import TraceOptions

DEFAULT_POSITIONS = 512
"""Token ids of a prompt for a Hugging Face configuration, unless --input-ids says otherwise."""


class Prompt(NamedTuple):
    """Requests and token ids of each; not ``fixed``: as many as the model has room for and its media need."""

    batch: int
    positions: int
    fixed: bool


def check_subject(found: Subject, given: dict[str, Any], wanted: Scenario, input_ids: str | None) -> Prompt | None:
    """Refuse early what the model cannot have and what would do nothing; gives the prompt of token ids."""
    if isinstance(found, DocumentSubject):
        raise UsageError(f"{found.path} is a call graph, traced already", remedy="give a model, or analyze the graph")
    if isinstance(found, HuggingFaceSubject):
        _refuse_idle(given, HUGGING_FACE_KEYS, "a Hugging Face configuration")
        if input_ids is None:
            return Prompt(wanted.batch, DEFAULT_POSITIONS, fixed=False)
        batch, positions = parse_size(input_ids, "--input-ids", "1x512")
        if given.get("batch", batch) != batch:
            raise ScenarioError(
                f"--input-ids {input_ids} and --batch {wanted.batch} contradict each other",
                remedy="give one of them; BATCHxPOSITIONS says both",
            )
        return Prompt(batch, positions, fixed=True)
    if input_ids is not None:
        raise UsageError("--input-ids is for Hugging Face configurations", remedy="leave it out")
    if isinstance(found, FamilySubject):
        found.family.describe(found.config, wanted)
    else:
        _refuse_idle(given, FUNCTION_KEYS, "a function")
    return None


def _refuse_idle(given: dict[str, Any], understood: tuple[str, ...], what: str) -> None:
    idle = [key if key == "pages" else f"--{key.replace('_', '-')}" for key in given if key not in understood]
    if idle:
        raise UsageError(f"{what} takes no {' and no '.join(idle)}", remedy="leave out what would do nothing")


def trace_subject(
    found: Subject,
    wanted: Scenario,
    prompt: Prompt | None,
    options: TraceOptions,
    step: Callable[[str], None],
) -> CallGraph:
    """The call graph of a run; ``prompt`` is what ``check_subject`` gave."""
    if isinstance(found, FamilySubject):
        from modelmeter.tracing.api import trace_family

        return trace_family(found.family, wanted, found.config, options=options, progress=step)
    if isinstance(found, HuggingFaceSubject):
        from modelmeter.tracing.hugging_face import trace_hugging_face

        assert prompt is not None
        return trace_hugging_face(
            found.source,
            wanted,
            batch=prompt.batch,
            positions=prompt.positions,
            fixed_length=prompt.fixed,
            name=found.name,
            options=options,
            progress=step,
            overrides=found.overrides,
            processors=found.processors,
            own=found.own,
            experts=found.experts,
            folder=found.folder,
            trust_remote_code=found.trust_remote_code,
        )
    assert isinstance(found, FunctionSubject)
    from modelmeter.tracing.functions import trace_function

    return trace_function(found.build, found.name, wanted, options=options, progress=step)
