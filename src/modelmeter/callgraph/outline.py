"""The static tree of a call graph with equal neighbours taken together, for a first look.

Siblings of one class whose names differ in one number, and whose subtrees have the same names and
classes, are one line: ``blocks.[0-11]``. Nothing is computed here beyond sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import field, frozen

from modelmeter.schema.callgraph import CallGraph


@frozen
class OutlineRow:
    """One line: a module or several equal ones, with sums over them."""

    label: str
    class_name: str
    depth: int
    members: tuple[str, ...]
    calls: int
    parameters: int
    flops: int
    shape: str
    is_last: tuple[bool, ...] = field(default=())


def outline(graph: CallGraph, depth: int | None = None) -> list[OutlineRow]:
    """Rows of modules that ran, in the order of the static tree."""
    totals = _subtree_parameters(graph)
    return list(_rows(graph, (graph.root,), "", 0, depth, totals, ()))


def _rows(
    graph: CallGraph,
    members: tuple[str, ...],
    caller: str,
    level: int,
    limit: int | None,
    totals: dict[str, int],
    lasts: tuple[bool, ...],
) -> Iterator[OutlineRow]:
    first = members[0]
    yield OutlineRow(
        label=_label(_relative(members, caller)),
        class_name=graph.module_types.get(first, ""),
        depth=level,
        members=members,
        calls=sum(graph.call_counts.get(name, 0) for name in members),
        parameters=sum(totals.get(name, 0) for name in members),
        flops=sum(graph.costs[name].total.matrix_flops for name in members if name in graph.costs),
        shape=_shapes(graph, members),
        is_last=lasts,
    )
    if limit is not None and level >= limit:
        return
    groups = _groups(graph, [child for name in members for child in _ran(graph, name)])
    for index, group in enumerate(groups):
        yield from _rows(graph, group, first, level + 1, limit, totals, (*lasts, index == len(groups) - 1))


def _ran(graph: CallGraph, name: str) -> list[str]:
    """Children that ran; those of containers that never run take the container's place."""
    found = []
    for child in graph.module_children.get(name, ()):
        if child in graph.call_counts:
            found.append(child)
        else:
            found.extend(_ran(graph, child))
    return found


def _groups(graph: CallGraph, names: list[str]) -> list[tuple[str, ...]]:
    groups: dict[tuple[str, str, object], list[str]] = {}
    for name in names:
        key = (_pattern(name), graph.module_types.get(name, ""), _subtree(graph, name, name))
        groups.setdefault(key, []).append(name)
    return [tuple(group) for group in groups.values()]


def _pattern(name: str) -> str:
    return ".".join("#" if part.isdecimal() else part for part in name.split("."))


def _subtree(graph: CallGraph, name: str, root: str) -> tuple[tuple[str, str], ...]:
    found: set[tuple[str, str]] = set()
    for child in _ran(graph, name):
        found.add((_pattern(child.removeprefix(root)), graph.module_types.get(child, "")))
        found.update(_subtree(graph, child, root))
    return tuple(sorted(found))


def _relative(names: tuple[str, ...], parent: str) -> list[str]:
    """Names without their parents' part, where they have one; ``parent`` is the first one's."""
    if not parent or not names[0].startswith(f"{parent}."):
        return list(names)
    above = parent.count(".") + 1
    return [".".join(name.split(".")[above:]) for name in names]


def _label(names: list[str]) -> str:
    """``blocks.0 … blocks.11`` as ``blocks.[0-11]``; numbers above the last that varies are dropped."""
    parts = [name.split(".") for name in names]
    if len({len(p) for p in parts}) > 1:
        return names[0]
    shown = []
    for values in zip(*parts, strict=True):
        distinct = sorted(set(values), key=lambda v: (len(v), v))
        numbers = all(v.isdecimal() for v in distinct)
        shown.append(f"[{_ranges(map(int, distinct))}]" if len(distinct) > 1 and numbers else distinct[0])
    return ".".join(shown)


def _ranges(numbers: Iterable[int]) -> str:
    """0, 1, 2, 5 as ``0-2,5``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{a}-{b}" if b > a else f"{a}" for a, b in runs)


def _shapes(graph: CallGraph, members: tuple[str, ...]) -> str:
    """The first output's shape, and how many more there are."""
    seen: dict[str, None] = {}
    for name in members:
        for signature in graph.output_metadata.get(name, ()):
            if signature.tensors:
                seen["×".join(map(str, signature.tensors[0].shape)) or "scalar"] = None
    shapes = list(seen)
    if not shapes:
        return ""
    return shapes[0] if len(shapes) == 1 else f"{shapes[0]} +{len(shapes) - 1}"


def _subtree_parameters(graph: CallGraph) -> dict[str, int]:
    """Parameters of each module and all below it, shared ones once."""
    totals: dict[str, int] = {}

    def total(name: str) -> int:
        own = graph.parameters[name].count if name in graph.parameters else 0
        totals[name] = own + sum(total(child) for child in graph.module_children.get(name, ()))
        return totals[name]

    if graph.root:
        total(graph.root)
    return totals
