"""The few helpers that a closed form uses besides ``+ - * //``.

Each takes Python ints (exact), NumPy arrays (many scenarios at once), SymPy symbols (the formula that
is printed) and the package's own ``Expression`` (which is compiled and written into reports). So a
closed form is one function of sizes, whatever it is asked for.

A condition is a number: 1 where it holds, else 0.
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

Number: TypeAlias = Any
"""An int, a float, an integer or float array, a SymPy expression or an ``Expression``."""

_PLAIN = (int, float)


def ceil_div(a: Number, b: Number) -> Number:
    """The smallest whole number that is at least a / b."""
    return -(-a // b)


def maximum(a: Number, b: Number) -> Number:
    """The larger of two numbers."""
    if isinstance(a, _PLAIN) and isinstance(b, _PLAIN):
        return a if a >= b else b
    return _dispatch("maximum", a, b)


def minimum(a: Number, b: Number) -> Number:
    """The smaller of two numbers."""
    if isinstance(a, _PLAIN) and isinstance(b, _PLAIN):
        return a if a <= b else b
    return _dispatch("minimum", a, b)


def equal(a: Number, b: Number) -> Number:
    """1 where a equals b, else 0."""
    if isinstance(a, _PLAIN) and isinstance(b, _PLAIN):
        return int(a == b)
    return _dispatch("equal", a, b)


def less(a: Number, b: Number) -> Number:
    """1 where a is less than b, else 0."""
    if isinstance(a, _PLAIN) and isinstance(b, _PLAIN):
        return int(a < b)
    return _dispatch("less", a, b)


def differs(a: Number, b: Number) -> Number:
    """1 where a and b differ, else 0."""
    return 1 - equal(a, b)


def where(condition: Number, a: Number, b: Number) -> Number:
    """a where the condition is not 0, else b."""
    if isinstance(condition, _PLAIN):
        return a if condition else b
    return _dispatch("where", condition, a, b)


def total(numbers: Any) -> Number:
    """The sum of some numbers."""
    result: Number = 0
    for number in numbers:
        result = result + number
    return result


def largest(numbers: Any) -> Number:
    """The largest of some numbers, at least 0."""
    result: Number = 0
    for number in numbers:
        result = maximum(result, number)
    return result


def _dispatch(name: str, *values: Number) -> Number:
    from modelmeter.cost.expression import Expression, apply

    if any(isinstance(value, Expression) for value in values):
        return apply(name, *values)
    sympy = sys.modules.get("sympy")
    if sympy is not None and any(isinstance(value, sympy.Basic) for value in values):
        return _symbolic(sympy, name, *values)
    return _arrays(name, *values)


def _symbolic(sympy: Any, name: str, *values: Number) -> Number:
    if name == "where":
        condition, a, b = values
        return sympy.Piecewise((a, sympy.Ne(condition, 0)), (b, True))
    if name in ("equal", "less"):
        relation = sympy.Eq(*values) if name == "equal" else sympy.Lt(*values)
        return sympy.Piecewise((1, relation), (0, True))
    return (sympy.Max if name == "maximum" else sympy.Min)(*values)


def _arrays(name: str, *values: Number) -> Number:
    import numpy as np

    if name == "equal":
        return np.equal(*values).astype(np.int64)
    if name == "less":
        return np.less(*values).astype(np.int64)
    if name == "where":
        condition, a, b = values
        return np.where(np.asarray(condition) != 0, a, b)
    return (np.maximum if name == "maximum" else np.minimum)(*values)
