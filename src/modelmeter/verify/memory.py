"""Live bytes, module by module: the most while a module and its callees ran, by both sides."""

from __future__ import annotations

from modelmeter.schema.callgraph import CallGraph
from modelmeter.schema.cost import DECODE, PREFILL, CostTree, forward_of
from modelmeter.verify.difference import Difference
from modelmeter.verify.traced import members

PEAK_TOLERANCE = 0.05

Peaks = dict[tuple[str, str], int]
"""(forward, module) to bytes."""


def compare_peaks(tree: CostTree, document: CallGraph) -> tuple[list[Difference], int]:
    """The peak of every node in either forward, and the peak of all: (differences, compared).

    Both are exact, but for experts. The closed form takes the one during whose run most is live, of the
    layer where that is most, as every layer's. Where layers or steps route differently that bounds the peak
    from above: what is at or above an expert must lie between what it has besides them and that. Modules
    inside of experts are not compared where experts have different numbers of tokens.
    """
    highest, besides_experts = _closed_peaks(tree, experts=True), _closed_peaks(tree, experts=False)
    traced, routed = _traced_peaks(tree, document), _tokens_of_experts(document)
    varying = {part for part, tables in routed.items() if len(tables) > 1}
    uneven = {part for part, tables in routed.items() if any(len(set(table) - {0}) > 1 for table in tables)}
    inside = {node.id for node in tree.nodes if is_expert(node.caller)}
    found: list[Difference] = []
    places = sorted((highest.keys() | traced.keys()) - {(part, name) for part in uneven | varying for name in inside})
    for place in places:
        high, number = highest.get(place, 0), traced.get(place, 0)
        low = besides_experts.get(place, 0) if place[0] in varying else high
        if not low <= number <= high:
            found.append(Difference(place[1], place[0], "peak_bytes", high, number))
    return [*found, *_peak_of_all(tree, document)], len(places) + 2


def is_expert(module: str) -> bool:
    """Whether a module is a routed expert, or part of one."""
    return ".experts." in module


def _closed_peaks(tree: CostTree, *, experts: bool) -> Peaks:
    """Live bytes of every node with its callees; of experts none unless asked for."""
    callers = {node.id: node.caller for node in tree.nodes}
    peaks: Peaks = {}
    for node in tree.nodes:
        if not experts and is_expert(node.id):
            continue
        for run, most in node.own_peak_bytes.items():
            at = node.id
            while at:
                place = (forward_of(run), at)
                peaks[place] = max(peaks.get(place, 0), most)
                at = callers[at]
    return peaks


def _traced_peaks(tree: CostTree, document: CallGraph) -> Peaks:
    peaks: Peaks = {}
    for forward in document.forwards:
        part = DECODE if forward.name.startswith(DECODE) else PREFILL
        for node in tree.nodes:
            for name in members(node.id):
                cost = forward.costs.get(name)
                if cost is not None and cost.total.peak_bytes:
                    peaks[part, node.id] = max(peaks.get((part, node.id), 0), cost.total.peak_bytes)
    return peaks


def _tokens_of_experts(document: CallGraph) -> dict[str, set[tuple[int, ...]]]:
    """For either forward, the different ways in which its layers and steps give tokens to experts."""
    tables: dict[str, set[tuple[int, ...]]] = {}
    for event in document.runtime_events:
        if event["kind"] == "expert_tokens":
            part = DECODE if event["forward"].startswith(DECODE) else PREFILL
            tables.setdefault(part, set()).add(tuple(event["counts"]))
    return tables


def _peak_of_all(tree: CostTree, document: CallGraph) -> list[Difference]:
    """The largest of all; it may be 5% off if the same module holds it."""
    peak = document.peak
    if peak is None:
        return []
    found: list[Difference] = []
    forward, same = forward_of(tree.peak.run), peak.module in members(tree.peak.module)
    if tree.peak.bytes != peak.bytes:
        close = same and abs(tree.peak.bytes - peak.bytes) <= PEAK_TOLERANCE * peak.bytes
        reason = f"within {PEAK_TOLERANCE:.0%}, held by the same module" if close else ""
        found.append(Difference(tree.peak.module, forward, "peak_bytes", tree.peak.bytes, peak.bytes, close, reason))
    if not same:
        found.append(Difference(tree.peak.module, forward, "peak_module", tree.peak.module, peak.module))
    return found
