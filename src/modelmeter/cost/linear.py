"""Sums of expressions in their simplest form: each part once, with what it is multiplied by.

A closed form adds sizes up operator by operator, and live memory grows and shrinks tensor by tensor. Seen
as linear combinations, most of these sums are short, and most moments hold what another one holds as
well. Integers stay exact, since only their order of adding changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

from modelmeter.cost.arithmetic import Number, maximum
from modelmeter.cost.expression import Expression, in_order, is_node
from modelmeter.cost.ranges import ranges

Combination = dict[Number, int]
"""Parts that are no sums to how often they are taken; the number itself stands under ``_ONE``."""

_ONE = 1

_LARGEST_KEY = 2**200
"""More than any size is; keys are sizes, so they are never negative."""


class Sums:
    """Rewrites sums of some integers, each a number or an expression."""

    def __init__(self, numbers: Iterable[Number]) -> None:
        self._combinations: dict[int, Combination] = {}
        order = in_order(numbers)
        for node in order:
            self._combinations[id(node)] = self._taken_apart(node)
        keys = {node.arguments[0]: (0, _LARGEST_KEY) for node in order if node.operation == "key"}
        self._ranges = ranges(order, keys)

    def total(self, numbers: Iterable[Number]) -> Number:
        """The sum of some of the numbers."""
        found: Combination = {}
        for number in numbers:
            _add(found, self._combination(number), 1)
        return _written(found)

    def largest(self, numbers: Iterable[Number]) -> Number:
        """The largest of some of the numbers, at least 0.

        Numbers that another one exceeds whatever the sizes are do not appear in it.
        """
        distinct = {frozenset(found.items()): found for found in ({}, *map(self._combination, numbers))}
        kept: list[Combination] = []
        for found in sorted(distinct.values(), key=len, reverse=True):
            if not any(self._exceeds(other, found) for other in kept):
                kept = [other for other in kept if not self._exceeds(found, other)]
                kept.append(found)
        return reduce(maximum, map(_written, kept))

    def _combination(self, number: Number) -> Combination:
        if is_node(number):
            return self._combinations[id(number)]
        return {_ONE: number} if number else {}

    def _taken_apart(self, node: Expression) -> Combination:
        if node.operation in ("add", "sub"):
            a, b = map(self._combination, node.arguments)
            found = dict(a)
            _add(found, b, 1 if node.operation == "add" else -1)
            return found
        if node.operation == "mul":
            for factor, other in (node.arguments, node.arguments[::-1]):
                if not is_node(factor):
                    return {part: times * factor for part, times in self._combination(other).items()}
        return {node: 1}

    def _exceeds(self, a: Combination, b: Combination) -> bool:
        """Whether a is at least b whatever the sizes are."""
        for part in {**a, **b}:
            more = a.get(part, 0) - b.get(part, 0)
            if more < 0 or (more and is_node(part) and self._ranges[id(part)][0] < 0):
                return False
        return True


def _add(found: Combination, other: Combination, times: int) -> None:
    for part, often in other.items():
        together = found.get(part, 0) + often * times
        if together:
            found[part] = together
        else:
            found.pop(part, None)


def _written(combination: Combination) -> Number:
    result: Number = 0
    for part, times in combination.items():
        result = result + part * times
    return result
