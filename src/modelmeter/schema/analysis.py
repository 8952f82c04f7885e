"""One scenario on one device: what was worked out, for tables, reports and files."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from modelmeter.schema.cost import Amount, CostNode, CostTree
from modelmeter.schema.device import Device
from modelmeter.schema.scenario import Scenario
from modelmeter.schema.timing import OperatorTime, Seconds, Span, TimedTree, span

FIRST_TOKEN_STAGES = ("vision", "projector", "prefill", "other")


@frozen
class MemoryNeed:
    """Bytes that a run takes on one device."""

    weight_bytes: int
    live_bytes: int
    """The largest sum of live tensors, the cache included."""
    reserve_bytes: int
    capacity_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weight_bytes + self.live_bytes + self.reserve_bytes

    @property
    def headroom_bytes(self) -> int:
        """What is left; negative where it does not fit."""
        return self.capacity_bytes - self.total_bytes

    @property
    def fits(self) -> bool:
        """Whether it fits."""
        return self.headroom_bytes >= 0


@frozen
class ModuleTotals:
    """A node with everything below it."""

    node: CostNode
    amount: Amount
    span: Span
    own: Span


@frozen
class Analysis:
    """One scenario on one device."""

    scenario: Scenario
    device: Device
    timed: TimedTree
    memory: MemoryNeed
    categories: dict[str, tuple[Amount, Span]]
    """Costs and time by operator category."""
    assumptions: tuple[str, ...]

    @property
    def tree(self) -> CostTree:
        """Costs without times."""
        return self.timed.tree

    @property
    def time_to_first_token(self) -> Seconds:
        """Vision, projector and prefill, one after the other."""
        first = Seconds()
        for stage in FIRST_TOKEN_STAGES:
            first = first.plus(self.timed.stages[stage].seconds)
        return first

    @property
    def time_per_output_token(self) -> Seconds | None:
        """The mean decode step; None without any."""
        steps = self.scenario.decode_steps
        if not steps:
            return None
        low, estimate, high = self.timed.stages["decode"].seconds
        return Seconds(low / steps, estimate / steps, high / steps)

    def modules(self) -> Iterator[ModuleTotals]:
        """Every node that was called, with what is below it, in the order of the tree."""
        below: dict[str, list[str]] = {}
        for node in self.tree.nodes:
            below.setdefault(node.caller, []).append(node.id)
        amounts: dict[str, Amount] = {}
        times: dict[str, list[OperatorTime]] = {}
        for node in reversed(self.tree.nodes):
            amount, found = node.own, list(self.timed.operators.get(node.id, ()))
            for child in below.get(node.id, ()):
                amount = amount.plus(amounts[child])
                found += times[child]
            amounts[node.id], times[node.id] = amount, found
        for node in self.tree.nodes:
            if node.calls:
                yield ModuleTotals(node, amounts[node.id], span(times[node.id]), self.timed.own(node.id))
