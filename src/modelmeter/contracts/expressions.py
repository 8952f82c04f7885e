"""A report's expressions worked out: plain data in, numbers out, as a consumer in another language would do it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def evaluate_graph(expressions: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The value of every root of a report's ``expressions``, with values for their keys."""
    found: list[Any] = []
    for operation, *arguments in expressions["nodes"]:
        if operation == "number":
            found.append(arguments[0])
            continue
        if operation == "key":
            found.append(values[arguments[0]])
            continue
        a, b = found[arguments[0]], found[arguments[1]]
        match operation:
            case "add":
                result = a + b
            case "sub":
                result = a - b
            case "mul":
                result = a * b
            case "floordiv":
                result = a // b
            case "truediv":
                result = a / b
            case "maximum":
                result = max(a, b)
            case "minimum":
                result = min(a, b)
            case "equal":
                result = int(a == b)
            case "less":
                result = int(a < b)
            case _:
                result = b if a else found[arguments[2]]
        found.append(result)
    return {name: found[place] for name, place in expressions["roots"].items()}
