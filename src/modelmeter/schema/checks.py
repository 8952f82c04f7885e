"""What a call graph document must satisfy beyond its types: names that exist, a tree, counts that can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from modelmeter.errors import DocumentError
from modelmeter.schema.callgraph import CallGraph, Cost


def check_call_graph(graph: CallGraph, where: str) -> None:
    """Raise DocumentError for the first thing that is wrong, naming its place."""
    for problem in _problems(graph):
        raise DocumentError(f"{where}: {problem}", remedy="write the document again, or mend it")


def _problems(graph: CallGraph) -> Iterator[str]:
    known = set(graph.call_counts)
    for key, counts in _counted(graph):
        yield from _counts(key, counts)
    for key, edges in (("edges", graph.edges), ("data_edges", graph.data_edges)):
        yield from _edges(key, edges, known)
    for index, forward in enumerate(graph.forwards):
        yield from _edges(f"forwards[{index}].edges", forward.edges, known)
    yield from _tree(graph)
    for name, cost in graph.costs.items():
        yield from _cost(f"costs[{name!r}].own", cost.own)
        yield from _cost(f"costs[{name!r}].total", cost.total)
    for stage, total in graph.stages.items():
        yield from _cost(f"stages[{stage!r}]", total)
    for name, info in graph.parameters.items():
        if info.count < 0 or info.bytes < 0:
            yield f"parameters[{name!r}] is negative"
    for name, sizes in graph.kv_cache.items():
        if any(size < 0 for size in sizes):
            yield f"kv_cache[{name!r}] is negative"


def _counted(graph: CallGraph) -> Iterator[tuple[str, Mapping[str, int]]]:
    yield "call_counts", graph.call_counts
    yield "op_call_counts", graph.op_call_counts
    yield "edges", graph.edges
    yield "data_edges", graph.data_edges
    yield "unknown_operators", graph.unknown_operators
    for index, forward in enumerate(graph.forwards):
        yield f"forwards[{index}].call_counts", forward.call_counts
        yield f"forwards[{index}].edges", forward.edges


def _counts(key: str, counts: Mapping[str, int]) -> Iterator[str]:
    for name, count in counts.items():
        if count < 0:
            yield f"{key}[{name!r}] is {count}, a count cannot be negative"


def _edges(key: str, edges: Mapping[str, int], known: set[str]) -> Iterator[str]:
    for edge in edges:
        ends = edge.split("->")
        for end in ends:
            if end not in known:
                yield f"{key}[{edge!r}] names {end!r}, which has no call count"


def _tree(graph: CallGraph) -> Iterator[str]:
    parent: dict[str, str] = {}
    for name, children in graph.module_children.items():
        for child in children:
            if child in parent:
                yield f"module_children: {child!r} is a child of {parent[child]!r} and of {name!r}"
            parent[child] = name
    settled: set[str] = set()
    for start in parent:
        path: list[str] = []
        seen: set[str] = set()
        current: str | None = start
        while current is not None and current not in settled:
            if current in seen:
                yield f"module_children: {current!r} is below itself"
                return
            seen.add(current)
            path.append(current)
            current = parent.get(current)
        settled.update(path)


def _cost(place: str, cost: Cost) -> Iterator[str]:
    for key in ("matrix_flops", "vector_flops", "bytes_read", "bytes_written", "launches", "output_bytes"):
        if getattr(cost, key) < 0:
            yield f"{place}.{key} is {getattr(cost, key)}, a cost cannot be negative"
