"""What changed between two call graphs: structure, counts, shapes, cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from modelmeter.patterns import pattern, static_order
from modelmeter.schema.callgraph import RUN_STAGES, CallGraph, Cost, Signature

COST_KEYS = ("matrix_flops", "vector_flops", "bytes_read", "bytes_written", "launches", "output_bytes", "peak_bytes")


@frozen
class Change:
    """One thing that differs, for all modules in which it differs alike. ``modules`` is a pattern."""

    kind: str
    modules: str
    before: Any
    after: Any
    count: int = 1


def difference(a: CallGraph, b: CallGraph) -> list[Change]:
    """All changes from one graph to another: totals and stages first, then structure, counts, shapes, cost.

    Modules that changed alike are one line. What was run (scenario, assumptions) is not compared, what came of it is.
    """
    changes: list[Change] = []
    changes += _totals(a, b)
    changes += _structure(a, b)
    order = static_order(
        {**a.module_children, **b.module_children}, sorted({*a.call_counts, *b.call_counts, *a.module_types})
    )
    both = sorted({*a.call_counts} & {*b.call_counts}, key=lambda name: order[name])
    readers: list[tuple[str, Callable[[CallGraph, str], Any]]] = [
        ("class", lambda g, n: g.module_types.get(n, "")),
        ("configuration", lambda g, n: g.constructor_params.get(n, {})),
        ("parameters", lambda g, n: g.parameters[n].count if n in g.parameters else 0),
        ("calls", lambda g, n: g.call_counts[n]),
        ("operations", lambda g, n: g.op_call_counts.get(n, 0)),
        ("inputs", lambda g, n: _shapes(g.input_metadata.get(n, []))),
        ("outputs", lambda g, n: _shapes(g.output_metadata.get(n, []))),
        ("operators", lambda g, n: {name: cost.calls for name, cost in g.operators.get(n, {}).items()}),
        ("kv_cache", lambda g, n: g.kv_cache.get(n, [])),
        *((f"own {key}", _cost_reader(key, own=True)) for key in COST_KEYS if key != "peak_bytes"),
        *((f"total {key}", _cost_reader(key, own=False)) for key in COST_KEYS),
    ]
    for kind, read in readers:
        pairs = {name: (read(a, name), read(b, name)) for name in both}
        changes += _per_module(kind, both, pairs.__getitem__)
    for kind, edges_a, edges_b in (("call edge", a.edges, b.edges), ("data edge", a.data_edges, b.data_edges)):
        changes += _edges(kind, edges_a, edges_b, order)
    return changes


def _totals(a: CallGraph, b: CallGraph) -> list[Change]:
    found = []
    parts: list[tuple[str, Cost, Cost]] = [("total", a.total, b.total)]
    for stage in [stage for stage in RUN_STAGES if stage in a.stages or stage in b.stages]:
        parts.append((stage, a.stages.get(stage, Cost()), b.stages.get(stage, Cost())))
    for name, before, after in parts:
        for key in COST_KEYS:
            x, y = getattr(before, key) or 0, getattr(after, key) or 0
            if x != y:
                found.append(Change(f"{name} {key}" if name == "total" else f"stage {name} {key}", "", x, y))
    forwards = [f.name for f in a.forwards], [f.name for f in b.forwards]
    if forwards[0] != forwards[1]:
        found.append(Change("forwards", "", *forwards))
    return found


def _structure(a: CallGraph, b: CallGraph) -> list[Change]:
    """Modules that only one graph has, and modules of both that ran in one only."""
    found: list[Change] = []
    for first, graph, other in ((True, a, b), (False, b, a)):
        names, others = {*graph.module_types, *graph.call_counts}, {*other.module_types, *other.call_counts}
        order = static_order(graph.module_children, sorted(names))
        by_class: dict[str, list[str]] = {}
        for name in sorted(names - others, key=lambda n: order[n]):
            by_class.setdefault(graph.module_types.get(name, ""), []).append(name)
        for class_name, missing in by_class.items():
            kind = "only in the first" if first else "only in the second"
            pair = (class_name, None) if first else (None, class_name)
            found.append(Change(kind, pattern(missing), pair[0], pair[1], len(missing)))
        ran = sorted({n for n in names & others if n in graph.call_counts and n not in other.call_counts})
        ran.sort(key=lambda n: order[n])
        counts = {name: (graph.call_counts[name], 0) if first else (0, graph.call_counts[name]) for name in ran}
        found += _per_module("calls", ran, counts.__getitem__)
    return found


def _per_module(kind: str, names: list[str], read: Callable[[str], tuple[Any, Any]]) -> list[Change]:
    """Changes of one kind, modules that changed alike together."""
    alike: dict[str, tuple[Any, Any, list[str]]] = {}
    for name in names:
        before, after = read(name)
        if before != after:
            key = json.dumps([before, after], sort_keys=True, default=str)
            alike.setdefault(key, (before, after, []))[2].append(name)
    return [Change(kind, pattern(found), x, y, len(found)) for x, y, found in alike.values()]


def _edges(kind: str, a: Mapping[str, int], b: Mapping[str, int], order: Mapping[str, int]) -> list[Change]:
    alike: dict[tuple[int, int, str], list[str]] = {}
    last = len(order)
    for edge in sorted({*a, *b}, key=lambda e: [order.get(n, last) for n in e.split("->")]):
        x, y = a.get(edge, 0), b.get(edge, 0)
        if x != y:
            caller, _, callee = edge.partition("->")
            alike.setdefault((x, y, caller), []).append(callee)
    return [
        Change(kind, f"{caller}->{pattern(callees)}", x, y, len(callees)) for (x, y, caller), callees in alike.items()
    ]


def _shapes(signatures: list[Signature]) -> list[str]:
    """Signatures with their calls as short text: what is compared and shown."""
    shown = []
    for signature in signatures:
        tensors = [f"{t.argument} {'×'.join(map(str, t.shape)) or 'scalar'} {t.dtype}" for t in signature.tensors]
        others = [f"{other.argument} {other.type}" for other in signature.non_tensor]
        shown.append(f"({', '.join([*tensors, *others])}) {signature.calls} calls")
    return sorted(shown)


def _cost_reader(key: str, *, own: bool) -> Callable[[CallGraph, str], int]:
    def read(graph: CallGraph, name: str) -> int:
        cost = graph.costs.get(name)
        return 0 if cost is None else getattr(cost.own if own else cost.total, key) or 0

    return read
