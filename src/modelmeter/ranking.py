"""The order of things by an estimate.

An estimate is a sum of floats, and the last digits of a sum depend on the order in which it was taken: two numbers
that agree in nine digits count as equal here, and what is equal stands in the order of its name, on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping

_DIGITS = 9


def without_noise(value: float) -> float:
    """A number without the digits that only say in which order it was added up."""
    return float(f"{value:.{_DIGITS}g}")


def largest_first(values: Mapping[str, float]) -> list[str]:
    """Names by their numbers, the largest first."""
    return sorted(values, key=lambda name: (-without_noise(values[name]), name))
