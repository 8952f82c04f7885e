"""Numbers that a report's expressions give, compared with those that the report says."""

from __future__ import annotations

import pytest

from modelmeter.contracts.report import AnalyticModelReport


def compare_numbers(numbers: dict[str, float], found: AnalyticModelReport) -> None:
    """Every stage's costs and times, and what is held in memory."""
    assert found.totals is not None
    for stage, totals in found.totals.stages.items():
        for name in ("matrix_flops", "vector_flops", "bytes_read", "eager_bytes_written", "launches"):
            parts = [number for place, number in numbers.items() if place.endswith(f"/{stage}/{name}")]
            assert sum(parts) == getattr(totals.costs, name)
        for case in ("low", "estimate", "high"):
            seconds = sum(number for place, number in numbers.items() if place.endswith(f"/{stage}/time_s.{case}"))
            assert seconds == pytest.approx(getattr(totals.time_s, case), rel=1e-12, abs=1e-18)
    assert numbers["totals/peak_live_bytes"] == found.totals.peak_live_bytes
    assert numbers["totals/weight_bytes"] == found.totals.weight_bytes
