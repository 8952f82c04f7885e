"""``modelmeter trace``: run a model without its weights and write down what it did."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from modelmeter.cli.arguments import Flag, Whole
from modelmeter.cli.backend import BackendChoice, BackendName
from modelmeter.cli.console import printing, progress, write_text
from modelmeter.cli.hugging_face_options import HuggingFaceOptions
from modelmeter.cli.report import check_page, html_of, subject_of
from modelmeter.cli.scenario_options import ScenarioOptions
from modelmeter.cli.subject import FamilySubject, Subject, find_subject
from modelmeter.cli.subject_trace import Prompt, check_subject, trace_subject
from modelmeter.errors import UnknownNameError, UsageError, require_extra
from modelmeter.schema.callgraph import STAGES
from modelmeter.schema.files import check_writable, write_files
from modelmeter.schema.scenario import Scenario

if TYPE_CHECKING:
    from modelmeter.schema.callgraph import CallGraph

CALL_GRAPH_FILE = "callgraph.json"
RUNTIME_FILE = "runtime-metadata.json"

_DEFAULT_SCENARIO = ScenarioOptions()
_DEFAULT_MODEL = HuggingFaceOptions()


def trace(
    subject: str,
    /,
    *pages: Path,
    scenario: ScenarioOptions = _DEFAULT_SCENARIO,
    model: HuggingFaceOptions = _DEFAULT_MODEL,
    input_ids: str | None = None,
    out: Path | None = None,
    html: Path | None = None,
    as_json: Annotated[Flag, Parameter(name="--json")] = False,
    force: Flag = False,
    quiet: Flag = False,
    events: Whole = 0,
    tensor_details: Flag = False,
    forward_operators: Flag = False,
    training: Flag = False,
    no_replay: Flag = False,
    only: Literal["heavy"] | None = None,
    stage: str | None = None,
    prefix: str | None = None,
    depth: Whole | None = None,
    backend: BackendName = "native",
    run_on: Literal["cpu", "cuda"] | None = None,
    repeats: Whole | None = None,
    drawings: Flag = False,
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
        A family (deepseek-ocr), a Hugging Face config.json or snapshot, an architecture by name (hf:qwen3_moe),
        or package.module:function, which returns a module and its inputs.
    pages
        Page images of one request.
    input_ids
        Prompt of BATCHxPOSITIONS token ids, for a Hugging Face configuration; BATCHx512 if not given.
    out
        Folder for callgraph.json and runtime-metadata.json.
    html
        An interactive page of the call graph, one HTML file that works offline.
    as_json
        Print the call graph document to stdout.
    force
        Overwrite files that exist.
    quiet
        No progress, and no tables when --out or --html is given.
    events
        Keep up to this many enter and exit events in the document.
    tensor_details
        Write each tensor's device and requires_grad into the signatures.
    forward_operators
        Write down every forward's operators by module, which "modelmeter analyze" of the document needs.
    training
        Run a backward after the forward, and count its work and its memory as well.
    no_replay
        Run every call of repeated modules, which takes longer; the document is the same.
    only
        "heavy": only modules that own parameters, multiply matrices, or are a norm or activation.
    stage
        Only this stage: vision, projector, prefill, decode or other.
    prefix
        Only this module and everything below it.
    depth
        Levels of the printed tree.
    backend
        Who traces: native without weights; hooks, torchlens and profiler with random ones, for real.
    run_on
        Device of a real run: cpu, or cuda, which the profiler takes where there is one.
    repeats
        Measured runs of the profiler, of which the median is kept; 1 if not given.
    drawings
        TorchLens' own drawings, rolled and unrolled, into --out.
    """
    _check_options(events, depth, stage)
    settings = {
        "tensor_details": tensor_details or None,
        "forward_operators": forward_operators or None,
        "training": training or None,
        "no_replay": no_replay or None,
        "run_on": run_on,
        "repeats": repeats,
        "drawings": drawings or None,
    }
    chosen = BackendChoice(backend, {key: value for key, value in settings.items() if value is not None})
    chosen.check(out)
    found = model.applied(find_subject(subject, own_code=model.trust_remote_code))
    scenario.check_device()
    given = scenario.values(pages)
    wanted = Scenario(**given)
    wanted.check_traceable()
    prompt = check_subject(found, given, wanted, input_ids)
    chosen.check_scenario(given)
    if out is not None:
        check_writable(out, (CALL_GRAPH_FILE, RUNTIME_FILE, *chosen.file_names), force=force)
    if html is not None:
        check_page(html, "--html", force=force)
    with progress(f"Tracing {subject}", quiet=quiet) as step:
        graph, files = _run(found, wanted, prompt, events, chosen, step)
    graph = _filtered(graph, found, only, stage, prefix)
    documents: dict[Path, str] = {}
    if out is not None:
        documents |= {out / CALL_GRAPH_FILE: graph.to_json(), out / RUNTIME_FILE: _runtime_document(graph)}
        documents |= {out / name: content for name, content in files.items()}
    if html is not None:
        documents[html] = html_of(subject_of(graph=graph))
    write_files(documents, force=force)
    with printing():
        if as_json:
            write_text(graph.to_json())
        elif not quiet or not documents:
            _show(graph, depth)
        if documents and not as_json and not quiet:
            print(f"Wrote {', '.join(str(path) for path in documents)}")


def _check_options(events: int, depth: int | None, stage: str | None) -> None:
    for option, number in (("--events", events), ("--depth", depth)):
        if number is not None and number < 0:
            raise UsageError(f"{option} is {number}", remedy="give a number of at least 0")
    if stage is not None and stage not in STAGES:
        raise UnknownNameError("stage", stage, STAGES)


def _run(
    found: Subject,
    wanted: Scenario,
    prompt: Prompt | None,
    events: int,
    chosen: BackendChoice,
    step: Callable[[str], None],
) -> tuple[CallGraph, dict[str, str]]:
    """The call graph, and what the back end wrote beside it."""
    try:
        import torch  # noqa: F401
    except ImportError:
        raise require_extra("trace", "torch") from None
    from modelmeter.routing import parse_routing
    from modelmeter.tracing import TraceOptions

    backend = chosen.make()
    options = TraceOptions(
        routing=parse_routing(wanted.routing),
        max_events=events,
        tensor_details=bool(chosen.settings.get("tensor_details")),
        forward_operators=bool(chosen.settings.get("forward_operators")),
        training=bool(chosen.settings.get("training")),
        replay=not chosen.settings.get("no_replay"),
        backend=backend,
    )
    graph = trace_subject(found, wanted, prompt, options, step)
    return graph, backend.files if backend is not None else {}


def _filtered(graph: CallGraph, found: Subject, only: str | None, stage: str | None, prefix: str | None) -> CallGraph:
    from modelmeter.callgraph import only_heavy, only_prefix, only_stage
    from modelmeter.callgraph.times import times_of_forwards

    if stage is not None:
        stage_of: Any = found.family.stage_of if isinstance(found, FamilySubject) else lambda _: None
        graph = only_stage(graph, stage, stage_of)
        graph.times = times_of_forwards(graph.times, [forward.name for forward in graph.forwards])
    if prefix is not None:
        graph = only_prefix(graph, prefix)
    return only_heavy(graph) if only == "heavy" else graph


def _runtime_document(graph: CallGraph) -> str:
    body = ",\n".join(json.dumps(event, sort_keys=True) for event in graph.runtime_events)
    return f'{{"runtime_events": [\n{body}\n],\n"schema_version": {graph.schema_version}}}\n'


def _show(graph: CallGraph, depth: int | None) -> None:
    from modelmeter.callgraph import outline
    from modelmeter.render.measured import measured_view
    from modelmeter.render.terminal import call_graph_view, console

    if graph.stages:
        console().print(call_graph_view(graph, outline(graph, depth)))
    else:
        console().print(measured_view(graph, outline(graph, depth)))
