"""From a call log to the call graph document; what a back end cannot know stays empty."""

from __future__ import annotations

from typing import Any

import torch

import modelmeter
from modelmeter.schema.callgraph import CallGraph
from modelmeter.tracing.backends.base import Job
from modelmeter.tracing.backends.calls import CallLog
from modelmeter.tracing.document import sum_forwards
from modelmeter.tracing.modules import constructor_params, module_children, parameter_infos


def call_graph(
    job: Job,
    log: CallLog,
    *,
    backend: str,
    runtime_events: list[dict[str, Any]],
    tool: dict[str, str] | None = None,
) -> CallGraph:
    """The document of a call log."""
    ids = job.ids
    parameters = parameter_infos(ids)
    configured = {name: constructor_params(module) for name, module in ids.modules.items()}
    graph = CallGraph(
        tool={
            "name": "modelmeter",
            "version": modelmeter.__version__,
            "backend": backend,
            "torch": torch.__version__,
            **(tool or {}),
        },
        model={
            **job.model,
            "class": ids.root,
            "parameter_count": sum(info.count for info in parameters.values()),
            "parameter_bytes": sum(info.bytes for info in parameters.values()),
        },
        # The gate routes by its weights here, whatever policy the scenario names.
        scenario={key: value for key, value in job.scenario.items() if key != "routing"},
        module_children=module_children(ids),
        module_types={name: type(module).__name__ for name, module in ids.modules.items()},
        module_classes={
            name: f"{type(module).__module__}.{type(module).__qualname__}" for name, module in ids.modules.items()
        },
        module_stages=log.module_stages,
        parameters=parameters,
        constructor_params={name: shaping for name, (shaping, _) in configured.items() if shaping},
        bookkeeping_params={name: place for name, (_, place) in configured.items() if place},
        events=log.events,
        runtime_events=runtime_events,
        kv_cache=log.kv_cache,
    )
    graph.forwards = log.forwards()
    sum_forwards(graph, graph.forwards)
    return graph
