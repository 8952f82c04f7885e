"""Graphs of expressions compiled into plain Python functions of plain numbers.

The function works out every node once, in order; a node that is used once is written into the line that
uses it. For many scenarios at once see ``cost.arrays``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.expression import Expression, in_order, is_node

_SIGNS = {"add": "+", "sub": "-", "mul": "*", "floordiv": "//", "truediv": "/", "equal": "==", "less": "<"}

_COMPARISONS = ("equal", "less")
_CHOICES = {"maximum": ">=", "minimum": "<="}

_DEEPEST = 40
"""Nested parentheses in one line; Python's parser has a limit."""

Function = Callable[..., list[Number]]


def compile_for_numbers(roots: Sequence[Number], keys: Sequence[str] | None = None) -> tuple[Function, list[str]]:
    """A function that gives the values of the roots as a list, and the keys whose values it takes, in order.

    The keys are those of the graph, sorted, unless they are given.
    """
    order = in_order(roots)
    if keys is None:
        keys = sorted(node.arguments[0] for node in order if node.operation == "key")
    uses = Counter(id(root) for root in roots if is_node(root))
    counted: set[int] = {*uses}
    """Comparisons whose 0 or 1 is used as a number; the others only decide."""
    for node in order:
        for place, argument in enumerate(node.arguments):
            if is_node(argument):
                uses[id(argument)] += 1
                if node.operation != "where" or place:
                    counted.add(id(argument))
    variables = {name: f"k{place}" for place, name in enumerate(keys)}
    texts: dict[int, str] = {}
    depths: dict[int, int] = {}
    lines: list[str] = []

    def text_of(argument: Any) -> str:
        return texts[id(argument)] if is_node(argument) else repr(argument)

    for node in order:
        if node.operation == "key":
            texts[id(node)] = variables[node.arguments[0]]
            continue
        written = _text(node, [text_of(argument) for argument in node.arguments], counts=id(node) in counted)
        depth = 1 + max((depths.get(id(argument), 0) for argument in node.arguments if is_node(argument)), default=0)
        if uses[id(node)] > 1 or depth > _DEEPEST:
            name = f"v{len(lines)}"
            lines.append(f"    {name} = {written}")
            texts[id(node)] = name
        else:
            texts[id(node)] = f"({written})"
            depths[id(node)] = depth
    result = ", ".join(text_of(root) for root in roots)
    source = "\n".join((f"def function({', '.join(variables.values())}):", *lines, f"    return [{result}]"))
    space: dict[str, Any] = {}
    exec(compile(source, "<closed form>", "exec"), space)
    function: Function = space["function"]
    return function, list(keys)


def _text(node: Expression, arguments: list[str], *, counts: bool) -> str:
    a, b = arguments[:2]
    if node.operation == "where":
        return f"{b} if {a} else {arguments[2]}"
    if node.operation in _CHOICES:
        (a, named_a), (b, named_b) = _named(node.arguments[0], a), _named(node.arguments[1], b)
        return f"{a} if {named_a} {_CHOICES[node.operation]} {named_b} else {b}"
    compared = f"{a} {_SIGNS[node.operation]} {b}"
    return f"1 if {compared} else 0" if counts and node.operation in _COMPARISONS else compared


def _named(argument: Any, text: str) -> tuple[str, str]:
    """A name for what is written twice, and the text that gives it this name on the way."""
    if not text.startswith("("):
        return text, text
    name = f"n{id(argument)}"
    return name, f"({name} := {text})"
