"""Operators by name: one pure function each, a duplicate refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Formula = TypeVar("Formula", bound=Callable[..., Any])

OPERATORS: dict[str, Callable[..., Any]] = {}
"""Name of an operator to the function that puts it on a tape."""


def operator(formula: Formula) -> Formula:
    """Register a formula under its function's name."""
    name = formula.__name__
    if name in OPERATORS:
        raise ValueError(f"two formulas are named {name}")
    OPERATORS[name] = formula
    return formula
