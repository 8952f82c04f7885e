"""A traced run for a report: the trace, its decode steps, and what the report keeps of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, fields

from modelmeter.cli.subject import DocumentSubject, FamilySubject, FunctionSubject, HuggingFaceSubject, Subject
from modelmeter.cli.subject_trace import Prompt, check_subject, trace_subject
from modelmeter.errors import DocumentError, ScenarioError, UsageError, require_extra
from modelmeter.schema.scenario import HUGGING_FACE_KEYS, PLACEMENT_KEYS, Page, Scenario

if TYPE_CHECKING:
    from modelmeter.planning.traced import TracedQuestion
    from modelmeter.planning.traced_run import TracedRun
    from modelmeter.schema.callgraph import CallGraph
    from modelmeter.schema.device import Device

Step = Callable[[str], None]


def run_of_subject(
    found: Subject,
    given: Mapping[str, Any],
    default_steps: int,
    input_ids: str | None,
    step: Step,
    keep: Callable[[CallGraph], None] = lambda graph: None,
) -> tuple[TracedRun, Scenario]:
    """Trace a model for a report; gives the run and its scenario, and the call graph to ``keep``.

    Without decode steps among the given keys a model that generates gets ``default_steps``, any other none.
    """
    for name in ("devices", "tensor_parallel", "expert_parallel"):
        if given.get(name, 1) > 1:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"a trace runs on one device, and {option} is {given[name]}",
                remedy="leave it out, or give a model that has closed forms without --trace",
            )
    if isinstance(found, DocumentSubject):
        return _run_of_document(found.path, given, keep)
    if "decode_steps" in given or isinstance(found, FunctionSubject):
        return _traced(found, given, input_ids, step, keep)
    try:
        return _traced(found, {**given, "decode_steps": default_steps}, input_ids, step, keep)
    except ScenarioError:
        if isinstance(found, FamilySubject):
            raise
        # No cache, or no room for so many tokens: a run is then one forward.
        return _traced(found, {**given, "decode_steps": 0}, input_ids, step, keep)


def retraced(question: TracedQuestion, changes: Mapping[str, Any], device: Device, step: Step) -> TracedQuestion:
    """The question with a trace of the changed scenario, from the configuration that the report holds.

    Raises UsageError for a run whose model the report does not hold.
    """
    run, before = question.run, question.scenario
    found: Subject
    if run.kind == "family":
        from modelmeter.families.registry import get_family
        from modelmeter.planning.what_if import changed_values

        family = get_family(run.name)
        found = FamilySubject(family, family.restore_configuration(run.configuration))
        given, prompt = changed_values(before, changes), None
    elif run.kind == "hugging_face":
        found = _hugging_face_again(run)
        prompt = None
        if run.prompt is not None:
            prompt = f"{changes.get('batch', run.prompt[0])}x{changes.get('seq_len', run.prompt[1])}"
        kept = {name: getattr(before, name) for name in HUGGING_FACE_KEYS}
        given = {**kept, **{name: value for name, value in changes.items() if name != "seq_len"}}
    else:
        raise UsageError(
            f"the report does not hold the model of {run.name}, which was a {run.kind}",
            remedy="analyze it anew where the model is",
        )
    traced, scenario = _traced(found, given, prompt, step)
    return evolve(question, run=traced, scenario=evolve(scenario, device=device.id), device=device)


def _hugging_face_again(run: TracedRun) -> HuggingFaceSubject:
    """The configuration of a run with the inputs that it had."""
    from modelmeter.tracing.hugging_face.own_inputs import own_inputs_of

    own = run.described.get("own_inputs")
    return HuggingFaceSubject(
        run.name,
        run.configuration,
        processors=run.described.get("processors", {}),
        own=own_inputs_of(own, f"the report of {run.name}") if own else None,
        experts=run.described.get("experts"),
    )


def _traced(
    found: Subject,
    given: Mapping[str, Any],
    input_ids: str | None,
    step: Step,
    keep: Callable[[CallGraph], None] = lambda graph: None,
) -> tuple[TracedRun, Scenario]:
    try:
        import torch  # noqa: F401
    except ImportError:
        raise require_extra("trace", "torch") from None
    from modelmeter.callgraph.cost_tree import forward_costs
    from modelmeter.callgraph.decode_steps import STEPS_THAT_SHOW, extended, turning_points
    from modelmeter.callgraph.folding import fold
    from modelmeter.planning.capacity import REGULAR_ROUTING
    from modelmeter.routing import parse_routing
    from modelmeter.tracing import TraceOptions

    pages = {} if isinstance(found, FamilySubject) else {"pages": ()}
    wanted = Scenario(**{**pages, **given})
    wanted.check_traceable()
    prompt = check_subject(
        found, {key: value for key, value in given.items() if key != "pages" or value}, wanted, input_ids
    )
    options = TraceOptions(routing=parse_routing(wanted.routing), forward_operators=True)
    steps = wanted.decode_steps

    def steps_to_trace(configuration: Mapping[str, Any], first: int) -> int:
        if wanted.routing not in REGULAR_ROUTING:
            return steps  # three equal draws say nothing of the next
        bends = turning_points(configuration, (first + 1, first + steps)) if prompt else []
        return min(steps, (bends[-1] - first if bends else 0) + STEPS_THAT_SHOW)

    few = steps_to_trace(getattr(found, "source", {}), prompt.positions if prompt else 0)
    while True:
        graph = trace_subject(found, evolve(wanted, decode_steps=few), prompt, options, step)
        # The library's defaults may hold windows too, and images make a prompt longer.
        more = steps_to_trace(graph.model.get("config", {}), int(graph.scenario.get("seq_len", 0)))
        if more > few:
            few = more
            continue
        folded = fold(graph)
        forwards = extended(forward_costs(folded), steps)
        if forwards is not None:
            break
        few = steps
    keep(graph)
    batch = prompt.batch if prompt else wanted.batch
    scenario = evolve(wanted, batch=batch)
    name = found.family.name if isinstance(found, FamilySubject) else str(graph.model.get("name", folded.root))
    return _run(graph, folded, forwards, scenario, _kind(found), name, prompt, few), scenario


def _run_of_document(
    path: Path, given: Mapping[str, Any], keep: Callable[[CallGraph], None]
) -> tuple[TracedRun, Scenario]:
    from modelmeter.callgraph.cost_tree import forward_costs, is_decode
    from modelmeter.callgraph.folding import fold
    from modelmeter.planning.traced import LEVERS
    from modelmeter.schema.callgraph import CallGraph

    others = [name for name in given if name not in LEVERS]
    if others:
        raise UsageError(
            f"{path} is traced already, with its own {', '.join(others)}", remedy="leave them out, or give the model"
        )
    graph = CallGraph.load(path)
    keep(graph)
    folded = fold(graph)
    forwards = forward_costs(folded)
    steps = sum(is_decode(forward.name) for forward in forwards)
    scenario = _scenario_of(graph.scenario, path, {**given, "decode_steps": steps})
    name = str(graph.model.get("name", folded.root))
    return _run(graph, folded, forwards, scenario, "document", name, None, steps), scenario


def _scenario_of(written: Mapping[str, Any], path: Path, given: Mapping[str, Any]) -> Scenario:
    """The scenario that a document was traced with; what it does not say is as it is by default."""
    known = {attribute.name for attribute in fields(Scenario)}
    values = {
        name: value for name, value in written.items() if name in known and name not in ("seq_len", "text_tokens")
    }
    try:
        pages = tuple(
            Page(page.get("width"), page.get("height"), tuple(page["grid"]) if page.get("grid") else None)
            for page in values.pop("pages", ())
        )
        return Scenario(**{**values, "pages": pages, **given})
    except (AttributeError, TypeError, ScenarioError) as error:
        raise DocumentError(f"{path}: its scenario is none: {error}", remedy="trace the model again") from None


def _run(
    graph: CallGraph,
    folded: Any,
    forwards: Any,
    scenario: Scenario,
    kind: str,
    name: str,
    prompt: Prompt | None,
    traced_steps: int,
) -> TracedRun:
    from modelmeter.callgraph.cost_tree import cost_tree
    from modelmeter.planning.traced_run import TracedRun

    notes = [f"{note.operator} in {note.module}: {note.rule}" for note in graph.assumptions[:_MOST_NOTES]]
    if len(graph.assumptions) > _MOST_NOTES:
        notes.append(f"{len(graph.assumptions) - _MOST_NOTES} more values were supplied")
    if scenario.decode_steps > traced_steps:
        notes.append(
            f"decode steps {traced_steps + 1} to {scenario.decode_steps} go on as the {traced_steps} traced ones do, "
            "whose numbers all lie on straight lines"
        )
    for operator, calls in sorted(graph.unknown_operators.items()):
        notes.append(f"FLOPs of {operator} are not known ({calls} calls): totals are lower bounds")
    configuration = graph.model.get("config", {})
    return TracedRun(
        tree=evolve(cost_tree(folded, forwards), family=name),
        kind=kind,
        name=name,
        configuration=configuration,
        described={name: value for name, value in graph.scenario.items() if name not in PLACEMENT_KEYS},
        class_names={
            graph.module_types[name]: qualified
            for name, qualified in graph.module_classes.items()
            if name in graph.call_counts
        },
        prompt=(scenario.batch, graph.scenario["seq_len"]) if prompt and "seq_len" in graph.scenario else None,
        notes=tuple(dict.fromkeys(notes)),
    )


_MOST_NOTES = 6
"""So many supplied values are named in a report; the call graph has them all."""


def _kind(found: Subject) -> str:
    if isinstance(found, FamilySubject):
        return "family"
    return "hugging_face" if isinstance(found, HuggingFaceSubject) else "function"
