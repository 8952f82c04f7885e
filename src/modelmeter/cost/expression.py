"""Closed forms as data: a graph of numbers, keys and operations, with equal parts shared.

Where the closed forms are called with keys instead of numbers, they build such a graph once. It can
then be compiled into a plain function (fast for one scenario, and for arrays of a million), bounded
(to see where 64 bits are too few), printed by SymPy, and written into a report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from modelmeter.cost.arithmetic import Number

OPERATIONS = ("add", "sub", "mul", "floordiv", "truediv", "maximum", "minimum", "equal", "less", "where")
"""What a node can be besides a number and a key."""


class Expression:
    """One node: an operation and its arguments, each a node or a plain number. Equal nodes are one object."""

    __slots__ = ("arguments", "operation")
    operation: str
    arguments: tuple[Any, ...]

    _known: dict[tuple[Any, ...], Expression] = {}  # noqa: RUF012

    def __init__(self, operation: str, arguments: tuple[Any, ...]) -> None:
        self.operation = operation
        self.arguments = arguments

    def __add__(self, other: Number) -> Number:
        return apply("add", self, other)

    def __radd__(self, other: Number) -> Number:
        return apply("add", other, self)

    def __sub__(self, other: Number) -> Number:
        return apply("sub", self, other)

    def __rsub__(self, other: Number) -> Number:
        return apply("sub", other, self)

    def __mul__(self, other: Number) -> Number:
        return apply("mul", self, other)

    def __rmul__(self, other: Number) -> Number:
        return apply("mul", other, self)

    def __floordiv__(self, other: Number) -> Number:
        return apply("floordiv", self, other)

    def __rfloordiv__(self, other: Number) -> Number:
        return apply("floordiv", other, self)

    def __truediv__(self, other: Number) -> Number:
        return apply("truediv", self, other)

    def __rtruediv__(self, other: Number) -> Number:
        return apply("truediv", other, self)

    def __neg__(self) -> Number:
        return apply("sub", 0, self)

    def __bool__(self) -> bool:
        raise TypeError("a closed form must not branch on a size: use where() of modelmeter.cost.arithmetic")

    def __repr__(self) -> str:
        if self.operation == "key":
            return str(self.arguments[0])
        return f"{self.operation}({', '.join(map(repr, self.arguments))})"


def key(name: str) -> Expression:
    """A number that is not known yet."""
    return _node("key", (name,))


_PLAIN = (int, float)


def apply(operation: str, *arguments: Number) -> Number:
    """An operation over nodes and numbers: a number where it can be worked out, else a node."""
    if all(isinstance(argument, _PLAIN) for argument in arguments):
        return _evaluate(operation, arguments)
    a, b = arguments[0], arguments[1]
    if operation == "add":
        if _is(a, 0):
            return b
        if _is(b, 0):
            return a
    elif operation == "sub":
        if _is(b, 0):
            return a
        if a is b:
            return 0
    elif operation == "mul":
        if _is(a, 0) or _is(b, 0):
            return 0
        if _is(a, 1):
            return b
        if _is(b, 1):
            return a
    elif operation in ("floordiv", "truediv"):
        if _is(a, 0):
            return 0
        if operation == "floordiv" and _is(b, 1):
            return a
    elif operation in ("maximum", "minimum"):
        if a is b:
            return a
    elif operation == "where":
        condition, yes, no = arguments
        if isinstance(condition, _PLAIN):
            return yes if condition else no
        if yes is no or (isinstance(yes, _PLAIN) and isinstance(no, _PLAIN) and yes == no):
            return yes
    return _node(operation, arguments)


def _is(value: Number, number: int) -> bool:
    return isinstance(value, _PLAIN) and value == number


def _node(operation: str, arguments: tuple[Any, ...]) -> Expression:
    # 1 and 1.0 are equal but not the same number: the type is part of what makes two nodes one.
    place = (operation, *((type(a), a) if isinstance(a, _PLAIN) else a for a in arguments))
    found = Expression._known.get(place)
    if found is None:
        found = Expression._known[place] = Expression(operation, arguments)
    return found


def _evaluate(operation: str, arguments: tuple[Any, ...]) -> Number:
    if operation == "where":
        return arguments[1] if arguments[0] else arguments[2]
    a, b = arguments
    match operation:
        case "add":
            return a + b
        case "sub":
            return a - b
        case "mul":
            return a * b
        case "floordiv":
            return a // b
        case "truediv":
            return a / b
        case "maximum":
            return a if a >= b else b
        case "minimum":
            return a if a <= b else b
        case "equal":
            return int(a == b)
        case "less":
            return int(a < b)
    raise AssertionError(operation)


def in_order(roots: Iterable[Number]) -> list[Expression]:
    """All nodes below some, each once and after its arguments."""
    order: list[Expression] = []
    seen: set[int] = set()
    stack: list[tuple[Expression, bool]] = [(root, False) for root in reversed(list(roots)) if is_node(root)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            order.append(node)
            continue
        if id(node) in seen:
            continue
        seen.add(id(node))
        stack.append((node, True))
        stack.extend((argument, False) for argument in reversed(node.arguments) if is_node(argument))
    return order


def is_node(value: Number) -> bool:
    """Whether a value is a node of a graph, not a plain number or the name in a key."""
    return isinstance(value, Expression)


def keys_of(roots: Iterable[Number]) -> list[str]:
    """Names of the keys below some nodes, sorted."""
    return sorted(node.arguments[0] for node in in_order(roots) if node.operation == "key")


def evaluate(root: Number, values: Mapping[str, Number]) -> Number:
    """The value of a node for given keys; values may be ints, arrays or SymPy symbols."""
    return evaluate_all([root], values)[0]


def evaluate_all(roots: list[Number], values: Mapping[str, Number]) -> list[Number]:
    """The values of some nodes for given keys; slow, for checks and for SymPy."""
    from modelmeter.cost import arithmetic

    known: dict[int, Number] = {}

    def value_of(argument: Any) -> Number:
        return known[id(argument)] if is_node(argument) else argument

    for node in in_order(roots):
        if node.operation == "key":
            known[id(node)] = values[node.arguments[0]]
            continue
        arguments = [value_of(argument) for argument in node.arguments]
        if node.operation in ("maximum", "minimum", "equal", "less", "where"):
            known[id(node)] = getattr(arithmetic, node.operation)(*arguments)
        else:
            a, b = arguments
            match node.operation:
                case "add":
                    known[id(node)] = a + b
                case "sub":
                    known[id(node)] = a - b
                case "mul":
                    known[id(node)] = a * b
                case "floordiv":
                    known[id(node)] = a // b
                case _:
                    known[id(node)] = a / b
    return [value_of(root) for root in roots]
