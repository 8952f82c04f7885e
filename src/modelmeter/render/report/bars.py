"""Bars: which modules the time goes to, and what the memory is taken by."""

from __future__ import annotations

from collections.abc import Sequence

from modelmeter.contracts.fields import REPORT_STAGES
from modelmeter.ranking import largest_first
from modelmeter.render.report.drawing import STAGE_CLASSES, Drawing, fitted
from modelmeter.render.report.reading import ReportView
from modelmeter.units import format_bytes, format_seconds, format_share

WIDTH = 960
ROWS = 14
ROW = 26
NAMES = 330
"""Where bars begin."""
NUMBERS = 150
"""Room for numbers behind them."""


def time_shares(view: ReportView) -> str | None:
    """Time by stage, and the modules with the most of their own; None where no time is spent."""
    whole = view.report.predicted_total_time_ms
    if not whole or not view.metrics:
        return None
    stages = _stages(view)
    own = {module: view.exclusive_ms(module) for module in view.depths if module in view.metrics}
    ranked = largest_first(own)
    rows = [(module, own[module], _colour(view, module)) for module in ranked[:ROWS] if own[module]]
    rest = sum(own[module] for module in ranked[ROWS:])
    if rest:
        rows.append((f"{len(ranked) - ROWS} other modules", rest, "c4"))
    top = 132
    drawing = Drawing(
        WIDTH,
        top + ROW * len(rows) + 24,
        f"Share of time: {format_seconds(whole / 1e3)} in all",
        "Shares of the estimated time by stage, and by module without the modules below it.",
    )
    _stacked(drawing, 44, [(stage, ms, STAGE_CLASSES[stage]) for stage, ms in stages], whole)
    drawing.text(20, top - 14, "modules, without those below them, in the colour of their longest stage", "soft")
    longest = max(ms for _, ms, _ in rows)
    for place, (module, ms, colour) in enumerate(rows):
        y = top + ROW * place
        words = f"{module}: {format_seconds(ms / 1e3)}, {format_share(ms, whole)}"
        drawing.text(NAMES - 10, y + 15, fitted(module, NAMES - 26, 12.5), "ink", "end")
        length = max(1.0, (WIDTH - NAMES - NUMBERS) * ms / longest)
        drawing.box(NAMES, y + 3, length, ROW - 8, colour, words)
        numbers = f"{format_share(ms, whole)}, {format_seconds(ms / 1e3)}"
        drawing.text(NAMES + length + 8, y + 15, numbers, "ink")
    return drawing.svg()


def _stages(view: ReportView) -> list[tuple[str, float]]:
    """Milliseconds of every stage that takes any."""
    totals = view.report.totals
    if totals is None:
        return []
    spent = [(stage, totals.stages[stage].time_s.estimate * 1e3) for stage in REPORT_STAGES if stage in totals.stages]
    return [(stage, ms) for stage, ms in spent if ms]


def _colour(view: ReportView, module: str) -> str:
    """The colour of the stage in which a module spends most of its time."""
    parts = view.stages[module]
    longest = max(parts, key=lambda part: part.total_time_ms).stage if parts else view.nodes[module].stage
    return STAGE_CLASSES[longest]


def memory(view: ReportView, parts: Sequence[tuple[str, int]]) -> str | None:
    """What the memory of the device is taken by; None for a report without capacity."""
    capacity = view.report.capacity
    if capacity is None or not capacity.memory_capacity_bytes:
        return None
    whole = capacity.memory_capacity_bytes
    totals = view.report.totals
    rows = [*parts]
    cache = totals.kv_cache_bytes if totals is not None else 0
    drawing = Drawing(
        WIDTH,
        250,
        f"Memory: {format_bytes(capacity.memory_bytes)} of {format_bytes(whole)}",
        "What the memory of the device is taken by.",
    )
    colours = ("c0", "c2", "c4")
    _stacked(
        drawing,
        50,
        [
            *((title, size, colours[place % 3]) for place, (title, size) in enumerate(rows)),
            ("free", capacity.headroom_bytes, "empty"),
        ],
        whole,
        legend=False,
    )
    y = 128
    for place, (title, size) in enumerate([*rows, ("free", capacity.headroom_bytes)]):
        colour = colours[place % 3] if place < len(rows) else "empty"
        drawing.box(20, y - 11, 14, 14, colour)
        drawing.text(44, y, title, "ink")
        drawing.text(400, y, format_bytes(size), "ink", "end")
        drawing.text(470, y, format_share(size, whole), "soft", "end")
        y += 24
    if cache:
        drawing.text(500, 128, f"The cache alone ends at {format_bytes(cache)};", "ink")
        drawing.text(500, 148, "live tensors hold it as far as it is filled at their peak.", "soft")
    if capacity.largest_batch is not None:
        drawing.text(500, 176, f"Largest batch that fits: {capacity.largest_batch:,}", "ink")
    return drawing.svg()


def _stacked(
    drawing: Drawing, y: float, parts: Sequence[tuple[str, float, str]], whole: float, *, legend: bool = True
) -> None:
    """One bar across the picture, with a legend below it."""
    length = WIDTH - 40
    x = 20.0
    for title, size, colour in parts:
        wide = length * size / whole
        if size:
            # A part too thin to see is still one pixel.
            drawing.box(x, y, max(1.0, wide), 28, f"{colour} edge", f"{title}: {format_share(size, whole)}")
        x += wide
    if not legend:
        return
    x = 20.0
    for title, size, colour in parts:
        words = f"{title} {format_share(size, whole)}"
        drawing.box(x, y + 40, 12, 12, colour)
        drawing.text(x + 18, y + 51, words, "ink")
        x += 40 + 7.4 * len(words)
