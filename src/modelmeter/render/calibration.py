"""The terminal view of a calibration: the numbers found, and the errors before and after."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from modelmeter.schema.calibration import DEFAULT, FIT, HELD_OUT, CalibratedStep, Calibration, Compared, ErrorSummary
from modelmeter.units import format_bytes, format_flops, format_seconds

_OF = {"matrix": "matrix FLOPs", "vector": "vector FLOPs", "memory": "bytes", "launch": "launch overhead"}

NAME_COLUMNS = 34


def calibration_view(found: Calibration) -> RenderableType:
    """Tables within 100 columns: steps, errors of what was held out and of the rest, every measurement."""
    device = found.device
    on = f"{device.measured_name}, {device.threads} thread{'s' if device.threads != 1 else ''}"
    head = Text.assemble(
        (f"{_plain(device.id)}", "bold"),
        _plain(f": measured on {on if device.kind == 'cpu' else device.measured_name}; {found.origin}"),
    )
    parts: list[RenderableType] = [head, _steps(found), _summary(found), _measurements(found)]
    notes = [f"Held out: {found.hold_out}.", *(f"{note[:1].upper()}{note[1:]}." for note in found.notes)]
    return Group(*parts, *(Text(_plain(note), style="dim") for note in notes))


def _steps(found: Calibration) -> Table:
    table = _table("share of the peak, by size of a call")
    for title in ("estimate", "low to high", "observations"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for name, step in found.steps():
        if name == "launch":
            continue
        size = format_bytes(step.size) if name == "memory" else format_flops(step.size)
        interval = f"{step.low:.1%} to {step.high:.1%}"
        label = f"{_OF[name]}, from {size}" if step.size else f"{_OF[name]}, smallest"
        _step(table, label, step, f"{step.estimate:.1%}", interval)
    overhead = found.launch_overhead_s
    unit = overhead / found.launch.estimate
    interval = f"{format_seconds(unit * found.launch.low)} to {format_seconds(unit * found.launch.high)}"
    _step(table, "launch overhead", found.launch, format_seconds(overhead), interval)
    return table


def _step(table: Table, label: str, step: CalibratedStep, estimate: str, interval: str) -> None:
    origin = "default" if step.origin == DEFAULT else ""
    table.add_row(label, estimate, interval, f"{step.observations:,}", origin, style="dim" if origin else "")


def _summary(found: Calibration) -> Table:
    table = _table("absolute error")
    for title in ("times", "defaults: median", "worst", "calibrated: median", "worst", "in interval"):
        table.add_column(title, justify="right", no_wrap=True)
    for role in (HELD_OUT, FIT):
        summary = found.summaries[role]
        for name in ("totals", "stages", "modules"):
            errors: ErrorSummary | None = getattr(summary, name)
            if errors is not None:
                table.add_row(f"{role}, {name}", *_errors(errors), style="bold" if role == HELD_OUT else "")
    return table


def _errors(errors: ErrorSummary) -> tuple[str, ...]:
    return (
        f"{errors.count:,}",
        f"{errors.default_median:.1%}",
        f"{errors.default_worst:.0%}",
        f"{errors.median:.1%}",
        f"{errors.worst:.0%}",
        f"{errors.within / errors.count:.0%}",
    )


def _measurements(found: Calibration) -> Table:
    table = _table("measurement: all forwards")
    for title in ("measured", "defaults", "calibrated", "low to high", "error"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for role in (HELD_OUT, FIT):
        for prediction in found.predictions:
            if prediction.role == role and prediction.total is not None:
                held = role if role == HELD_OUT else ""
                table.add_row(Text(_shortened(prediction.name)), *_times(prediction.total), held)
    return table


def _times(one: Compared) -> tuple[str, ...]:
    return (
        format_seconds(one.measured_s),
        format_seconds(one.default_s),
        format_seconds(one.estimate_s),
        f"{format_seconds(one.low_s)} to {format_seconds(one.high_s)}",
        f"{one.error:+.1%}",
    )


def _shortened(name: str) -> str:
    shown = _plain(name)
    return shown if len(shown) <= NAME_COLUMNS else f"…{shown[1 - NAME_COLUMNS :]}"


def _table(first: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)
    return table


def _plain(name: str) -> str:
    """A name on one line: a device's or a file's may hold anything."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
