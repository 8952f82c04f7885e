"""Plain data as YAML text: keys sorted, the same bytes for the same data.

A library's emitter takes seconds for a report, and a report is to be there within one. What is written is a
small part of YAML 1.2 that every reader of it knows: block mappings and sequences, short rows on one line,
numbers as in JSON, and text that is plain only where no reader could take it for anything else, in double
quotes otherwise.
"""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[./ -][A-Za-z0-9_]+)*")

_WORDS = frozenset("null true false yes no on off y n nan inf".split())
"""Plain words that some reader takes for something else than text, in any case of letters."""

_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]|[^\\S ]")


_SHORT, _KINDS = 6, frozenset((str, int, float, bool, type(None)))
"""Rows of so few plain values stand on one line."""


def dump_yaml(data: Any) -> str:
    """YAML text of plain data. Raises ValueError for numbers that are not finite, TypeError for what is not plain."""
    lines: list[str] = []
    if isinstance(data, (dict, list)) and data:
        _block(data, "", lines)
    else:
        lines.append(_scalar(data))
    return "\n".join(lines) + "\n"


def _block(data: Any, indent: str, lines: list[str], first: str | None = None) -> None:
    """Lines of a mapping or a sequence; ``first`` is what the first line begins with, after a dash."""
    begin = indent if first is None else first
    if isinstance(data, dict):
        for key in sorted(data):
            value = data[key]
            if isinstance(value, (dict, list)) and value:
                lines.append(f"{begin}{_text(key)}:")
                _block(value, f"{indent}  ", lines)
            else:
                lines.append(f"{begin}{_text(key)}: {_scalar(value)}")
            begin = indent
    else:
        for value in data:
            if isinstance(value, list) and 0 < len(value) <= _SHORT and _KINDS.issuperset(map(type, value)):
                lines.append(f"{begin}- [{', '.join(map(_scalar, value))}]")
            elif isinstance(value, (dict, list)) and value:
                _block(value, f"{indent}  ", lines, first=f"{begin}- ")
            else:
                lines.append(f"{begin}- {_scalar(value)}")
            begin = indent


def _scalar(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is float:
        return _number(value)
    if kind is int:
        return str(value)
    if value is None or kind is bool:
        return json.dumps(value)
    if kind in (dict, list):
        return "{}" if kind is dict else "[]"
    raise TypeError(f"{kind.__name__} is no plain data")


def _number(value: float) -> str:
    """As in JSON, but with a point before the exponent: YAML 1.1 takes 1e-05 for text."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is no number of a document")
    mantissa, exponent, power = repr(value).partition("e")
    if exponent and "." not in mantissa:
        mantissa += ".0"
    return f"{mantissa}{exponent}{power}"


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"{type(value).__name__} is no key")
    return _written(value)


@lru_cache(maxsize=4096)
def _written(value: str) -> str:
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return _UNPRINTABLE.sub(_escaped, json.dumps(value, ensure_ascii=False))


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
