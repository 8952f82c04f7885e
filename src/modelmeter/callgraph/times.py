"""Measured times of some forwards only."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

_NOT_SUMMED = ("name", "wall_ms")


def times_of_forwards(times: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """``CallGraph.times`` summed over these forwards.

    Operators are held for all forwards together, so they are kept only for modules that ran in no other.
    """
    found: dict[str, Any] = {}
    for module, entry in times.items():
        parts = [part for part in entry["forwards"] if part["name"] in names]
        if not parts:
            continue
        sums = {key: sum(part[key] for part in parts) for key in parts[0] if key not in _NOT_SUMMED}
        whole = len(parts) == len(entry["forwards"])
        found[module] = {**sums, "operators": entry["operators"] if whole else {}, "forwards": parts}
    return found
