"""``modelmeter.trace``: a module with inputs, or a family with a scenario, to a call graph."""

from __future__ import annotations

import inspect
from typing import Any

from attrs import asdict, evolve
from torch import nn

from modelmeter.errors import UsageError
from modelmeter.families.protocol import Family, ForwardCall, Forwards
from modelmeter.families.registry import get_family
from modelmeter.routing import parse_routing
from modelmeter.schema.callgraph import CallGraph
from modelmeter.schema.scenario import Scenario
from modelmeter.tracing.backends.weights import build_for
from modelmeter.tracing.runner import Progress, TraceOptions, trace_forwards
from modelmeter.tracing.training import kept_gradients
from modelmeter.tracing.wrappers import unwrapped


def trace(
    subject: nn.Module | Family | str, *args: Any, options: TraceOptions | None = None, **kwargs: Any
) -> CallGraph:
    """Record one run of a model without its weights, or with them by another back end (``options``).

    ``trace(module, *args, **kwargs)`` runs the module's forward on these inputs, and with
    ``training=True`` a backward after it. A forward that has an argument of this name gets it instead;
    ``TraceOptions(training=True)`` then asks for the backward. A compiled module, and one within
    ``DataParallel``, is traced as it is written. ``trace(family, scenario, config=None)``, where the
    family may be given by name, builds the model and its inputs. Raises TracingError naming the
    innermost module if the model raises, UsageError for what cannot be traced.
    """
    if isinstance(subject, nn.Module):
        subject = unwrapped(subject)
        if "training" in kwargs and "training" not in inspect.signature(subject.forward).parameters:
            options = evolve(options or TraceOptions(), training=bool(kwargs.pop("training")))
        with kept_gradients(args, kwargs):
            return trace_forwards(subject, _once(args, kwargs), options=options, model={"name": type(subject).__name__})
    if not isinstance(subject, str) and not hasattr(subject, "forwards"):
        raise UsageError(
            f"cannot trace {_described(subject)}",
            remedy="give a torch.nn.Module with its inputs; what a script does with a module is recorded by record()",
        )
    family = get_family(subject) if isinstance(subject, str) else subject
    scenario = args[0] if args else kwargs.pop("scenario", Scenario())
    if not isinstance(scenario, Scenario) or len(args) > 1 or set(kwargs) - {"config", "progress"}:
        raise UsageError("a family is traced with a scenario", remedy="call trace(family, Scenario(...), config=...)")
    return trace_family(family, scenario, options=options, **kwargs)


def trace_family(
    family: Family,
    scenario: Scenario,
    config: Any = None,
    *,
    module: nn.Module | None = None,
    forwards: Forwards | None = None,
    options: TraceOptions | None = None,
    progress: Progress = lambda _: None,
) -> CallGraph:
    """Build a family's model (unless it is given), make its inputs and record the run."""
    scenario.check_traceable()
    config = family.default_configuration() if config is None else config
    described = family.describe(config, scenario)
    options = options or TraceOptions(routing=parse_routing(scenario.routing))
    if module is None:
        progress("building")
        module = build_for(options.backend, lambda: family.build(config, scenario))
    return trace_forwards(
        module,
        forwards or family.forwards(module, config, scenario),
        options=options,
        core=family.core,
        stage_of=family.stage_of,
        probes=family.runtime_probes(module),
        model={"family": family.name, "config": config.to_dict()},
        scenario=scenario_document(scenario, described),
        progress=progress,
    )


def scenario_document(scenario: Scenario, described: dict[str, Any]) -> dict[str, Any]:
    """A scenario as plain data: its keys, with what the family made of them."""
    data = asdict(evolve(scenario.resolve(), pages=()))
    return {**data, **described, "num_pages": scenario.num_pages}


def _described(subject: Any) -> str:
    if isinstance(subject, type):
        return f"the class {subject.__name__}, which is no module yet"
    name = getattr(subject, "__name__", "")
    return f"{name}, a {type(subject).__name__}" if name else f"a {type(subject).__name__}"


def _once(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Forwards:
    yield ForwardCall("forward", args, kwargs)
