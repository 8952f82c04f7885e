"""``calibrate``: measurements and a device in, the calibration document out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve

import modelmeter
from modelmeter.cost.efficiency import DEFAULT, Efficiency, Step, calibrated_efficiency
from modelmeter.planning.calibration.costed import CostedMeasurement, costed
from modelmeter.planning.calibration.hold_out import HoldOut, choose
from modelmeter.planning.calibration.inputs import NamedMeasurement
from modelmeter.schema import calibration as document
from modelmeter.schema.calibration import CalibratedDevice, CalibratedStep, Calibration
from modelmeter.schema.device import Device
from modelmeter.schema.measurement import MeasuredDevice
from modelmeter.units import format_bytes, format_flops

if TYPE_CHECKING:
    from modelmeter.planning.calibration.fitting import Fit
    from modelmeter.planning.calibration.prediction import Floats

DIGITS = 4
"""Significant digits of a share: more would be noise."""


def load_efficiency(path: str | Path) -> Efficiency:
    """The efficiencies of a calibration file, for ``Costs.timed``. Raises DocumentError."""
    return calibrated_efficiency(Calibration.load(path))


def calibrate(
    measurements: Sequence[NamedMeasurement],
    device: Device,
    *,
    held_out: Sequence[str] = (),
    every: int | None = None,
    default: Efficiency = DEFAULT,
) -> Calibration:
    """Fit the efficiencies to measurements of a device, and predict those that are held out.

    ``held_out`` names measurements; otherwise each ``every``-th by name is one. Raises UsageError for too
    few of them, DocumentError for one of a model without a closed form, ScenarioError for a dtype that
    the device has no peak for.
    """
    from modelmeter.planning.calibration.comparing import compared, summaries
    from modelmeter.planning.calibration.fitting import fit
    from modelmeter.planning.calibration.observing import observe
    from modelmeter.planning.calibration.prediction import shares_of
    from modelmeter.planning.calibration.spread import spread

    measured = [costed(named) for named in measurements]
    held = choose(measured, frozenset(held_out), every)
    seen = observe(measured, device, default, held)
    found = fit(seen.predictor, seen.measured_s, seen.weights, shares_of(default))
    # The intervals and the errors are those of the numbers as they are written down.
    found.shares[:] = [rounded(share) for share in found.shares]
    short, long = spread(seen.predictor, found, seen.measured_s, seen.weights)
    steps = _steps(found, short, long, default)
    matrix, vector, memory = (tuple(step for name, step in steps if name == table) for table in document.TABLES)
    launch = steps[-1][1]
    of = measurements[0].measurement.device
    origin = (
        f"fitted to {_counted(len(measured) - len(held.measurements))} on {of.name}, as {device.id}; "
        f"{sum(found.fitted)} of {len(steps)} numbers, the others are defaults"
    )
    result = Calibration(
        tool={"name": "modelmeter", "version": modelmeter.__version__},
        device=_device(device, of, measured),
        matrix=matrix,
        vector=vector,
        memory=memory,
        launch=launch,
        launch_overhead_s=float(f"{launch.estimate * device.launch_overhead_s:.6g}"),
        origin=_printable(origin),
        hold_out=held.rule,
    )
    predictions = compared(seen, calibrated_efficiency(result), default)
    summarised = summaries(predictions)
    return evolve(
        result,
        predictions=predictions,
        summaries=summarised,
        notes=tuple(_notes(result, summarised, measured, held)),
    )


def rounded(share: float) -> float:
    """A share as it is written down."""
    return float(f"{share:.{DIGITS}g}")


def _steps(found: Fit, short: Floats, long: Floats, default: Efficiency) -> list[tuple[str, CalibratedStep]]:
    """Fitted numbers with their intervals; where nothing was found, the defaults with theirs."""
    steps: list[tuple[str, CalibratedStep]] = []
    kept: list[tuple[str, Step]] = [(table, step) for table in document.TABLES for step in getattr(default, table)]
    for place, (table, step) in enumerate([*kept, ("launch", default.launch)]):
        count, share = int(found.observations[place]), float(found.shares[place])
        if not found.fitted[place]:
            made = CalibratedStep(step.size, step.low, step.estimate, step.high, document.DEFAULT, count)
        elif table == "launch":
            low, high = rounded(share * short[place]), rounded(share * long[place])
            made = CalibratedStep(step.size, low, share, high, document.FITTED, count)
        else:
            low, high = rounded(share / short[place]), rounded(share / long[place])
            made = CalibratedStep(step.size, low, share, high, document.FITTED, count)
        steps.append((table, made))
    return steps


def _device(device: Device, of: MeasuredDevice, measured: Sequence[CostedMeasurement]) -> CalibratedDevice:
    """The device with the figures that the shares are of."""
    dtypes = {operator.costs.dtype for one in measured for operator in one.operators if operator.costs.dtype}
    figures = {f"dense_flops_per_s.{dtype}": device.peak_flops_per_s(dtype) for dtype in sorted(dtypes)}
    for name in ("vector_flops_per_s", "memory_bytes_per_s", "launch_overhead_s"):
        figures[name] = getattr(device, name)
    return CalibratedDevice(device.id, device.name, of.name, of.kind, of.threads, figures)


def _notes(
    found: Calibration,
    summarised: dict[str, document.Summary],
    measured: Sequence[CostedMeasurement],
    held: HoldOut,
) -> Iterator[str]:
    left = [_named(table, step) for table, step in found.steps() if step.origin == document.DEFAULT]
    if left:
        yield (
            f"left at the defaults, as fewer than 3 times notice them: {', '.join(left)}; "
            "measure other pages, batches and text lengths, or a larger model, to tell them"
        )
    if any(step.estimate > 1 for table, step in found.steps() if table != "launch"):
        yield "a share above 1 means data in a cache, or a clock above the one that the peak is for"
    yield "modules: own times as shares of their stage; what Python does between them is spread over them"
    yield "experts: as many as a gate reaches that routes at random (random:0)"
    if any(not operator.eager for one in measured for operator in one.operators):
        yield "captured decode steps: their launches cost nothing, and only their whole time is compared"
    if held.modules:
        yield "one measurement: stages were left out of the fit, so that it knows nothing of the held-out modules"
    for name in ("totals", "stages", "modules"):
        errors = getattr(summarised[document.HELD_OUT], name)
        if errors is not None and errors.median >= errors.default_median:
            yield f"held-out {name} are predicted no better than with the defaults: do not rely on this calibration"


def _named(table: str, step: CalibratedStep) -> str:
    if table == "launch" or not step.size:
        return table if table == "launch" else f"{table}, smallest"
    return f"{table} from {format_bytes(step.size) if table == 'memory' else format_flops(step.size)}"


def _counted(number: int) -> str:
    return f"{number} measurement{'s' if number != 1 else ''}"


def _printable(text: str) -> str:
    """On one line: the name of a device is in it."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
