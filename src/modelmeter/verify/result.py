"""What came of one case: both sides' totals, and what they do not agree on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import asdict, frozen

from modelmeter.schema.callgraph import CallGraph, Cost, Forward
from modelmeter.schema.cost import DECODE, CostTree
from modelmeter.verify.difference import Difference


@frozen
class Totals:
    """Matrix FLOPs as they are published: vision is SAM, CLIP and projector, and is included in the prefill."""

    vision_flops: int
    prefill_flops: int
    decode_flops: int
    """Of all steps together."""
    peak_bytes: int


@frozen
class CaseResult:
    """One case. ``compared`` counts the numbers that both sides gave."""

    name: str
    scenario: Mapping[str, Any]
    closed: Totals
    traced: Totals
    compared: int
    differences: tuple[Difference, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is unexplained."""
        return all(difference.excused for difference in self.differences)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "case": self.name,
            "closed_form": asdict(self.closed),
            "compared": self.compared,
            "differences": [asdict(difference) for difference in self.differences],
            "ok": self.ok,
            "scenario": dict(self.scenario),
            "trace": asdict(self.traced),
        }


def closed_totals(tree: CostTree) -> Totals:
    """Totals of the closed form."""
    stages = tree.stages
    vision = stages["vision"].matrix_flops + stages["projector"].matrix_flops
    decode = stages["decode"].matrix_flops
    return Totals(vision, tree.total.matrix_flops - decode, decode, tree.peak.bytes)


def traced_totals(document: CallGraph, steps: int) -> Totals:
    """Totals of the trace; steps beyond the traced ones follow from the first two, whose difference is constant."""
    stages = document.stages
    vision = _matrix(stages.get("vision")) + _matrix(stages.get("projector"))
    through_first = sum(_matrix(cost) for stage, cost in stages.items() if stage != DECODE)
    each = [_forward_flops(forward) for forward in document.forwards if forward.name.startswith(DECODE)]
    peak = document.peak.bytes if document.peak is not None else 0
    return Totals(vision, through_first, extrapolated(each, steps), peak)


def extrapolated(each: list[int], steps: int) -> int:
    """The sum over ``steps`` terms of a progression whose first one or two are given."""
    if steps <= len(each):
        return sum(each[:steps])
    first, second = each[:2]
    return steps * first + (second - first) * (steps * (steps - 1) // 2)


def _matrix(cost: Cost | None) -> int:
    return cost.matrix_flops if cost is not None else 0


def _forward_flops(forward: Forward) -> int:
    return sum(cost.own.matrix_flops for cost in forward.costs.values())
