"""Figures of a document by the names that the page knows them by; nothing is worked out but what a module has alone.

``<place of the module>/<stage>/<measure>`` as ``planning.live`` names them, the stage ``all`` for the whole run,
and ``run/<figure>``. Times are seconds, memory and traffic bytes. What the document lacks has no name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelmeter.callgraph.folded import FoldedGraph
from modelmeter.callgraph.memory import memory_use
from modelmeter.callgraph.outline import subtree_parameters
from modelmeter.contracts.report import AnalyticModelReport, Capacity, Interval, ReportTotals
from modelmeter.schema.callgraph import STAGES, Cost
from modelmeter.schema.timing import BOUNDS

CASES = ("low", "estimate", "high")

Figures = dict[str, float]


def report_figures(report: AnalyticModelReport) -> Figures:
    """What a report says, for one whose expressions are not used."""
    places = {node.module_id: number for number, node in enumerate(report.modules)}
    found: Figures = {}
    for metrics in report.module_metrics:
        where = f"{places[metrics.module_id]}/all"
        found |= {
            f"{where}/bytes": _whole(metrics.total_io_tb * 1e12),
            f"{where}/cache": _whole(metrics.memory_kvcache_gb * 1e9),
            f"{where}/calls": metrics.calls,
            f"{where}/estimate": metrics.total_time_ms / 1e3,
            f"{where}/flops": _whole(metrics.total_flops_tflops * 1e12),
            f"{where}/peak": _whole(metrics.memory_activations_gb * 1e9),
            f"{where}/share": metrics.share_of_model_time,
            f"{where}/weights": _whole(metrics.memory_weights_gb * 1e9),
        }
        for part in metrics.operator_breakdown:
            found[f"{where}/{part.category_id}/calls"] = part.calls
            found[f"{where}/{part.category_id}/flops"] = _whole(part.flops_tflops * 1e12)
            found[f"{where}/{part.category_id}/bytes"] = _whole(part.io_tb * 1e12)
    for entry in report.stage_metrics or ():
        where = f"{places[entry.module_id]}/{entry.stage}"
        found |= {
            f"{where}/bound": BOUNDS.index(entry.bound) if entry.bound in BOUNDS else -1,
            f"{where}/bytes": _whole(entry.total_io_tb * 1e12),
            f"{where}/calls": entry.calls,
            f"{where}/estimate": entry.total_time_ms / 1e3,
            f"{where}/flops": _whole(entry.total_flops_tflops * 1e12),
            f"{where}/share": entry.share_of_stage_time,
        }
    found |= _own(found, [places.get(node.parent_id or "") for node in report.modules])
    if report.totals is not None:
        found |= _totals(report.totals)
    if report.capacity is not None:
        found |= _capacity(report.capacity)
    return found


def graph_figures(folded: FoldedGraph, rows: Sequence[Mapping[str, Any]]) -> Figures:
    """What a call graph says; bytes are eager ones, and times are not known."""
    source = folded.source
    places = {row["id"]: number for number, row in enumerate(rows)}
    parameters = subtree_parameters(source)
    found: Figures = {}
    for family in folded.families.values():
        where = f"{places[family.id]}/all"
        found[f"{where}/calls"] = family.calls
        if source.costs:
            found |= {f"{where}/{name}": value for name, value in _cost(family.cost.total).items()}
            found[f"{where}/own_flops"] = family.cost.own.matrix_flops + family.cost.own.vector_flops
            found[f"{where}/own_bytes"] = family.cost.own.bytes_read + family.cost.own.bytes_written
        use = memory_use(source, list(family.members), family.id)
        if source.parameters:
            found[f"{where}/weights"] = use.weight_bytes
            found[f"{where}/parameters"] = sum(parameters.get(member, 0) for member in family.members)
        if source.costs:
            found[f"{where}/peak"] = use.peak_bytes
        if source.kv_cache:
            found[f"{where}/cache"] = use.kv_cache_bytes
    for stage in STAGES:
        cost = source.stages.get(stage)
        if cost is not None and (cost.launches or cost.matrix_flops):
            found |= {f"0/{stage}/{name}": value for name, value in _cost(cost).items()}
    if source.peak is not None:
        found["run/live_bytes"] = source.peak.bytes
    return found


def packed(figures: Figures, modules: int) -> dict[str, Any]:
    """The same by column: ``columns`` has a list over all modules for each stage and measure, ``run`` the rest."""
    columns: dict[str, list[float | None]] = {}
    run: Figures = {}
    for name, value in figures.items():
        place, _, measure = name.partition("/")
        if place == "run":
            run[name] = value
            continue
        if measure not in columns:
            columns[measure] = [None] * modules
        columns[measure][int(place)] = value
    return {"columns": columns, "run": run}


def _whole(number: float) -> float:
    """Rounded figures back as whole ones, where they are."""
    return int(nearest) if abs(number - (nearest := round(number))) < 1e-3 else number


def _own(figures: Figures, parents: Sequence[int | None]) -> Figures:
    """What every module has without the modules below it."""
    below: Figures = {}
    for number, parent in enumerate(parents):
        if parent is None:
            continue
        for stage in ("all", *STAGES):
            for measure in ("flops", "bytes", "estimate"):
                name = f"{parent}/{stage}/{measure}"
                below[name] = below.get(name, 0) + figures.get(f"{number}/{stage}/{measure}", 0)
    found = {}
    for name, value in figures.items():
        where, _, measure = name.rpartition("/")
        if measure in ("flops", "bytes", "estimate") and where.count("/") == 1:
            found[f"{where}/own_{measure}"] = max(0, value - below.get(name, 0))
    return found


def _totals(totals: ReportTotals) -> Figures:
    found: Figures = {
        "0/all/cache": totals.kv_cache_bytes,
        "0/all/launches": totals.costs.launches,
        "0/all/matrix_flops": totals.costs.matrix_flops,
        "0/all/parameters": totals.parameters,
        "0/all/vector_flops": totals.costs.vector_flops,
        "0/all/weights": totals.weight_bytes,
        "run/live_bytes": totals.peak_live_bytes,
    }
    for stage, part in totals.stages.items():
        where = f"0/{stage}"
        if part.costs.launches:
            found[f"{where}/bound"] = BOUNDS.index(part.bound) if part.bound in BOUNDS else -1
            found[f"{where}/launches"] = part.costs.launches
            found |= _interval(where, part.time_s)
    return found


def _capacity(capacity: Capacity) -> Figures:
    found: Figures = {
        "run/headroom_bytes": capacity.headroom_bytes,
        "run/memory_bytes": capacity.memory_bytes,
    }
    if capacity.largest_batch is not None:
        found["run/largest_batch"] = capacity.largest_batch
    for name, interval in (
        ("total", capacity.total_time_s),
        ("first_token", capacity.time_to_first_token_s),
        ("output_token", capacity.time_per_output_token_s),
        ("tokens_per_s", capacity.tokens_per_s),
        ("pages_per_s", capacity.pages_per_s),
        ("price", capacity.price_per_1000_pages_usd),
    ):
        if interval is not None:
            found |= _interval(f"run/{name}", interval)
    slowest = capacity.total_time_s.bound_by
    if slowest in STAGES:
        found["run/slowest"] = STAGES.index(slowest)
    return found


def _interval(where: str, interval: Interval) -> Figures:
    return {f"{where}/{case}": getattr(interval, case) for case in CASES}


def _cost(cost: Cost) -> Figures:
    return {
        "bytes": cost.bytes_read + cost.bytes_written,
        "flops": cost.matrix_flops + cost.vector_flops,
        "launches": cost.launches,
        "matrix_flops": cost.matrix_flops,
        "vector_flops": cost.vector_flops,
    }
