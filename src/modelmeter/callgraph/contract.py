"""A call graph without some of its modules or forwards. What is kept keeps its counts and costs.

What cannot be told of the rest is left out rather than guessed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from attrs import evolve

from modelmeter.schema.callgraph import CallGraph, Event, Forward, ModuleCost, Signature

V = TypeVar("V")


def keep_modules(graph: CallGraph, names: Collection[str]) -> CallGraph:
    """The graph without the other modules. Edges through a dropped module join its caller and callee.

    A dropped module that several modules call is kept where it leads to a kept one, since its callees'
    calls could not be told apart by caller. Costs of dropped modules stay in the totals of those that
    called them.
    """
    kept = set(names)
    while torn := _torn(graph.edges, kept):
        kept |= torn
    return evolve(
        graph,
        call_counts=_of(graph.call_counts, kept),
        edges=_joined(graph.edges, kept),
        op_call_counts=_of(graph.op_call_counts, kept),
        input_metadata=_of(graph.input_metadata, kept),
        output_metadata=_of(graph.output_metadata, kept),
        costs=_of(graph.costs, kept),
        operators=_of(graph.operators, kept),
        kv_cache=_of(graph.kv_cache, kept),
        times=_of(graph.times, kept),
        data_edges=_joined_data(graph.data_edges, graph.edges, kept),
        events=_joined_events(graph.events, kept),
        forwards=[_forward(forward, kept) for forward in graph.forwards],
    )


def of_forwards(graph: CallGraph, forwards: Sequence[Forward]) -> CallGraph:
    """The graph of some of its forwards: counts, signatures and costs are summed over these.

    Operators and data edges are kept only for modules that ran in no other forward, and cache
    sizes after these forwards: the document does not hold the others' by forward.
    """
    if len(forwards) == len(graph.forwards):
        return graph
    call_counts = _sums(forward.call_counts for forward in forwards)
    whole = {name for name, count in call_counts.items() if count == graph.call_counts.get(name)}
    names = {forward.name for forward in forwards}
    chosen = [index for index, forward in enumerate(graph.forwards) if forward.name in names]
    return evolve(
        graph,
        call_counts=call_counts,
        edges=_sums(forward.edges for forward in forwards),
        op_call_counts=_sums(forward.op_call_counts for forward in forwards),
        input_metadata=_signatures([forward.input_metadata for forward in forwards]),
        output_metadata=_signatures([forward.output_metadata for forward in forwards]),
        costs=_costs(forwards),
        operators=_of(graph.operators, whole),
        data_edges={edge: count for edge, count in graph.data_edges.items() if set(_ends(edge)) <= whole},
        events=_events_of(graph.events, chosen),
        memory_timeline=None,
        kv_cache={name: [sizes[i] for i in chosen if i < len(sizes)] for name, sizes in graph.kv_cache.items()},
        forwards=list(forwards),
    )


def _ends(edge: str) -> tuple[str, str]:
    caller, _, callee = edge.partition("->")
    return caller, callee


def _of(values: Mapping[str, V], names: Collection[str]) -> dict[str, V]:
    return {name: value for name, value in values.items() if name in names}


def _forward(forward: Forward, kept: set[str]) -> Forward:
    return evolve(
        forward,
        call_counts=_of(forward.call_counts, kept),
        edges=_joined(forward.edges, kept),
        op_call_counts=_of(forward.op_call_counts, kept),
        input_metadata=_of(forward.input_metadata, kept),
        output_metadata=_of(forward.output_metadata, kept),
        costs=_of(forward.costs, kept),
        operators=_of(forward.operators, kept),
    )


# -- edges ---------------------------------------------------------------------------------------------


def _torn(edges: Iterable[str], kept: set[str]) -> set[str]:
    """Dropped modules with several callers from which calls lead to a kept one through dropped ones."""
    callers = defaultdict(set)
    for caller, callee in map(_ends, edges):
        callers[callee].add(caller)
    reaching: set[str] = set()
    waiting = list(kept)
    while waiting:
        found = {caller for caller in callers[waiting.pop()] if caller not in kept and caller not in reaching}
        reaching |= found
        waiting += found
    return {name for name in reaching if len(callers[name]) > 1}


def _joined(edges: Mapping[str, int], kept: set[str]) -> dict[str, int]:
    """Edges between kept modules; a chain of dropped ones between two becomes one edge."""
    caller_of = {callee: caller for caller, callee in map(_ends, edges)}
    joined: dict[str, int] = {}
    for edge, count in edges.items():
        caller, callee = _ends(edge)
        if callee not in kept:
            continue
        while caller not in kept and caller in caller_of:
            caller = caller_of[caller]
        if caller in kept:
            key = f"{caller}->{callee}"
            joined[key] = joined.get(key, 0) + count
    return joined


def _joined_data(data_edges: Mapping[str, int], edges: Iterable[str], kept: set[str]) -> dict[str, int]:
    """Data edges between kept modules, also through dropped ones that call no kept one.

    Through a dropped module goes as many tensors as the fewer of what goes in and what comes out.
    """
    callees = defaultdict(set)
    for caller, callee in map(_ends, edges):
        callees[caller].add(callee)
    into: dict[str, dict[str, int]] = defaultdict(dict)
    out: dict[str, dict[str, int]] = defaultdict(dict)
    for edge, count in data_edges.items():
        producer, consumer = _ends(edge)
        out[producer][consumer] = into[consumer][producer] = count
    for name in sorted((into.keys() | out.keys()) - kept):
        sources, targets = into.pop(name, {}), out.pop(name, {})
        for producer in sources:
            out[producer].pop(name, None)
        for consumer in targets:
            into[consumer].pop(name, None)
        if _leads_to(name, callees, kept):
            continue
        for producer, given in sources.items():
            for consumer, taken in targets.items():
                if name not in (producer, consumer):
                    count = max(out[producer].get(consumer, 0), min(given, taken))
                    out[producer][consumer] = into[consumer][producer] = count
    return {f"{producer}->{consumer}": count for producer in out for consumer, count in out[producer].items()}


def _leads_to(name: str, callees: Mapping[str, set[str]], kept: set[str]) -> bool:
    seen, waiting = {name}, [name]
    while waiting:
        found = callees.get(waiting.pop(), set()) - seen
        if found & kept:
            return True
        seen |= found
        waiting += found
    return False


def _joined_events(events: Iterable[Event], kept: set[str]) -> list[Event]:
    """Events of kept modules; the parent is the nearest kept module that was running."""
    found: list[Event] = []
    running: list[str] = []
    for event in events:
        if event.event == "exit" and running:
            running.pop()
        if event.name in kept:
            parent = next((name for name in reversed(running) if name in kept), None)
            found.append(evolve(event, parent=parent))
        if event.event == "enter":
            running.append(event.name)
    return found


def _events_of(events: Iterable[Event], chosen: Collection[int]) -> list[Event]:
    """Events of some forwards: each begins where no module is running."""
    found: list[Event] = []
    depth, forward = 0, -1
    for event in events:
        entering = event.event == "enter"
        forward += entering and not depth
        depth += 1 if entering else -1
        if forward in chosen:
            found.append(event)
    return found


# -- sums ----------------------------------------------------------------------------------------------


def _sums(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total


def _signatures(parts: Iterable[Mapping[str, list[Signature]]]) -> dict[str, list[Signature]]:
    total: dict[str, list[Signature]] = {}
    for part in parts:
        for name, signatures in part.items():
            known = total.setdefault(name, [])
            for new in signatures:
                same = next((k for k in known if (k.tensors, k.non_tensor) == (new.tensors, new.non_tensor)), None)
                if same is None:
                    known.append(evolve(new))
                else:
                    same.calls += new.calls
    return total


def _costs(forwards: Iterable[Forward]) -> dict[str, ModuleCost]:
    total: dict[str, ModuleCost] = {}
    for forward in forwards:
        for name, cost in forward.costs.items():
            into = total.setdefault(name, ModuleCost())
            into.own.add(cost.own)
            into.total.add(cost.total)
    return total
