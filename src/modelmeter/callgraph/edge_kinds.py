"""What the edges of a document from elsewhere count: calls, as ModelMeter's do, or operations."""

from __future__ import annotations

from attrs import evolve, frozen

from modelmeter.schema.callgraph import CallGraph


@frozen
class EdgeKind:
    """``calls``, ``operations`` or ``none``, and a sentence about it."""

    kind: str
    sentence: str


def edge_kind(graph: CallGraph) -> EdgeKind:
    """Edges count calls if those into each module add up to its calls."""
    incoming: dict[str, int] = {}
    for edge, count in graph.edges.items():
        callee = edge.partition("->")[2]
        incoming[callee] = incoming.get(callee, 0) + count
    if not incoming:
        return EdgeKind("none", "it has no edges")
    other = sorted(name for name, count in incoming.items() if count != graph.call_counts.get(name))
    if not other:
        return EdgeKind("calls", "its edges count calls: those into each module add up to the module's calls")
    name = other[0]
    return EdgeKind(
        "operations",
        f"its edges count operations, not calls: {len(other)} of {len(incoming)} modules have other sums "
        f"({name!r:.60}: {incoming[name]} by edges, {graph.call_counts.get(name, 0)} calls); "
        "numbers of repeats are taken from the modules' calls",
    )


def with_edges_of_calls(graph: CallGraph) -> CallGraph:
    """The same graph with edges that count calls: a module's calls, shared among its callers by their edges."""
    callers: dict[str, list[str]] = {}
    for edge in graph.edges:
        callers.setdefault(edge.partition("->")[2], []).append(edge)
    edges: dict[str, int] = {}
    for callee, into in callers.items():
        calls, weight = graph.call_counts.get(callee, 0), sum(graph.edges[edge] for edge in into)
        done = seen = 0
        for edge in sorted(into):
            seen += graph.edges[edge]
            upto = calls * seen // weight if weight > 0 else calls
            edges[edge], done = upto - done, upto
    return evolve(graph, edges=edges)
