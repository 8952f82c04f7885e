"""Memory along a call graph: activations, results, peaks, weights and caches of any set of modules.

*Activations* are the bytes that the operations of the chosen modules and of everything below them put
out; *results* the bytes that the chosen modules themselves returned; *peak* the largest live storage
while one of them ran, inputs and caches included and weights not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from attrs import evolve, frozen

from modelmeter.callgraph.folded import FoldedGraph
from modelmeter.errors import UnknownNameError
from modelmeter.patterns import pattern, static_order
from modelmeter.schema.callgraph import RUN_STAGES, CallGraph, LiveTensor


@frozen
class MemoryUse:
    """Memory of a set of modules, in bytes."""

    pattern: str
    modules: int
    calls: int
    activation_bytes: int
    result_bytes: int
    peak_bytes: int
    weight_bytes: int
    kv_cache_bytes: int


def matching(graph: CallGraph, text: str) -> list[str]:
    """Modules that ran whose id a pattern names: ``blocks.[0-11].attn``, ``layers.*``, ``a + b``.

    Raises UnknownNameError, with the nearest id, if there is none.
    """
    expressions = [_expression(part) for part in text.split(" + ")]
    names = [name for name in graph.call_counts if any(e.fullmatch(name) for e in expressions)]
    if not names:
        raise UnknownNameError("module pattern", text, graph.call_counts)
    order = static_order(graph.module_children, sorted(graph.call_counts))
    return sorted(names, key=lambda name: order[name])


def memory_use(graph: CallGraph, names: Sequence[str], label: str) -> MemoryUse:
    """Memory of some modules with everything below them in the static tree, each counted once."""
    below = _with_descendants(graph, names)
    return MemoryUse(
        pattern=label,
        modules=len(names),
        calls=sum(graph.call_counts.get(name, 0) for name in names),
        activation_bytes=sum(graph.costs[name].own.output_bytes for name in below if name in graph.costs),
        result_bytes=sum(graph.costs[name].total.output_bytes for name in names if name in graph.costs),
        peak_bytes=max((graph.costs[name].total.peak_bytes or 0 for name in names if name in graph.costs), default=0),
        weight_bytes=sum(graph.parameters[name].bytes for name in below if name in graph.parameters),
        kv_cache_bytes=sum(graph.kv_cache[name][-1] for name in below if graph.kv_cache.get(name)),
    )


def memory_by_family(folded: FoldedGraph, depth: int | None = None) -> list[MemoryUse]:
    """One line per family down to a depth, in the order of the folded tree."""
    graph = folded.source
    rows: list[MemoryUse] = []
    stack = [folded.root]
    while stack:
        name = stack.pop()
        rows.append(memory_use(graph, list(folded.families[name].members), name))
        if depth is None or folded.depths[name] < depth:
            stack.extend(reversed(folded.children(name)))
    return rows


def memory_by_stage(graph: CallGraph) -> list[tuple[str, int, int]]:
    """Stages that ran, with the bytes that their operations put out and their peak."""
    return [
        (name, graph.stages[name].output_bytes, graph.stages[name].peak_bytes or 0)
        for name in RUN_STAGES
        if name in graph.stages and (graph.stages[name].launches or graph.stages[name].output_bytes)
    ]


def live_at_peak(graph: CallGraph) -> list[LiveTensor]:
    """What makes the peak, the largest first; like tensors of modules that differ in numbers only together."""
    if graph.peak is None:
        return []
    alike: dict[tuple[str, str, tuple[int, ...], str], list[LiveTensor]] = {}
    for tensor in graph.peak.tensors:
        place = ".".join("#" if part.isdecimal() else part for part in tensor.module.split("."))
        alike.setdefault((place, tensor.operator, tensor.shape, tensor.dtype), []).append(tensor)
    merged = [
        evolve(
            tensors[0],
            module=pattern(sorted((t.module for t in tensors), key=_natural)),
            count=sum(t.count for t in tensors),
            bytes=sum(t.bytes for t in tensors),
        )
        for tensors in alike.values()
    ]
    return sorted(merged, key=lambda tensor: -tensor.bytes)


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Numbers in names by value: blocks.2 before blocks.10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in name.split(".")]


def _with_descendants(graph: CallGraph, names: Iterable[str]) -> list[str]:
    found: dict[str, None] = {}
    stack = list(names)
    while stack:
        name = stack.pop()
        if name not in found:
            found[name] = None
            stack.extend(graph.module_children.get(name, ()))
    return list(found)


def _expression(text: str) -> re.Pattern[str]:
    """A pattern as a regular expression: brackets list alternatives, ``*`` is any part of a name."""
    parts = []
    for piece in re.split(r"(\[[^\]]*\]|\*)", text.strip()):
        if piece == "*":
            parts.append(r"[^.]*")
        elif piece.startswith("[") and piece.endswith("]"):
            parts.append("(?:" + "|".join(_alternatives(piece[1:-1])) + ")")
        else:
            parts.append(re.escape(piece))
    return re.compile("".join(parts))


def _alternatives(text: str) -> list[str]:
    found = []
    for item in text.split(","):
        bounds = re.fullmatch(r"(\d+)-(\d+)", item.strip())
        if bounds and int(bounds[2]) - int(bounds[1]) < 100_000:
            found += [str(number) for number in range(int(bounds[1]), int(bounds[2]) + 1)]
        else:
            found.append(re.escape(item.strip()))
    return found
