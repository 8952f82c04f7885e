"""Why a part of a run is bound by what it is bound by, in a sentence with its numbers."""

from __future__ import annotations

from modelmeter.contracts.report import StageModuleMetrics
from modelmeter.render.report.amounts import TERA
from modelmeter.render.report.reading import Exact, Rates, ReportView
from modelmeter.units import format_bytes, format_flops, format_quantity, format_seconds


def why(view: ReportView, part: StageModuleMetrics) -> str:
    """Why a module in a stage takes its time: its FLOPs, bytes and launches against the device's rates."""
    rates = view.rates
    exact = view.exact.get((part.module_id, part.stage))
    flops = exact.matrix_flops + exact.vector_flops if exact else part.total_flops_tflops * TERA
    moved = exact.bytes if exact else part.total_io_tb * TERA
    if not part.bound or not part.total_time_ms:
        return "It takes no time of its own: what it does is views of memory, or nothing is run."
    if not rates.peak or not rates.bandwidth:
        return f"{_BOUND[part.bound]}."
    spent = part.total_time_ms / 1e3
    first = f"{_BOUND[part.bound]}: {format_seconds(spent)} are estimated."
    hidden = part.bound == "launch" and max(flops / rates.peak, moved / rates.bandwidth) > spent
    lines = [first, _rates(flops, moved, rates), *_launches(view, exact), *([_HIDDEN] if hidden else [])]
    return " ".join([*lines, _verdict(part.bound)])


_BOUND = {
    "compute": "Most of its time it computes",
    "memory": "Most of its time it moves bytes",
    "launch": "Most of its time the device waits for the host to launch kernels",
    "network": "Most of its time it waits for what other devices send",
}


_HIDDEN = (
    "That is less than its own work takes: a stretch that waits for launches has its time shared out by launches, "
    "and this work goes on while the host issues others."
)


def _rates(flops: float, moved: float, rates: Rates) -> str:
    computing = f"Its {format_flops(flops)} take at least {format_seconds(flops / rates.peak)} at the matrix peak"
    moving = f"its {format_bytes(moved)} at least {format_seconds(moved / rates.bandwidth)} at full bandwidth"
    if not flops:
        return f"It computes nothing; {moving}."
    if not moved:
        return f"{computing}."
    return (
        f"{computing}, {moving}: {format_quantity(flops / moved, 'FLOP')} a byte, where the device's roofs "
        f"meet at {rates.ridge:,.0f}."
    )


def _launches(view: ReportView, exact: Exact | None) -> list[str]:
    if exact is None or not view.is_eager or not view.rates.overhead:
        return []
    issue = exact.launches * view.rates.overhead
    return [f"Issuing its {exact.launches:,} launches takes the host {format_seconds(issue)}."]


def _verdict(bound: str) -> str:
    if bound == "launch":
        return "A captured graph, or a larger batch for the same launches, would shorten it; a faster device would not."
    if bound == "network":
        return "A faster connection, or fewer devices that share each layer, would shorten it."
    if bound == "memory":
        return (
            "More work on the same bytes (a larger batch), fewer bytes an element, or more bandwidth would shorten it."
        )
    return "Fewer FLOPs, a narrower data type, or a higher peak would shorten it."
