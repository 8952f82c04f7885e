"""Times of many operators at once for given efficiencies: ``cost.roofline`` over arrays, for a fit to call often.

Indexes in a comment: o operators, g segments, t observed times.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from modelmeter.cost.efficiency import CASES, ESTIMATE, HIGH, Efficiency
from modelmeter.planning.calibration.costed import CostedMeasurement
from modelmeter.schema.calibration import TABLES
from modelmeter.schema.cost import Amount
from modelmeter.schema.device import Device

Floats = NDArray[np.float64]
Indexes = NDArray[np.int64]
Mask = NDArray[np.bool_]

LAUNCH = "launch"
ROWS = (*TABLES, LAUNCH)

_SMALLEST_S = 1e-12
"""No time is zero: its logarithm is taken."""


@frozen
class Step:
    """One number that is fitted: a step of a table, or the factor on the launch overhead."""

    table: str
    number: int
    size: int


@frozen(eq=False)
class Seconds:
    """Times at full peaks [o], by what is worked at, and which step each falls under [o]."""

    peak_s: dict[str, Floats]
    step: dict[str, Indexes]


@frozen(eq=False)
class Predictor:
    """Predicts observed times: a stage's or a module's share of a segment's operators.

    ``steps`` are the numbers that it takes, in the order in which arrays of them have them. ``segment``
    and ``observation`` place every operator [o]; an operator is in two observations, its stage's and its
    module's, and the second is -1 where no module was measured.
    """

    steps: tuple[Step, ...]
    seconds: dict[str, Seconds]
    launch_s: Floats
    segment: Indexes
    stage: Indexes
    module: Indexes
    observed: int

    def operators(self, shares: Floats, case: str = ESTIMATE) -> tuple[Floats, Indexes]:
        """Seconds of every operator [o], and the index of the step that bounds it [o]."""
        seconds = self.seconds[case]
        parts = [seconds.peak_s[table] / shares[seconds.step[table]] for table in TABLES]
        which = np.argmax(parts, axis=0)
        on_device = np.choose(which, parts)
        bound = np.choose(which, [seconds.step[table] for table in TABLES])
        launched = self.launch_s * shares[-1]
        device_g = np.bincount(self.segment, on_device)
        waits = (device_g < np.bincount(self.segment, launched))[self.segment]
        return np.where(waits, launched, on_device), np.where(waits, len(self.steps) - 1, bound)

    def observations(self, operators_s: Floats) -> Floats:
        """Seconds of every observed time [t]."""
        result = np.bincount(self.stage, operators_s, self.observed)
        measured = self.module >= 0
        result += np.bincount(self.module[measured], operators_s[measured], self.observed)
        return np.maximum(result, _SMALLEST_S)

    def times(self, shares: Floats, case: str = ESTIMATE) -> Floats:
        """Seconds of every observed time [t] in one of the three cases."""
        return self.observations(self.operators(shares, case)[0])


def steps_of(efficiency: Efficiency) -> tuple[Step, ...]:
    """Every number of an efficiency, the launch factor last."""
    found = [
        Step(table, number, step.size) for table in TABLES for number, step in enumerate(getattr(efficiency, table))
    ]
    return (*found, Step(LAUNCH, 0, 0))


def shares_of(efficiency: Efficiency, case: str = ESTIMATE) -> Floats:
    """The numbers themselves, in one case."""
    found = [step.share(case) for table in TABLES for step in getattr(efficiency, table)]
    return np.array([*found, efficiency.launch.share(case)])


def predictor(
    measured: Sequence[CostedMeasurement], device: Device, efficiency: Efficiency
) -> tuple[Predictor, list[tuple[int, str, str]]]:
    """A predictor for the steps of an efficiency, and what each observed time is: measurement, stage, module.

    The module is empty where the time is the stage's. Raises ScenarioError for a dtype that the device lacks.
    """
    observed: dict[tuple[int, str, str], int] = {}
    segments: dict[tuple[int, str, str], int] = {}
    for index, one in enumerate(measured):
        for stage in one.stages:
            observed[index, stage, ""] = len(observed)
        for place in one.modules:
            observed[(index, *place)] = len(observed)
    amounts: list[Amount] = []
    peaks: list[float] = []
    launch_s: list[float] = []
    places: list[tuple[int, int, int]] = []
    for index, one in enumerate(measured):
        for operator in one.operators:
            costs = operator.costs
            if costs.stage not in one.stages:
                continue
            amounts.append(costs.amount)
            peaks.append(device.peak_flops_per_s(costs.dtype) if costs.dtype else np.inf)
            launch_s.append(costs.amount.launches * device.launch_overhead_s * operator.eager)
            segment = segments.setdefault((index, costs.stage, costs.segment), len(segments))
            module = observed.get((index, costs.stage, operator.node), -1)
            places.append((segment, observed[index, costs.stage, ""], module))
    segment_o, stage_o, module_o = np.array(places, dtype=np.int64).T
    steps = steps_of(efficiency)
    seconds = {case: _seconds(amounts, np.array(peaks), device, steps, case) for case in CASES}
    made = Predictor(steps, seconds, np.array(launch_s), segment_o, stage_o, module_o, len(observed))
    return made, list(observed)


def _seconds(amounts: Sequence[Amount], peaks: Floats, device: Device, steps: Sequence[Step], case: str) -> Seconds:
    """The longest time counts what each kernel moves, the others what an operator needs."""
    long = case == HIGH
    column = {name: np.array([getattr(amount, name) for amount in amounts], dtype=np.float64) for name in _COLUMNS}
    moved = column["eager_bytes"] if long else column["ideal_bytes"]
    same = np.ones(len(amounts))
    work: dict[str, tuple[Floats, Floats, Floats]] = {
        "matrix": (column["matrix_flops"], column["calls"], peaks),
        "vector": (column["vector_flops"], column["calls"], same * device.vector_flops_per_s),
        "memory": (moved, column["launches"] if long else column["calls"], same * device.memory_bytes_per_s),
    }
    # The peak of an operator without a product is infinite, so that it takes no time.
    peak_s = {table: amount / peak for table, (amount, _, peak) in work.items()}
    step = {table: _step(amount, calls, table, steps) for table, (amount, calls, _) in work.items()}
    return Seconds(peak_s, step)


_COLUMNS = ("calls", "launches", "matrix_flops", "vector_flops", "ideal_bytes", "eager_bytes")


def _step(amount: Floats, calls: Floats, table: str, steps: Sequence[Step]) -> Indexes:
    """The last step of a table that calls of the average size reach [o]."""
    places = [place for place, step in enumerate(steps) if step.table == table]
    result = np.full(len(amount), places[0])
    for place in places[1:]:
        result = np.where(amount < calls * steps[place].size, result, place)
    return result
