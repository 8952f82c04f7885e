"""``modelmeter trace``: run a model without its weights and write down what it did."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from modelmeter.cli.console import progress
from modelmeter.cli.scenario_options import ScenarioOptions
from modelmeter.cli.subject import FamilySubject, FunctionSubject, HuggingFaceSubject, Subject, find_subject
from modelmeter.errors import MissingDependencyError, UsageError, require_extra
from modelmeter.schema.scenario import Scenario, parse_size

if TYPE_CHECKING:
    from modelmeter.schema.callgraph import CallGraph

CALL_GRAPH_FILE = "callgraph.json"
RUNTIME_FILE = "runtime-metadata.json"

_DEFAULT_SCENARIO = ScenarioOptions()


def trace(
    subject: str,
    /,
    *pages: Path,
    scenario: ScenarioOptions = _DEFAULT_SCENARIO,
    input_ids: str | None = None,
    out: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(negative=())] = False,
    events: int = 0,
    only: Literal["heavy"] | None = None,
    stage: str | None = None,
    prefix: str | None = None,
    depth: int | None = None,
) -> None:
    """Trace one run of a full-size model, without its weights and without a GPU.

    Examples:

        modelmeter trace deepseek-ocr page.png

        modelmeter trace deepseek-ocr --grid 3x2 --text-tokens 10 --decode-steps 2 --out runs/a

        modelmeter trace path/to/config.json --input-ids 1x512

        modelmeter trace my_package.my_module:build

    Parameters
    ----------
    subject
        A family (deepseek-ocr), a Hugging Face config.json, or package.module:function; the function
        returns a module and its inputs.
    pages
        Page images of one request.
    input_ids
        Prompt of BATCHxPOSITIONS token ids, for a Hugging Face configuration.
    out
        Folder for callgraph.json and runtime-metadata.json.
    as_json
        Print the call graph document to stdout.
    force
        Overwrite files that exist.
    quiet
        No progress, and no tables when --out is given.
    events
        Keep up to this many enter and exit events in the document.
    only
        "heavy": only modules that own parameters, multiply matrices, or are a norm or activation.
    stage
        Only this stage: vision, projector, prefill, decode or other.
    prefix
        Only this module and everything below it.
    depth
        Levels of the printed tree.
    """
    if events < 0:
        raise UsageError(f"--events is {events}", remedy="give a number of at least 0")
    found = find_subject(subject)
    wanted = scenario.scenario(pages)
    if isinstance(found, FamilySubject):
        found.family.describe(found.config, wanted)  # refuses early what the model cannot have
        if input_ids is not None:
            raise UsageError("--input-ids is for Hugging Face configurations", remedy="use the scenario's options")
    if out is not None:
        from modelmeter.schema.files import check_writable

        check_writable(out, (CALL_GRAPH_FILE, RUNTIME_FILE), force=force)
    with progress(f"Tracing {subject}", quiet=quiet) as step:
        graph = _run(found, wanted, input_ids, events, step)
    graph = _filtered(graph, found, only, stage, prefix)
    if out is not None:
        graph.save(out / CALL_GRAPH_FILE, force=force)
        _write_runtime(graph, out / RUNTIME_FILE, force=force)
    if as_json:
        sys.stdout.write(graph.to_json())
    elif not quiet or out is None:
        _show(graph, depth)
    if out is not None and not as_json and not quiet:
        print(f"Wrote {out / CALL_GRAPH_FILE} and {out / RUNTIME_FILE}")


def _run(
    found: Subject, wanted: Scenario, input_ids: str | None, events: int, step: Callable[[str], None]
) -> CallGraph:
    try:
        import torch
    except ImportError:
        raise require_extra("trace", "torch") from None
    if not torch.__version__:
        raise MissingDependencyError("torch has no version", remedy="install torch again")
    from modelmeter.routing import parse_routing
    from modelmeter.tracing import TraceOptions

    options = TraceOptions(routing=parse_routing(wanted.routing), max_events=events)
    if isinstance(found, FamilySubject):
        from modelmeter.tracing.api import trace_family

        return trace_family(found.family, wanted, found.config, options=options, progress=step)
    if isinstance(found, HuggingFaceSubject):
        from modelmeter.tracing.hugging_face import trace_hugging_face

        batch, positions = parse_size(input_ids or f"{wanted.batch}x512", "--input-ids")
        return trace_hugging_face(
            dict(found.source),
            wanted,
            batch=batch,
            positions=positions,
            name=found.name,
            options=options,
            progress=step,
        )
    assert isinstance(found, FunctionSubject)
    from modelmeter.tracing.functions import trace_function

    return trace_function(found.build, found.name, options=options, progress=step)


def _filtered(graph: CallGraph, found: Subject, only: str | None, stage: str | None, prefix: str | None) -> CallGraph:
    from modelmeter.callgraph import only_heavy, only_prefix, only_stage

    if stage is not None:
        stage_of: Any = found.family.stage_of if isinstance(found, FamilySubject) else lambda _: None
        graph = only_stage(graph, stage, stage_of)
    if prefix is not None:
        graph = only_prefix(graph, prefix)
    return only_heavy(graph) if only == "heavy" else graph


def _write_runtime(graph: CallGraph, path: Path, *, force: bool) -> None:
    from modelmeter.schema.files import write_file

    lines = [json.dumps(event, sort_keys=True) for event in graph.runtime_events]
    body = ",\n".join(lines)
    write_file(path, f'{{"runtime_events": [\n{body}\n],\n"schema_version": {graph.schema_version}}}\n', force=force)


def _show(graph: CallGraph, depth: int | None) -> None:
    from modelmeter.callgraph import outline
    from modelmeter.render.terminal import call_graph_view, console

    console().print(call_graph_view(graph, outline(graph, depth)))
