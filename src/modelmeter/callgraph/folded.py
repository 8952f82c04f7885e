"""The folded call graph: families of equal modules as one node each."""

from __future__ import annotations

from typing import Any

from attrs import define, field, frozen

from modelmeter.schema.callgraph import CallGraph, ModuleCost, Signature


@define
class Family:
    """One node: modules that play the same part.

    ``repetition`` is ``for`` (distinct modules in series), ``parfor`` (one module called several times,
    or siblings that do not feed each other) or ``none``; ``count`` is how many there are per call of
    the caller, ``counts`` all such numbers where callers differ. ``members`` maps each id to its calls.
    """

    id: str
    class_name: str
    repetition: str
    count: int
    members: dict[str, int]
    counts: tuple[int, ...] = ()
    stage: str = "other"
    constructor_params: dict[str, Any] = field(factory=dict)
    op_call_counts: dict[str, int] = field(factory=dict)
    cost: ModuleCost = field(factory=ModuleCost)
    parameters: int = 0
    parameter_bytes: int = 0
    inputs: list[Signature] = field(factory=list)
    outputs: list[Signature] = field(factory=list)

    @property
    def calls(self) -> int:
        """Forward calls of all members."""
        return sum(self.members.values())

    @property
    def repeat_label(self) -> str:
        """``for 12``, ``parfor 64``, ``for 2-6`` where callers differ, or nothing for a single plain call."""
        if self.repetition == "none":
            return ""
        low, high = min(self.counts, default=self.count), max(self.counts, default=self.count)
        return f"{self.repetition} {low}" if low == high else f"{self.repetition} {low}-{high}"

    @property
    def label(self) -> str:
        """``Class @ pattern for N``."""
        return " ".join(part for part in (self.class_name, "@", self.id, self.repeat_label) if part)


@frozen
class FoldedEdge:
    """Calls from one family to another; ``calls`` maps each original edge to its number."""

    caller: str
    callee: str
    calls: dict[str, int]
    label: str = ""

    @property
    def count(self) -> int:
        """All calls."""
        return sum(self.calls.values())


@define
class FoldedGraph:
    """Families and the calls between them. ``depth`` of a family is its distance from the root."""

    root: str
    families: dict[str, Family]
    edges: list[FoldedEdge]
    source: CallGraph
    depths: dict[str, int] = field(factory=dict)
    parents: dict[str, str] = field(factory=dict)
    """Family to the family that calls it first: a tree over the graph, for outlines."""
    disagreements: list[str] = field(factory=list)
    """Where runtime events contradict what the graph shows."""

    def children(self, family: str) -> list[str]:
        """Families below one in the tree, in the order in which they were found."""
        return [name for name, parent in self.parents.items() if parent == family]

    def unfold(self) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        """Call counts, edges and operation counts of the original graph, from the families alone."""
        calls: dict[str, int] = {}
        operations: dict[str, int] = {}
        edges: dict[str, int] = {}
        for family in self.families.values():
            calls.update(family.members)
            operations.update(family.op_call_counts)
        for edge in self.edges:
            edges.update(edge.calls)
        return calls, edges, operations
