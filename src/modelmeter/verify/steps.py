"""Decode steps beyond the traced ones: the closed form's sum against the progression that the trace begins."""

from __future__ import annotations

from modelmeter.schema.callgraph import CallGraph
from modelmeter.schema.cost import DECODE, CostTree
from modelmeter.verify.compare import closed_numbers
from modelmeter.verify.difference import Difference
from modelmeter.verify.result import extrapolated
from modelmeter.verify.traced import members, numbers_of_forward

REGULAR_POLICIES = ("balanced", "worst")
"""Policies that give every step the same table. Under others how many experts are called changes from step to step."""

IRREGULAR_METRICS = ("calls", "launches", "eager_bytes_read")


def compare_steps(tree: CostTree, document: CallGraph, steps: int, routing: str) -> tuple[list[Difference], int]:
    """The closed form's sum over all steps against the trace's first two, continued: (differences, compared)."""
    forwards = [forward for forward in document.forwards if forward.name.startswith(DECODE)]
    if steps <= len(forwards):
        return [], 0
    differences: list[Difference] = []
    compared = 0
    for node in tree.nodes:
        names = members(node.id)
        each = [numbers_of_forward(forward, names) for forward in forwards]
        closed = closed_numbers(node)
        for metric in sorted({metric for numbers in each for _, metric in numbers}):
            if routing not in REGULAR_POLICIES and metric in IRREGULAR_METRICS and "experts" in node.id:
                continue
            compared += 1
            mine = closed.get((DECODE, metric), 0)
            theirs = extrapolated([numbers.get((DECODE, metric), 0) for numbers in each], steps)
            if mine != theirs:
                differences.append(Difference(node.id, f"decode, {steps} steps", metric, mine, theirs))
    return differences, compared
