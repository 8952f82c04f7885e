"""The smallest and the largest value of every node of a graph, for keys within ranges: interval arithmetic.

A range holds every value that a node can have; it may be wider, since what two arguments have in common
is not seen. Ends are exact where they are integers. Rounding keeps the order of floats, so their ranges
hold too.

Source: Moore, Kearfott and Cloud, Introduction to Interval Analysis (2009), chapter 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import Any

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.expression import Expression, is_node

Range = tuple[Number, Number]

UNKNOWN: Range = (-inf, inf)
"""Of a quotient whose divisor may be 0, and of what is made of it."""


def ranges(order: Iterable[Expression], keys: Mapping[str, Range]) -> dict[int, Range]:
    """The range of every node by its identity. ``order``: each node after its arguments."""
    known: dict[int, Range] = {}
    for node in order:
        if node.operation == "key":
            known[id(node)] = keys[node.arguments[0]]
        else:
            arguments = [known[id(each)] if is_node(each) else (each, each) for each in node.arguments]
            known[id(node)] = _range(node.operation, arguments)
    return known


def _range(operation: str, arguments: list[Range]) -> Range:
    if operation == "where":
        (low, high), yes, no = arguments
        if low > 0 or high < 0:
            return yes
        return no if low == high == 0 else (min(yes[0], no[0]), max(yes[1], no[1]))
    (a, b), (c, d) = arguments
    match operation:
        case "maximum":
            return max(a, c), max(b, d)
        case "minimum":
            return min(a, c), min(b, d)
        case "less":
            return int(b < c), int(a < d)
        case "equal":
            return int(a == b == c == d), int(a <= d and c <= b)
    if -inf in (a, c) or inf in (b, d):
        return UNKNOWN
    return _arithmetic(operation, a, b, c, d)


def _arithmetic(operation: str, a: Any, b: Any, c: Any, d: Any) -> Range:
    """The range of a result for arguments from a to b and from c to d."""
    match operation:
        case "add":
            return a + c, b + d
        case "sub":
            return a - d, b - c
        case "mul":
            corners = (a * c, a * d, b * c, b * d)
        case _ if c <= 0 <= d:
            return UNKNOWN
        case "floordiv":
            corners = (a // c, a // d, b // c, b // d)
        case _:
            corners = (a / c, a / d, b / c, b / d)
    return min(corners), max(corners)
