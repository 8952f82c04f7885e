"""Views of a call graph with fewer modules: the heavy ones, one stage, or what lies under a prefix."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from attrs import evolve

from modelmeter.errors import UnknownNameError, UsageError
from modelmeter.schema.callgraph import STAGES, CallGraph, Forward

HEAVY_CLASSES = re.compile(
    r"Norm|BatchNorm|GELU|SiLU|ReLU|Sigmoid|Tanh|Softmax|Swish|Mish|GLU|Activation|Hardtanh|Softplus|PReLU",
    re.IGNORECASE,
)
"""Class names of normalisations and activations, which start kernels without owning a weight or a product."""


def is_heavy(graph: CallGraph, name: str) -> bool:
    """Whether a module matters on a GPU: it owns parameters, multiplies matrices, or is a norm or activation."""
    parameters = graph.parameters.get(name)
    if parameters is not None and (parameters.count or parameters.shared):
        return True
    cost = graph.costs.get(name)
    return bool(cost and cost.own.matrix_flops) or bool(HEAVY_CLASSES.search(graph.module_types.get(name, "")))


def only_heavy(graph: CallGraph) -> CallGraph:
    """The graph of heavy modules and the root; calls through the others go to the nearest heavy caller."""
    return keep_modules(graph, {name for name in graph.call_counts if name == graph.root or is_heavy(graph, name)})


def only_stage(graph: CallGraph, stage: str, stage_of: Callable[[str], str | None]) -> CallGraph:
    """The graph of one stage: its modules and the root, over the forwards that run it."""
    if stage not in STAGES:
        raise UnknownNameError("stage", stage, STAGES)
    decode = [forward for forward in graph.forwards if forward.name.startswith("decode")]
    forwards = decode if stage == "decode" else [forward for forward in graph.forwards if forward not in decode]
    if stage == "decode":
        names = {name for forward in forwards for name in forward.call_counts}
    else:
        names = {name for name in graph.call_counts if (stage_of(name) or "prefill") == stage}
    if not names:
        raise UsageError(f"no module ran in stage {stage!r}", remedy="choose another --stage, or add --decode-steps")
    return keep_modules(_of_forwards(graph, forwards), names | {graph.root})


def only_prefix(graph: CallGraph, prefix: str) -> CallGraph:
    """The graph of a module and everything below it by name, and the root."""
    names = {name for name in graph.call_counts if name == prefix or name.startswith(f"{prefix}.")}
    if not names:
        raise UnknownNameError("module", prefix, graph.call_counts)
    return keep_modules(graph, names | {graph.root})


def keep_modules(graph: CallGraph, names: Collection[str]) -> CallGraph:
    """The graph without the other modules. Edges through a dropped module join its caller and callee.

    A dropped module that several modules call is kept, since its callees' calls could not be told
    apart by caller. Costs of dropped modules stay in the totals of those that called them.
    """
    kept = set(names)
    while True:
        callers = _callers(graph)
        torn = {
            name
            for name in graph.call_counts
            if name not in kept and len(callers.get(name, ())) > 1 and _reaches(graph, name, kept)
        }
        if not torn:
            break
        kept |= torn
    forwards = [_filtered(forward, kept) for forward in graph.forwards]
    return evolve(
        graph,
        call_counts={name: count for name, count in graph.call_counts.items() if name in kept},
        edges=_joined(graph.edges, kept),
        op_call_counts={name: count for name, count in graph.op_call_counts.items() if name in kept},
        input_metadata={name: value for name, value in graph.input_metadata.items() if name in kept},
        output_metadata={name: value for name, value in graph.output_metadata.items() if name in kept},
        costs={name: value for name, value in graph.costs.items() if name in kept},
        operators={name: value for name, value in graph.operators.items() if name in kept},
        data_edges={edge: count for edge, count in graph.data_edges.items() if set(edge.split("->")) <= kept},
        events=[event for event in graph.events if event.name in kept],
        forwards=forwards,
    )


def _of_forwards(graph: CallGraph, forwards: list[Forward]) -> CallGraph:
    if len(forwards) == len(graph.forwards):
        return graph
    names = {name for forward in forwards for name in forward.call_counts}
    edges: dict[str, int] = {}
    counts: dict[str, int] = {}
    for forward in forwards:
        for edge, count in forward.edges.items():
            edges[edge] = edges.get(edge, 0) + count
        for name, count in forward.call_counts.items():
            counts[name] = counts.get(name, 0) + count
    return evolve(keep_modules(graph, names), forwards=forwards, call_counts=counts, edges=edges)


def _filtered(forward: Forward, kept: set[str]) -> Forward:
    return evolve(
        forward,
        call_counts={name: count for name, count in forward.call_counts.items() if name in kept},
        edges=_joined(forward.edges, kept),
        op_call_counts={name: count for name, count in forward.op_call_counts.items() if name in kept},
        input_metadata={name: value for name, value in forward.input_metadata.items() if name in kept},
        output_metadata={name: value for name, value in forward.output_metadata.items() if name in kept},
        costs={name: value for name, value in forward.costs.items() if name in kept},
    )


def _callers(graph: CallGraph) -> dict[str, set[str]]:
    callers: dict[str, set[str]] = {}
    for edge in graph.edges:
        caller, _, callee = edge.partition("->")
        callers.setdefault(callee, set()).add(caller)
    return callers


def _reaches(graph: CallGraph, name: str, kept: set[str]) -> bool:
    return any(edge.startswith(f"{name}->") and edge.partition("->")[2] in kept for edge in graph.edges)


def _joined(edges: dict[str, int], kept: set[str]) -> dict[str, int]:
    """Edges between kept modules; a chain of dropped ones between two becomes one edge."""
    caller_of = {edge.partition("->")[2]: edge.partition("->")[0] for edge in edges}
    joined: dict[str, int] = {}
    for edge, count in edges.items():
        caller, _, callee = edge.partition("->")
        if callee not in kept:
            continue
        while caller not in kept and caller in caller_of:
            caller = caller_of[caller]
        if caller in kept:
            key = f"{caller}->{callee}"
            joined[key] = joined.get(key, 0) + count
    return joined
