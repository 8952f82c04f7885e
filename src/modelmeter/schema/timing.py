"""Time that a cost tree takes on a device: by operator, module, stage, each with its bound."""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum
from typing import NamedTuple

from attrs import define, field

from modelmeter.schema.callgraph import STAGES
from modelmeter.schema.cost import CostTree, OperatorCosts

COMPUTE, MEMORY, LAUNCH, NETWORK = "compute", "memory", "launch", "network"
BOUNDS = (COMPUTE, MEMORY, LAUNCH, NETWORK)
"""What an operator, a module or a stage waits for."""


class Seconds(NamedTuple):
    """A time as an interval: the shortest that is plausible, the estimate, the longest."""

    low: float = 0.0
    estimate: float = 0.0
    high: float = 0.0

    def plus(self, other: Seconds) -> Seconds:
        """The sum of both."""
        return Seconds(self[0] + other[0], self[1] + other[1], self[2] + other[2])


class OperatorTime(NamedTuple):
    """One operator of one node: its costs, seconds of all its calls, and what bounds it."""

    costs: OperatorCosts
    seconds: Seconds
    bound: str


class Span(NamedTuple):
    """A part of the run: its time, how much of it waits for what, and what it waits for most."""

    seconds: Seconds
    shares: dict[str, float]
    """Bound to seconds of the estimate."""

    @property
    def bound(self) -> str:
        """What most of the estimate is spent on; empty where there is no time."""
        return max(self.shares, key=lambda bound: self.shares[bound]) if any(self.shares.values()) else ""


@define
class TimedTree:
    """A cost tree with times on a device. ``efficiency`` says where its efficiencies come from."""

    tree: CostTree
    operators: dict[str, list[OperatorTime]]
    """Own operators by node."""
    device: str
    execution: str
    efficiency: str
    _stages: dict[str, Span] = field(factory=dict, init=False, repr=False)

    def own(self, node: str) -> Span:
        """Time of a node's own operators."""
        return span(self.operators.get(node, ()))

    @property
    def stages(self) -> dict[str, Span]:
        """Time of every stage; they follow one another."""
        if not self._stages:
            parts: dict[str, list[OperatorTime]] = {stage: [] for stage in STAGES}
            for times in self.operators.values():
                for time in times:
                    parts[time.costs.stage].append(time)
            self._stages = {stage: span(times) for stage, times in parts.items()}
        return self._stages

    @property
    def total(self) -> Span:
        """Time of the whole run."""
        return span(time for times in self.operators.values() for time in times)


def span(times: Iterable[OperatorTime]) -> Span:
    """The sum of some operators' times, rounded once: it does not depend on their order."""
    columns: tuple[list[float], ...] = ([], [], [])
    parts: dict[str, list[float]] = {bound: [] for bound in BOUNDS}
    for _, seconds, bound in times:
        for column, value in zip(columns, seconds, strict=True):
            column.append(value)
        parts[bound].append(seconds[1])
    return Span(Seconds(*map(fsum, columns)), {bound: fsum(own) for bound, own in parts.items()})
