"""How documents write numbers: one unit a column, so that rows can be added up by eye."""

from __future__ import annotations

from modelmeter.contracts.report import Interval
from modelmeter.units import format_seconds

TERA, GIGA, MILLI = 1e12, 1e9, 1e3


def whole(number: float) -> str:
    """A whole number in groups of three digits."""
    return f"{number:,.0f}"


def giga(number: float) -> str:
    """In 10**9, three decimals."""
    return f"{number / GIGA:,.3f}"


def milli(ms: float) -> str:
    """Milliseconds, three decimals."""
    return f"{ms:,.3f}"


def share(part: float) -> str:
    """A share in per cent, one decimal."""
    return f"{100 * part:.1f}%"


def seconds(interval: Interval) -> str:
    """A time with its interval."""
    return f"{format_seconds(interval.estimate)} ({format_seconds(interval.low)} to {format_seconds(interval.high)})"


def rate(interval: Interval, unit: str) -> str:
    """A rate or price with its interval, three significant digits."""
    return f"{_three(interval.estimate)} {unit} ({_three(interval.low)} to {_three(interval.high)})"


def _three(number: float) -> str:
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:#.3g}" if number else "0"
