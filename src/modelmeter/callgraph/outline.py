"""The folded graph as rows of a table: one line a family, callers before callees, with sums over its members."""

from __future__ import annotations

from attrs import field, frozen

from modelmeter.callgraph.folded import Family, FoldedGraph
from modelmeter.callgraph.folding import fold
from modelmeter.callgraph.selection import in_order
from modelmeter.schema.callgraph import CallGraph


@frozen
class OutlineRow:
    """One line: a family at its place in the tree. Parameters and FLOPs are those of everything below, too."""

    label: str
    class_name: str
    repeat: str
    depth: int
    members: tuple[str, ...]
    calls: int
    parameters: int
    flops: int
    shape: str
    is_last: tuple[bool, ...] = field(default=())


def outline(graph: CallGraph, depth: int | None = None) -> list[OutlineRow]:
    """Rows of the modules that ran, down to a depth, in the order of execution."""
    folded = in_order(fold(graph))
    totals = subtree_parameters(graph)
    below: dict[str | None, list[str]] = {}
    for name in folded.families:
        below.setdefault(folded.parents.get(name), []).append(name)
    rows: list[OutlineRow] = []
    stack: list[tuple[str, tuple[bool, ...]]] = [(name, ()) for name in reversed(below.get(None, []))]
    while stack:
        name, lasts = stack.pop()
        rows.append(_row(folded, folded.families[name], lasts, totals))
        if depth is not None and len(lasts) >= depth:
            continue
        names = below.get(name, [])
        for index in range(len(names) - 1, -1, -1):
            stack.append((names[index], (*lasts, index == len(names) - 1)))
    return rows


def _row(folded: FoldedGraph, family: Family, lasts: tuple[bool, ...], totals: dict[str, int]) -> OutlineRow:
    return OutlineRow(
        label=_below(family.id, folded.parents.get(family.id)),
        class_name=family.class_name,
        repeat=family.repeat_label,
        depth=len(lasts),
        members=tuple(family.members),
        calls=family.calls,
        parameters=sum(totals.get(member, 0) for member in family.members),
        flops=family.cost.total.matrix_flops,
        shape=_shapes(family),
        is_last=lasts,
    )


def _below(name: str, parent: str | None) -> str:
    """A pattern without the leading parts that its caller's has as well: ``[0,2].attn`` below ``blocks.[0-2]``."""
    if parent is None or not name.startswith(parent.partition(".")[0]):
        return name
    parts, above = name.split("."), parent.split(".")
    same = 0
    while same < min(len(above), len(parts) - 1) and parts[same] == above[same]:
        same += 1
    return ".".join(parts[same:])


def _shapes(family: Family) -> str:
    """The first output's shape, and how many more there are."""
    seen = dict.fromkeys(
        "×".join(map(str, signature.tensors[0].shape)) or "scalar" for signature in family.outputs if signature.tensors
    )
    shapes = list(seen)
    if not shapes:
        return ""
    return shapes[0] if len(shapes) == 1 else f"{shapes[0]} +{len(shapes) - 1}"


def subtree_parameters(graph: CallGraph) -> dict[str, int]:
    """Parameters of each module and all below it in the static tree, shared ones once."""
    parent = {child: name for name, children in graph.module_children.items() for child in children}
    totals: dict[str, int] = {}
    for name, info in graph.parameters.items():
        current: str | None = name
        while current is not None:
            totals[current] = totals.get(current, 0) + info.count
            current = parent.get(current)
    return totals
