"""Reading back the YAML that ``yaml_text`` writes, without a library's seconds for a report.

Whatever is not written exactly so is left to the library: what was read is written again, and counts only if
that gives the same text.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

from modelmeter.contracts.yaml_text import dump_yaml

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ENTRY = re.compile(rf"({_QUOTED}|[^\s\"':#-][^:#\"']*):(?: (.+))?")
_ITEM = re.compile(rf"{_QUOTED}|[^,\s][^,]*")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")
_WORDS: dict[str, Any] = {"null": None, "true": True, "false": False}


def read_own_yaml(text: str) -> Any:
    """Plain data of a text that ``dump_yaml`` wrote. Raises ValueError for any other text."""
    with contextlib.suppress(ValueError, IndexError, TypeError, RecursionError):
        data = _Reader(text).whole()
        if dump_yaml(data) == text:
            return data
    raise ValueError("this YAML was written by another program")


class _Reader:
    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._at = 0

    def whole(self) -> Any:
        line = self._lines[0]
        return self._block(0) if line.startswith("- ") or _ENTRY.fullmatch(line) else self._scalar(line)

    def _block(self, indent: int) -> Any:
        return self._sequence(indent) if self._rest(indent).startswith("- ") else self._mapping(indent)

    def _rest(self, indent: int) -> str:
        """The current line without its indentation; empty where it belongs to another block."""
        line = self._lines[self._at]
        return line[indent:] if line[:indent].isspace() or not indent else ""

    def _sequence(self, indent: int) -> list[Any]:
        found: list[Any] = []
        while (rest := self._rest(indent)).startswith("- "):
            inside = rest[2:]
            if inside.startswith("[") and inside != "[]":
                self._at += 1
                found.append([self._scalar(item) for item in _ITEM.findall(inside[1:-1])])
            elif inside.startswith("- ") or _ENTRY.fullmatch(inside):
                # What follows a dash is a block of its own, two columns further.
                self._lines[self._at] = " " * (indent + 2) + inside
                found.append(self._block(indent + 2))
            else:
                self._at += 1
                found.append(self._scalar(inside))
        return found

    def _mapping(self, indent: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while entry := _ENTRY.fullmatch(self._rest(indent)):
            self._at += 1
            key, value = entry.groups()
            name = json.loads(key) if key.startswith('"') else key
            found[name] = self._block(indent + 2) if value is None else self._scalar(value)
        if not found:
            raise ValueError(f"no entry in line {self._at + 1}")
        return found

    def _scalar(self, text: str) -> Any:
        if text.startswith('"') or text in ("{}", "[]"):
            return json.loads(text)
        if text in _WORDS:
            return _WORDS[text]
        if number := _NUMBER.fullmatch(text):
            return float(text) if number[1] or number[2] else int(text)
        return text
