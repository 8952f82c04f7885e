"""Two reports side by side: how many times as much of everything the second one has."""

from __future__ import annotations

from collections.abc import Iterator

from modelmeter.contracts.report import AnalyticModelReport


def ratios(before: AnalyticModelReport, after: AnalyticModelReport) -> dict[str, float]:
    """After over before, by name; what was nothing before has no ratio.

    ``stage.decode.time`` and the like for every stage; ``total.matrix_flops`` and the other exact totals;
    ``capacity.pages_per_s`` and the other capacities, by their estimates.
    """
    found: dict[str, float] = {}
    theirs = dict(_numbers(after))
    for name, number in _numbers(before):
        if number and name in theirs:
            found[name] = theirs[name] / number
    return found


def _numbers(report: AnalyticModelReport) -> Iterator[tuple[str, float]]:
    totals, capacity = report.totals, report.capacity
    assert totals is not None and capacity is not None
    for stage, part in totals.stages.items():
        costs = part.costs
        yield f"stage.{stage}.time", part.time_s.estimate
        yield f"stage.{stage}.flops", costs.matrix_flops + costs.vector_flops
        yield f"stage.{stage}.bytes", costs.bytes_read + costs.bytes_written
        yield f"stage.{stage}.launches", costs.launches
    yield "total.time", capacity.total_time_s.estimate
    yield "total.flops", totals.costs.matrix_flops + totals.costs.vector_flops
    yield "total.bytes", totals.costs.bytes_read + totals.costs.bytes_written
    yield "total.launches", totals.costs.launches
    yield "total.weight_bytes", totals.weight_bytes
    yield "total.kv_cache_bytes", totals.kv_cache_bytes
    yield "total.peak_live_bytes", totals.peak_live_bytes
    for name in (
        "time_to_first_token_s",
        "time_per_output_token_s",
        "tokens_per_s",
        "pages_per_s",
        "price_per_1000_pages_usd",
    ):
        interval = getattr(capacity, name)
        if interval is not None:
            yield f"capacity.{name}", interval.estimate
    yield "capacity.memory_bytes", capacity.memory_bytes
    if capacity.largest_batch is not None:
        yield "capacity.largest_batch", capacity.largest_batch
