"""What a notebook shows of a report: its main figures, and every stage with what bounds it."""

from __future__ import annotations

from modelmeter.contracts.report import AnalyticModelReport, Interval
from modelmeter.schema.notebook import by_stage, notebook_table
from modelmeter.units import format_bytes, format_count, format_flops, format_seconds, format_share


def report_table(report: AnalyticModelReport) -> str:
    """A small HTML table; a report from elsewhere, without totals, has its total time alone."""
    device = (report.scenario or {}).get("device", {})
    where = device.get("name") if isinstance(device, dict) else None
    caption = report.model.model_id + (f" on {where}" if where else "")
    totals, capacity = report.totals, report.capacity
    facts = {"time": format_seconds(report.predicted_total_time_ms / 1e3)}
    if capacity is not None:
        facts["time"] = _spread(capacity.total_time_s)
        facts["first token"] = format_seconds(capacity.time_to_first_token_s.estimate)
        if capacity.pages_per_s is not None:
            facts["pages per second"] = f"{capacity.pages_per_s.estimate:.3g}"
        facts["memory"] = f"{format_bytes(capacity.memory_bytes)} of {format_bytes(capacity.memory_capacity_bytes)}"
    rows = []
    if totals is not None:
        facts["parameters"] = format_count(totals.parameters)
        whole = report.predicted_total_time_ms / 1e3
        for stage, part in by_stage(totals.stages):
            if not part.costs.launches:
                continue
            flops = part.costs.matrix_flops + part.costs.vector_flops
            moved = part.costs.bytes_read + part.costs.bytes_written
            seconds = part.time_s.estimate
            rows.append(
                (
                    stage,
                    format_seconds(seconds),
                    format_share(seconds, whole),
                    format_flops(flops),
                    format_bytes(moved),
                    part.bound or "",
                )
            )
    columns = ("Stage", "Time", "Share", "FLOPs", "Bytes moved", "Bound by")
    return notebook_table(caption, facts, columns, rows, f"Report {report.report_id}")


def _spread(interval: Interval) -> str:
    low, high = format_seconds(interval.low), format_seconds(interval.high)
    return f"{format_seconds(interval.estimate)} ({low} to {high})"
