"""The operator table: which operators took the time, the slowest first, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from attrs import frozen


@frozen
class OperatorRow:
    """One operator over all modules: its own time, without the operators that it calls."""

    operator: str
    calls: int
    own_ms: float
    share: float
    device_ms: float | None


def operator_rows(times: Mapping[str, Any]) -> list[OperatorRow]:
    """Rows from ``CallGraph.times``, by device time where it was measured, else by time on the host."""
    calls: dict[str, int] = {}
    host: dict[str, float] = {}
    device: dict[str, float] = {}
    for entry in times.values():
        for name, spent in entry.get("operators", {}).items():
            calls[name] = calls.get(name, 0) + spent["calls"]
            host[name] = host.get(name, 0.0) + spent["own_ms"]
            if "device_ms" in spent:
                device[name] = device.get(name, 0.0) + spent["device_ms"]
    ranked = device if any(device.values()) else host
    whole = sum(ranked.values())
    return [
        OperatorRow(name, calls[name], host[name], ranked[name] / whole if whole else 0.0, device.get(name))
        for name in sorted(calls, key=lambda name: (-ranked[name], name))
    ]


def as_markdown(rows: list[OperatorRow]) -> str:
    """A table with one line an operator and their sum."""
    on_device = any(row.device_ms is not None for row in rows)
    titles = ["operator", "calls", "time ms", *(["device ms"] if on_device else []), "share"]
    lines = [f"| {' | '.join(titles)} |", f"|---|{'---:|' * (len(titles) - 1)}"]
    for row in [*rows, _sum(rows)]:
        device = [f"{row.device_ms or 0:.3f}"] if on_device else []
        cells = [row.operator, f"{row.calls:,}", f"{row.own_ms:.3f}", *device, f"{100 * row.share:.1f} %"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def as_csv(rows: list[OperatorRow]) -> str:
    """The same rows for a program; ``device_ms`` is empty where it was not measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["operator", "calls", "own_ms", "device_ms", "share"])
    for row in rows:
        device = "" if row.device_ms is None else f"{row.device_ms:.6f}"
        writer.writerow([row.operator, row.calls, f"{row.own_ms:.6f}", device, f"{row.share:.6f}"])
    return text.getvalue()


def _sum(rows: list[OperatorRow]) -> OperatorRow:
    device = [row.device_ms for row in rows if row.device_ms is not None]
    return OperatorRow(
        "total",
        sum(row.calls for row in rows),
        sum(row.own_ms for row in rows),
        sum(row.share for row in rows),
        sum(device) if device else None,
    )
