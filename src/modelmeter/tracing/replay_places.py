"""Layer indices: attributes that only say which one of many a module is, watched while a model runs.

Modules that differ in such an attribute alone are alike unless their forwards make something of it. So
every read is looked at, in the source of the line that reads: handing the index to a cache, and taking
the layer's slice of a tensor without values, make no difference that the document could show.
"""

from __future__ import annotations

import ast
import functools
import linecache
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, TypeGuard

from torch import nn

from modelmeter.tracing.modules import BOOKKEEPING
from modelmeter.tracing.signatures import CACHE_ARGUMENTS

FOR_A_CACHE, IN_A_SLICE, OPEN = "handed to a cache", "in a slice of a tensor", "open"
"""What is made of an index: the first two are harmless, the second one where no tensor has values."""

_RUNS = (ast.Call, ast.Subscript, ast.BinOp, ast.UnaryOp, ast.Compare, ast.IfExp, ast.NamedExpr)
"""Expressions that may run an operation."""

Note = Callable[[nn.Module, str], None]
"""Takes a module whose index is read, and what is made of it."""


@contextmanager
def watched_places(root: nn.Module, note: Note) -> Iterator[None]:
    """Tell of every read of an index of a module, by a property of its class for the time of a block."""
    added: list[tuple[type, str]] = []
    try:
        for module in root.modules():
            for name in vars(module):
                if name in BOOKKEEPING and not hasattr(type(module), name):
                    setattr(type(module), name, _watching(name, note))
                    added.append((type(module), name))
        yield
    finally:
        for kind, name in added:
            delattr(kind, name)


class WatchedPlace(property):
    """An index whose reads are told of."""


def _watching(name: str, note: Note) -> WatchedPlace:
    def read(module: nn.Module) -> Any:
        if name not in module.__dict__:
            raise AttributeError(f"{type(module).__name__!r} object has no attribute {name!r}")
        note(module, _use(sys._getframe(1)))
        return module.__dict__[name]

    def write(module: nn.Module, value: Any) -> None:
        module.__dict__[name] = value

    def remove(module: nn.Module) -> None:
        del module.__dict__[name]

    return WatchedPlace(read, write, remove)


def _use(frame: FrameType) -> str:
    return _use_at(frame.f_code, frame.f_lasti)


@functools.lru_cache(maxsize=4096)
def _use_at(code: CodeType, instruction: int) -> str:
    """What the source makes of the value that an instruction reads."""
    positions = list(code.co_positions())[instruction // 2]
    return _uses(code.co_filename).get(positions, OPEN)


@functools.lru_cache(maxsize=256)
def _uses(path: str) -> dict[tuple[int | None, ...], str]:
    """Every place in a file where an index is read and nothing open is made of it."""
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except (SyntaxError, ValueError):
        return {}
    found: dict[tuple[int | None, ...], str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_of_cache(node.func):
            for value in (*node.args, *(keyword.value for keyword in node.keywords)):
                _add(found, value, FOR_A_CACHE)
        elif isinstance(node, ast.Subscript) and _takes_slices(node.slice):
            for value in node.slice.elts:
                _add(found, value, IN_A_SLICE)
    return found


def _add(found: dict[tuple[int | None, ...], str], value: ast.expr, use: str) -> None:
    if isinstance(value, ast.Attribute) and value.attr in BOOKKEEPING:
        found[value.lineno, value.end_lineno, value.col_offset, value.end_col_offset] = use


def _takes_slices(index: ast.expr) -> TypeGuard[ast.Tuple]:
    """Whether an index of several axes cuts a slice of one of them, and nothing runs between it and the cut."""
    if not isinstance(index, ast.Tuple) or any(isinstance(part, _RUNS) for part in ast.walk(index)):
        return False
    return any(isinstance(part, ast.Slice) for part in index.elts)


def _is_of_cache(called: ast.expr) -> bool:
    """Whether a call is of a method of what is named like a cache."""
    if not isinstance(called, ast.Attribute):
        return False
    owner = called.value
    return (isinstance(owner, ast.Name) and owner.id in CACHE_ARGUMENTS) or (
        isinstance(owner, ast.Attribute) and owner.attr in CACHE_ARGUMENTS
    )
