"""What the drawn views write: compact labels, and tooltips with configuration, shapes and cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import frozen

from modelmeter.callgraph.axis import Axis
from modelmeter.callgraph.folded import Family, FoldedEdge, FoldedGraph
from modelmeter.schema.callgraph import Signature
from modelmeter.units import format_bytes, format_count, format_flops, format_share

MOST_IN_PATTERN = 44
MOST_IN_CLASS = 36
MOST_IN_TOOLTIP_LINE = 240
MOST_SIGNATURES = 4


def plain(text: str) -> str:
    """A name on one line that every format can hold: control characters and lone surrogates are replaced."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def shorten(text: str, most: int) -> str:
    """A text without its middle where it is too long: names differ at both ends."""
    text = plain(text)
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[-tail:]}"


@frozen
class Row:
    """A family at its place in the tree; ``is_last`` says so for it and each family above but the root."""

    family: Family
    number: int
    depth: int
    pattern: str
    is_last: tuple[bool, ...]


def rows(folded: FoldedGraph) -> Iterator[Row]:
    """Every family once, callers before callees."""
    below: dict[str | None, list[str]] = {}
    for name in folded.families:
        below.setdefault(folded.parents.get(name), []).append(name)
    number = 0
    stack: list[tuple[str, tuple[bool, ...]]] = [(name, ()) for name in reversed(below.get(None, []))]
    while stack:
        name, lasts = stack.pop()
        yield Row(folded.families[name], number, len(lasts), short_pattern(folded, name), lasts)
        number += 1
        names = below.get(name, [])
        for index in range(len(names) - 1, -1, -1):
            stack.append((names[index], (*lasts, index == len(names) - 1)))


def short_pattern(folded: FoldedGraph, name: str) -> str:
    """A pattern without the part that its caller's node shows: ``.q_proj`` below ``layers.[0-11].self_attn``."""
    parent = folded.parents.get(name)
    if parent is not None and name.startswith(f"{parent}."):
        name = name[len(parent) :]
    return shorten(name, MOST_IN_PATTERN)


def compact(row: Row) -> str:
    """``Class @ pattern for N``; the class alone for a model that is called by its class's name."""
    family = row.family
    class_name = shorten(family.class_name, MOST_IN_CLASS)
    where = "" if family.id == family.class_name else f"@ {row.pattern}"
    return " ".join(part for part in (class_name, where, family.repeat_label) if part)


def title(folded: FoldedGraph) -> str:
    """The model's name."""
    graph = folded.source
    return shorten(str(graph.model.get("name") or graph.model.get("family") or folded.root), 80)


def legend(axis: Axis) -> str:
    """What colours and widths say."""
    return f"colour: stage; line width: {axis.title}"


def tooltip(family: Family, axis: Axis, whole: int) -> list[str]:
    """Lines on one family: its whole label, calls, cost, parameters, configuration and shapes."""
    cost, members = family.cost, len(family.members)
    lines = [family.label, f"{count(family.calls, 'call')} of {count(members, 'module')}, stage {family.stage}"]
    if whole:
        value = axis.of(family)
        lines.append(f"{axis.title}: {axis.text(value)}, {format_share(value, whole)} of the whole")
    if cost.total.launches or cost.total.matrix_flops:
        total = cost.total
        lines.append(
            f"{format_flops(total.matrix_flops)} matrix, {format_flops(total.vector_flops)} vector; "
            f"reads {format_bytes(total.bytes_read)}, writes {format_bytes(total.bytes_written)}"
        )
    if family.parameters:
        lines.append(f"{format_count(family.parameters)} parameters, {format_bytes(family.parameter_bytes)}")
    if family.constructor_params:
        lines.append(f"configuration: {configuration(family)}")
    lines += [f"in: {line}" for line in shapes(family.inputs)]
    lines += [f"out: {line}" for line in shapes(family.outputs)]
    below = len(family.op_call_counts.keys() - family.members.keys())
    if below:
        lines.append(f"stands for {count(below, 'module')} below it as well")
    return [shorten(line, MOST_IN_TOOLTIP_LINE) for line in lines]


def edge_tooltip(edge: FoldedEdge) -> str:
    """Who calls whom, how often."""
    caller, callee = (shorten(name, MOST_IN_TOOLTIP_LINE) for name in (edge.caller, edge.callee))
    return f"{caller} calls {callee}: {count(edge.count, 'call')}"


def count(number: int, noun: str) -> str:
    """``1 call``, ``36 calls``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def configuration(family: Family) -> str:
    """``hidden_size=1280, num_heads=10``; values that differ between members after each other."""
    return ", ".join(f"{plain(str(key))}={_value(value)}" for key, value in family.constructor_params.items())


def _value(value: Any) -> str:
    if isinstance(value, dict) and list(value) == ["one of"]:
        return " or ".join(_value(one) for one in value["one of"])
    if isinstance(value, list | tuple):
        return "×".join(_value(one) for one in value) or "none"
    return plain(str(value))


def shapes(signatures: list[Signature]) -> list[str]:
    """One line per distinct signature: ``hidden_states bfloat16 1×903×1280; 36 calls``."""
    lines = []
    for signature in signatures[:MOST_SIGNATURES]:
        tensors = [
            f"{plain(t.argument)} {plain(t.dtype.removeprefix('torch.'))} {'×'.join(map(str, t.shape)) or 'scalar'}"
            for t in signature.tensors
        ]
        others = [f"{plain(a.argument)} {plain(a.type)}" for a in signature.non_tensor]
        lines.append(f"{', '.join(tensors + others) or 'nothing'}; {count(signature.calls, 'call')}")
    if len(signatures) > MOST_SIGNATURES:
        lines.append(f"and {len(signatures) - MOST_SIGNATURES} more forms")
    return lines
