"""Columns of a sweep's results: what there is to choose from, and how each follows from a sweep's arrays.

Names and units are those of a report: ``_s`` seconds, ``_bytes`` bytes, ``_flops`` operations, ``_usd`` US dollars.
Times and rates have an estimate under their plain name, and their interval under ``_low`` and ``_high``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from attrs import frozen

from modelmeter.cost.arrays import Array
from modelmeter.cost.efficiency import ESTIMATE, HIGH, LOW
from modelmeter.cost.memory import reserve_bytes
from modelmeter.planning.capacity import PAGES_PER_PRICE, SECONDS_PER_HOUR
from modelmeter.planning.sweep import NO_BOUND, VALID, Sweep
from modelmeter.planning.sweep_axes import Axes
from modelmeter.schema.analysis import FIRST_TOKEN_STAGES
from modelmeter.schema.callgraph import STAGES
from modelmeter.schema.device import Device
from modelmeter.schema.timing import BOUNDS

INTEGER, NUMBER, TEXT, FLAG = "integer", "number", "text", "flag"
SMALLEST, LARGEST = "smallest", "largest"

SUFFIXES = {"": ESTIMATE, "_low": LOW, "_high": HIGH}
"""Ends of a column's name, and the case that it holds."""

_OPPOSITE = {LOW: HIGH, ESTIMATE: ESTIMATE, HIGH: LOW}

_THIRD_OF_64_BITS = 2**61
"""Three numbers below this add up within 64 bits."""


@frozen(eq=False)
class Cells:
    """One column over all scenarios of a sweep. Arrays may be broadcast: of length 1 where nothing changes."""

    kind: str
    values: Array
    """Numbers; truth values; or places in ``labels``."""
    empty: Array
    """Where there is no value."""
    labels: tuple[str, ...] = ()


@frozen
class Result:
    """A column that can be asked for; ``best`` is empty where no value is better than another."""

    kind: str
    best: str
    of: Callable[[Sweep, Axes], tuple[Array, Array | None]]
    """Values, and where there are none although the scenario is possible."""


def _first_token(found: Sweep, axes: Axes, case: str) -> Array:
    return sum((found.seconds[stage][case] for stage in FIRST_TOKEN_STAGES[1:]), found.seconds["vision"][case])


def _per_token(found: Sweep, axes: Axes, case: str) -> Array:
    steps = axes_numbers(axes, "decode_steps")
    seconds: Array = np.where(steps > 0, found.seconds["decode"][case] / _float(np.maximum(steps, 1)), np.nan)
    return seconds


def _total(found: Sweep, axes: Axes, case: str) -> Array:
    return found.total_seconds(case)


def _tokens_rate(found: Sweep, axes: Axes, case: str) -> Array:
    tokens = _requests(axes) * (_float(axes_numbers(axes, "decode_steps")) + 1)
    rate: Array = tokens / found.total_seconds(_OPPOSITE[case])
    return rate


def _pages_rate(found: Sweep, axes: Axes, case: str) -> Array:
    return _pages(axes) / found.total_seconds(_OPPOSITE[case])


def _device_rate(found: Sweep, axes: Axes, case: str) -> Array:
    return _pages_rate(found, axes, case) / _devices(axes)


def _price(found: Sweep, axes: Axes, case: str) -> Array:
    hourly = of_devices(axes, lambda device: np.nan if device.hourly_price_usd is None else device.hourly_price_usd)
    each = _devices(axes) * hourly / SECONDS_PER_HOUR * PAGES_PER_PRICE / _pages(axes)
    price: Array = found.total_seconds(case) * each
    return price


def _pages(axes: Axes) -> Array:
    return _requests(axes) * _float(axes_numbers(axes, "pages", len))


def _requests(axes: Axes) -> Array:
    """Requests of all replicas; not as integers, since a batch may be any number."""
    shares = np.maximum(axes_numbers(axes, "tensor_parallel"), axes_numbers(axes, "expert_parallel"))
    requests: Array = _float(axes_numbers(axes, "batch")) * (_devices(axes) // shares)
    return requests


def _devices(axes: Axes) -> Array:
    """As many as share the layers where nothing is said, as ``sweep_axes`` has it."""
    if "devices" in axes.named or axes.scenario.replicas > 1:
        return axes_numbers(axes, "devices")
    return np.maximum(axes_numbers(axes, "tensor_parallel"), axes_numbers(axes, "expert_parallel"))


def _float(numbers: Array) -> Array:
    return numbers.astype(float)


def _memory(found: Sweep, axes: Axes) -> Array:
    reserve = of_devices(axes, reserve_bytes)
    parts = [found.totals["weight_bytes"], found.totals["peak_bytes"], reserve]
    if any(part.size and part.max() >= _THIRD_OF_64_BITS for part in parts):
        parts = [part.astype(object) for part in parts]
    needed: Array = parts[0] + parts[1] + parts[2]
    return needed


def _capacity(found: Sweep, axes: Axes) -> Array:
    return of_devices(axes, lambda device: device.memory_bytes)


def _headroom(found: Sweep, axes: Axes) -> Array:
    return _capacity(found, axes) - _memory(found, axes)


def axes_numbers(axes: Axes, name: str, count: Callable[[Any], int] = int) -> Array:
    """A key's number for each of its values, along its axis; or of the scenario where it does not vary."""
    if name in axes.named:
        return axes.spread(name, [count(value) for value in axes.named[name]])
    return axes.spread("", [count(getattr(axes.scenario, name))])


def of_devices(axes: Axes, figure: Callable[[Device], Any]) -> Array:
    """A figure of each device, along its axis."""
    return axes.spread("device", [figure(device) for device in axes.devices])


def _interval(seconds: Callable[[Sweep, Axes, str], Array], case: str, best: str) -> Result:
    def of(found: Sweep, axes: Axes) -> tuple[Array, Array | None]:
        values = seconds(found, axes, case)
        return values, np.isnan(values)

    return Result(NUMBER, best, of)


def _amount(of: Callable[[Sweep, Axes], Array], best: str) -> Result:
    return Result(INTEGER, best, lambda found, axes: (of(found, axes), None))


def _stage_time(stage: str) -> Callable[[Sweep, Axes, str], Array]:
    return lambda found, axes, case: found.seconds[stage][case]


def _stage_bound(stage: str) -> Result:
    return Result(TEXT, "", lambda found, axes: (found.bounds[stage], found.bounds[stage] == NO_BOUND))


def _totals(name: str) -> Callable[[Sweep, Axes], Array]:
    return lambda found, axes: found.totals[name]


def _all_results() -> dict[str, Result]:
    intervals: dict[str, tuple[Callable[[Sweep, Axes, str], Array], str]] = {
        "time_to_first_token_s": (_first_token, SMALLEST),
        "time_per_output_token_s": (_per_token, SMALLEST),
        "tokens_per_s": (_tokens_rate, LARGEST),
        "pages_per_s": (_pages_rate, LARGEST),
        "pages_per_s_and_device": (_device_rate, LARGEST),
        "price_per_1000_pages_usd": (_price, SMALLEST),
        "total_time_s": (_total, SMALLEST),
        **{f"{stage}_time_s": (_stage_time(stage), SMALLEST) for stage in STAGES},
    }
    found = {
        name + suffix: _interval(of, case, best)
        for name, (of, best) in intervals.items()
        for suffix, case in SUFFIXES.items()
    }
    found |= {f"{stage}_bound": _stage_bound(stage) for stage in STAGES}
    totals = {"peak_live_bytes": "peak_bytes"}
    for name in ("matrix_flops", "vector_flops", "ideal_bytes", "eager_bytes", "launches"):
        totals[name] = name
    totals |= {"weight_bytes": "weight_bytes", "kv_cache_bytes": "kv_cache_bytes"}
    found |= {name: _amount(_totals(total), SMALLEST) for name, total in totals.items()}
    found["positions"] = _amount(lambda sweep, axes: sweep.positions, "")
    found["memory_bytes"] = _amount(_memory, SMALLEST)
    found["memory_capacity_bytes"] = _amount(_capacity, "")
    found["headroom_bytes"] = _amount(_headroom, LARGEST)
    return found


RESULTS = _all_results()

MAIN = (
    "time_to_first_token_s",
    "time_per_output_token_s",
    "tokens_per_s",
    "pages_per_s",
    "price_per_1000_pages_usd",
)
"""What a planner decides by."""

DEFAULT_RESULTS = (
    *MAIN,
    "total_time_s",
    "total_time_s_low",
    "total_time_s_high",
    "vision_bound",
    "projector_bound",
    "prefill_bound",
    "decode_bound",
    "matrix_flops",
    "vector_flops",
    "ideal_bytes",
    "memory_bytes",
    "headroom_bytes",
)


def result_cells(name: str, found: Sweep, axes: Axes) -> Cells:
    """A column of ``RESULTS``; empty where a scenario is not possible."""
    result = RESULTS[name]
    # Devices that cannot be shared out and runs of no time are rows without values.
    with np.errstate(divide="ignore", invalid="ignore"):
        values, missing = result.of(found, axes)
    empty = ~found.valid if missing is None else ~found.valid | missing
    return Cells(result.kind, values, empty, BOUNDS if result.kind == TEXT else ())


def axis_cells(axes: Axes, name: str, labels: Sequence[str | int | bool]) -> Cells:
    """The column of an axis: what its values are shown as."""
    nothing = np.zeros([1] * len(axes.named), bool)
    if all(isinstance(label, bool) for label in labels):
        return Cells(FLAG, axes.spread(name, labels), nothing)
    if all(type(label) is int for label in labels):
        return Cells(INTEGER, axes.spread(name, labels), nothing)
    return Cells(TEXT, axes.spread(name, range(len(labels))), nothing, tuple(map(str, labels)))


def fits_cells(found: Sweep) -> Cells:
    """Whether a scenario is possible and fits the device's memory."""
    return Cells(FLAG, found.fits, np.zeros([1] * found.fits.ndim, bool))


def reason_cells(found: Sweep, axes: Axes) -> Cells:
    """Why a scenario is not possible, or does not fit."""
    texts = (*found.reason_texts, *(f"does not fit the memory of {device.id}" for device in axes.devices))
    # What does not fit is numbered after the sweep's own reasons, by device.
    too_small = len(found.reason_texts) + axes.spread("device", range(len(axes.devices)))
    codes = np.where(found.valid & ~found.fits, too_small, found.reasons)
    return Cells(TEXT, codes, codes == VALID, texts)
