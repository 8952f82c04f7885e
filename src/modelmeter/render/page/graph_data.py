"""The folded call graph as the page draws it: cards within cards, and what flows between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelmeter.callgraph.folded import Family, FoldedGraph
from modelmeter.callgraph.selection import in_order, to_depth
from modelmeter.render.labels import count, plain
from modelmeter.schema.callgraph import Signature

MOST_NODES = 5_000
"""So many families are written at most; of larger graphs the upper levels."""

MOST_SIGNATURES = 6
"""So many distinct forms of a module's inputs or outputs are written."""

MOST_IN_LABEL = 30


def graph_data(folded: FoldedGraph) -> dict[str, Any]:
    """Families and edges as plain data for ``GraphData`` of the page, siblings in the order in which data flows.

    An edge of kind ``call`` goes from caller to callee and is labelled with the callee's repeats; one of
    kind ``data`` from producer to consumer under one caller, its ``count`` the tensors. Data from one
    member of a family to the next is what ``for N`` says and is no edge.
    """
    whole = len(folded.families)
    folded = in_order(folded)
    notes = []
    if whole > MOST_NODES:
        folded = _upper_levels(folded)
        notes.append(f"{whole - len(folded.families):,} of {whole:,} families are left out, the deepest first")
    data: dict[str, Any] = {
        "nodes": [_node(folded, family) for family in folded.families.values()],
        "edges": _calls(folded) + _flows(folded),
    }
    notes += [plain(line) for line in folded.disagreements]
    if notes:
        data["note"] = "; ".join(notes)
    return data


def _upper_levels(folded: FoldedGraph) -> FoldedGraph:
    """As many levels as may be written; of a level that is too wide by itself its first families."""
    at_depth: dict[int, int] = {}
    for depth in folded.depths.values():
        at_depth[depth] = at_depth.get(depth, 0) + 1
    shown, depth = at_depth.get(0, 0), 0
    while depth + 1 in at_depth and shown + at_depth[depth + 1] <= MOST_NODES:
        depth += 1
        shown += at_depth[depth]
    if shown > MOST_NODES // 10:
        return to_depth(folded, depth)
    wider = to_depth(folded, depth + 1)
    room = MOST_NODES - shown
    kept = [name for name in wider.families if wider.depths[name] <= depth]
    kept += [name for name in wider.families if wider.depths[name] > depth][:room]
    names = set(kept)
    return FoldedGraph(
        root=wider.root,
        families={name: family for name, family in wider.families.items() if name in names},
        edges=[edge for edge in wider.edges if edge.caller in names and edge.callee in names],
        source=wider.source,
        depths=wider.depths,
        parents=wider.parents,
        disagreements=wider.disagreements,
    )


def _node(folded: FoldedGraph, family: Family) -> dict[str, Any]:
    return {
        "id": plain(family.id),
        "className": plain(family.class_name),
        "label": _label(family.id, folded.parents.get(family.id)),
        "repeat": family.repeat_label,
        "stage": plain(family.stage),
        "configuration": {plain(key): _value(value) for key, value in sorted(family.constructor_params.items())},
        "inputs": _signatures(family.inputs),
        "outputs": _signatures(family.outputs),
        "parent": None if family.id not in folded.parents else plain(folded.parents[family.id]),
    }


def _label(name: str, parent: str | None) -> str:
    """A pattern without what its caller's card says: ``qkv`` within ``blocks.[0-11].attn``.

    A caller's numbers that the pattern narrows down stay: ``attn [2,5,8,11]`` within ``blocks.[0-11]``.
    """
    pieces, above = name.split("."), parent.split(".") if parent is not None else []
    narrowed = []
    place = 0
    while place < min(len(above), len(pieces) - 1):
        own, outer = pieces[place], above[place]
        if own != outer and not outer.startswith("["):
            break
        if own != outer:
            narrowed.append(own if own.startswith("[") else f"[{own}]")
        place += 1
    # What is not all said by the caller is said whole.
    inside = place == len(above)
    short = ".".join(pieces[place:]) if inside else name
    return plain(" ".join([short, *narrowed] if inside else [short]))


def _value(value: Any) -> Any:
    """Configuration as JSON holds it: names made writable, numbers that JSON lacks as text."""
    if isinstance(value, dict):
        return {plain(str(key)): _value(held) for key, held in sorted(value.items(), key=lambda pair: str(pair[0]))}
    if isinstance(value, list | tuple):
        return [_value(held) for held in value]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and value - value == 0:
        return value
    return plain(str(value))


def _signatures(signatures: Sequence[Signature]) -> list[str]:
    """``bfloat16 [2, 4096, 768]; 24 calls``; several tensors with the names of their arguments."""
    lines = []
    for signature in signatures[:MOST_SIGNATURES]:
        named = len(signature.tensors) > 1
        tensors = [
            f"{f'{plain(t.argument)} ' if named else ''}{plain(t.dtype.removeprefix('torch.'))} {list(t.shape)}"
            for t in signature.tensors
        ]
        lines.append(f"{', '.join(tensors) or 'no tensor'}; {count(signature.calls, 'call')}")
    if len(signatures) > MOST_SIGNATURES:
        lines.append(f"and {len(signatures) - MOST_SIGNATURES} more forms")
    return lines


def _calls(folded: FoldedGraph) -> list[dict[str, Any]]:
    return [
        {
            "from": plain(edge.caller),
            "to": plain(edge.callee),
            "label": edge.label,
            "kind": "call",
            "count": edge.count,
        }
        for edge in folded.edges
    ]


def _flows(folded: FoldedGraph) -> list[dict[str, Any]]:
    family_of = {member: family.id for family in folded.families.values() for member in family.members}
    counts: dict[tuple[str, str], int] = {}
    for edge, tensors in folded.source.data_edges.items():
        producer, _, consumer = edge.partition("->")
        key = family_of.get(producer), family_of.get(consumer)
        if key[0] is not None and key[1] is not None and key[0] != key[1]:
            counts[key[0], key[1]] = counts.get((key[0], key[1]), 0) + tensors
    place = {name: index for index, name in enumerate(folded.families)}
    ordered = sorted(counts, key=lambda key: (place[key[0]], place[key[1]]))
    return [{"from": plain(a), "to": plain(b), "label": "", "kind": "data", "count": counts[a, b]} for a, b in ordered]
