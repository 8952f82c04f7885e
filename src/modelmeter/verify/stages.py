"""Sums over the stages of a run."""

from __future__ import annotations

from modelmeter.schema.callgraph import CallGraph, Cost
from modelmeter.schema.cost import CostTree
from modelmeter.verify.difference import Difference

METRICS = {
    "matrix_flops": "matrix_flops",
    "vector_flops": "vector_flops",
    "bytes_read": "eager_bytes_read",
    "bytes_written": "eager_bytes_written",
    "launches": "launches",
}
"""A traced cost to the closed form's."""


def compare_stages(tree: CostTree, document: CallGraph, stages: tuple[str, ...] = ()) -> tuple[list[Difference], int]:
    """Every stage's costs, of all modules together: (differences, compared). ``stages``: these alone, if any."""
    found: list[Difference] = []
    sums = {stage: amount for stage, amount in tree.stages.items() if not stages or stage in stages}
    for stage, amount in sums.items():
        traced = document.stages.get(stage, Cost())
        for theirs, ours in METRICS.items():
            closed, number = getattr(amount, ours), getattr(traced, theirs)
            if closed != number:
                found.append(Difference(tree.root.id, f"stage {stage}", ours, closed, number))
    return found, len(sums) * len(METRICS)
