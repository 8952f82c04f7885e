"""The roofline: FLOPs a byte against FLOPs a second, both in powers of ten, below the device's roofs.

Williams, Waterman and Patterson, Roofline (2009). Every family of modules is a mark in each of its stages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from attrs import frozen

from modelmeter.ranking import without_noise
from modelmeter.render.report.amounts import TERA
from modelmeter.render.report.drawing import STAGE_CLASSES, Drawing, fitted
from modelmeter.render.report.reading import ReportView
from modelmeter.units import format_quantity, format_seconds

WIDTH, HEIGHT = 960, 584
LEFT, RIGHT, TOP, BOTTOM = 80, 640, 56, 500
LIST_X = 668

MARKS = {"vision": "circle", "projector": "diamond", "prefill": "square", "decode": "triangle", "other": "down"}

LISTED = 10
"""So many marks are numbered and named beside the picture."""

SMALLEST, LARGEST = 3.0, 10.0


@frozen
class Point:
    """A module in a stage."""

    module: str
    stage: str
    intensity: float
    rate: float
    seconds: float
    bound: str


def points_of(view: ReportView) -> list[Point]:
    """Every module in every stage in which it computes something, the longest first."""
    found = []
    for module in view.depths:
        for part in view.stages[module]:
            flops, moved, ms = part.total_flops_tflops, part.total_io_tb, part.total_time_ms
            if flops and moved and ms:
                rate = flops * TERA / (ms / 1e3)
                found.append(Point(module, part.stage, flops / moved, rate, ms / 1e3, part.bound))
    return sorted(found, key=lambda point: (-without_noise(point.seconds), point.module, point.stage))


def roofline(view: ReportView) -> str | None:
    """The picture; None for a report without stages or device."""
    points, rates = points_of(view), view.rates
    if not points or not rates.peak or not rates.bandwidth:
        return None
    left = math.floor(math.log10(min([point.intensity for point in points] + [rates.ridge / 10])))
    right = math.ceil(math.log10(max([point.intensity for point in points] + [rates.ridge * 5])))
    low = math.floor(math.log10(min(point.rate for point in points)))
    high = math.ceil(math.log10(max([rates.peak * 1.5] + [point.rate for point in points])))
    # What is nearly idle would squeeze the rest together; it is drawn on the lower edge.
    low, left = max(low, high - 9), max(left, right - 9)

    def x(intensity: float) -> float:
        return LEFT + (min(max(math.log10(intensity), left), right) - left) / (right - left) * (RIGHT - LEFT)

    def y(rate: float) -> float:
        return BOTTOM - (min(max(math.log10(rate), low), high) - low) / (high - low) * (BOTTOM - TOP)

    drawing = Drawing(
        WIDTH,
        HEIGHT,
        f"Roofline on {rates.name or 'the device'}",
        "FLOPs a byte against FLOPs a second of every family of modules in each of its stages, with what is below it.",
    )
    _grid(drawing, (left, right), (low, high), x, y)
    _roofs(drawing, view, (10.0**left, 10.0**right), 10.0**low, x, y)
    longest = max(point.seconds for point in points)
    for point in reversed(points):
        size = SMALLEST + (LARGEST - SMALLEST) * math.sqrt(point.seconds / longest)
        style = f"{STAGE_CLASSES[point.stage]} edge"
        drawing.mark(x(point.intensity), y(point.rate), MARKS[point.stage], size, style, _tip(point))
    if any(point.rate > min(rates.peak, point.intensity * rates.bandwidth) for point in points):
        words = "Above the roof: where launches bind, time is shared out by launches, not by work."
        drawing.text(LEFT, HEIGHT - 14, words, "soft small")
    _listed(drawing, points, x, y)
    return drawing.svg()


def _grid(drawing: Drawing, wide: tuple[int, int], tall: tuple[int, int], x: object, y: object) -> None:
    assert callable(x) and callable(y)
    for power in range(wide[0], wide[1] + 1):
        at = x(10.0**power)
        drawing.line([(at, TOP), (at, BOTTOM)], "grid")
        drawing.text(at, BOTTOM + 18, f"{10.0**power:g}" if -3 <= power <= 5 else f"1e{power}", "soft", "middle")
    for power in range(tall[0], tall[1] + 1):
        at = y(10.0**power)
        drawing.line([(LEFT, at), (RIGHT, at)], "grid")
        drawing.text(LEFT - 8, at + 4, _rate(power), "soft", "end")
    drawing.text((LEFT + RIGHT) / 2, BOTTOM + 42, "FLOPs a byte (ideal)", "ink", "middle")
    drawing.text(22, (TOP + BOTTOM) / 2, "FLOPs a second", "ink", "middle", turn=-90)


def _rate(power: int) -> str:
    return f"1e{power}" if power < 0 else format_quantity(10**power, "").replace(".00", "").replace(".0", "")


def _roofs(drawing: Drawing, view: ReportView, wide: tuple[float, float], low: float, x: object, y: object) -> None:
    assert callable(x) and callable(y)
    rates = view.rates
    roofs = [*((f"{dtype} peak", peak) for dtype, peak in rates.peaks.items()), ("vector peak", rates.vector)]
    # Equal roofs are one: its names stand together.
    named: dict[float, list[str]] = {}
    for title, peak in roofs:
        if peak:
            named.setdefault(peak, []).append(title.removesuffix(" peak"))
    start = max(wide[0], low / rates.bandwidth)
    for peak, titles in sorted(named.items(), reverse=True):
        ridge = peak / rates.bandwidth
        style = "roof" if peak == rates.peak else "lower"
        begin = (start, start * rates.bandwidth) if peak == rates.peak else (ridge, peak)
        drawing.line([(x(a), y(b)) for a, b in (begin, (ridge, peak), (wide[1], peak))], style)
        drawing.text(
            RIGHT - 4, y(peak) - 6, f"{', '.join(titles)}: {format_quantity(peak, 'FLOP/s')}", "ink small", "end"
        )
    middle = math.sqrt(start * rates.ridge)
    at, across = (x(middle), y(middle * rates.bandwidth)), (x(rates.ridge), y(rates.peak))
    slope = math.degrees(math.atan2(across[1] - at[1], across[0] - at[0]))
    drawing.text(
        at[0], at[1] - 8, f"memory: {format_quantity(rates.bandwidth, 'B/s')}", "ink small", "middle", round(slope)
    )


def _listed(drawing: Drawing, points: Sequence[Point], x: object, y: object) -> None:
    assert callable(x) and callable(y)
    drawing.text(LIST_X, TOP + 8, "stages", "ink")
    at = TOP + 30
    for stage in [stage for stage in MARKS if any(point.stage == stage for point in points)]:
        drawing.mark(LIST_X + 7, at - 4, MARKS[stage], 6, STAGE_CLASSES[stage])
        drawing.text(LIST_X + 22, at, stage, "ink")
        at += 20
    drawing.text(LIST_X, at + 16, "longest, larger marks take more time", "ink")
    at += 38
    taken = [(x(point.intensity), y(point.rate)) for point in points[:LISTED]]
    for number, point in enumerate(points[:LISTED], 1):
        place = _beside((x(point.intensity), y(point.rate)), taken)
        drawing.text(*place, str(number), "ink small", "middle")
        drawing.text(LIST_X, at, f"{number}", "ink small")
        drawing.text(LIST_X + 18, at, fitted(point.module, WIDTH - LIST_X - 30, 11), "ink small")
        drawing.text(LIST_X + 18, at + 13, f"{point.stage}, {format_seconds(point.seconds)}", "soft small")
        at += 31


def _beside(centre: tuple[float, float], taken: list[tuple[float, float]]) -> tuple[float, float]:
    """A place for a number around a mark where no other number is."""
    for radius in (15, 24, 33, 42):
        for step in range(8):
            angle = math.pi / 4 * step - math.pi / 4
            place = (centre[0] + radius * math.cos(angle), centre[1] + 4 + radius * math.sin(angle))
            inside = LEFT + 6 < place[0] < RIGHT - 6 and TOP < place[1] < BOTTOM
            if inside and all(abs(place[0] - a) > 13 or abs(place[1] - b) > 11 for a, b in taken):
                taken.append(place)
                return place
    taken.append(centre)
    return centre


def _tip(point: Point) -> str:
    return (
        f"{point.module}, {point.stage}: {format_quantity(point.intensity, 'FLOP')} a byte, "
        f"{format_quantity(point.rate, 'FLOP/s')}, {format_seconds(point.seconds)}, bound by {point.bound or 'nothing'}"
    )
