"""How much of a peak an operation reaches, by its size: defaults with their origin, or calibrated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen

from modelmeter.cost.arithmetic import Number, less, where
from modelmeter.schema.calibration import CalibratedStep, Calibration

LOW, ESTIMATE, HIGH = "low", "estimate", "high"
CASES = (LOW, ESTIMATE, HIGH)
"""The shortest time that is plausible, the estimate, the longest."""


@frozen
class Step:
    """From ``size`` on (FLOPs or bytes of one call), the share of the peak that is reached.

    ``low`` is the share that gives the shortest time, ``high`` the one that gives the longest.
    """

    size: int
    low: float
    estimate: float
    high: float

    def share(self, case: str) -> float:
        """The share in one of the three cases."""
        value: float = getattr(self, case)
        return value


@frozen(cache_hash=True)
class Efficiency:
    """Step tables for matrix products (FLOPs a call), vector work and memory (bytes a call), and launches."""

    matrix: tuple[Step, ...]
    vector: tuple[Step, ...]
    memory: tuple[Step, ...]
    launch: Step
    """Factors on the device's launch overhead: ``size`` is not used."""
    origin: str

    def factor(self, table: str, amount: Number, calls: Number, case: str) -> Number:
        """The share of a peak for calls of the average size ``amount / calls``."""
        steps: Sequence[Step] = getattr(self, table)
        result: Number = steps[0].share(case)
        for step in steps[1:]:
            result = where(less(amount, calls * step.size), result, step.share(case))
        return result


def _table(*rows: tuple[float, float, float, float]) -> tuple[Step, ...]:
    return tuple(Step(int(size), low, estimate, high) for size, low, estimate, high in rows)


DEFAULT = Efficiency(
    matrix=_table(
        (0, 0.50, 0.10, 0.02),
        (1e8, 0.60, 0.25, 0.08),
        (1e9, 0.80, 0.45, 0.20),
        (1e10, 0.90, 0.60, 0.40),
        (1e11, 0.95, 0.70, 0.50),
    ),
    vector=_table((0, 0.90, 0.50, 0.20)),
    memory=_table(
        (0, 0.50, 0.10, 0.02),
        (1e5, 0.60, 0.25, 0.08),
        (1e6, 0.85, 0.50, 0.25),
        (1e7, 0.95, 0.70, 0.50),
        (1e8, 0.95, 0.85, 0.70),
    ),
    launch=Step(0, 0.5, 1.0, 2.0),
    origin="assumed by operation size, 70% of the matrix peak and 85% of the bandwidth at most; not fitted to anything",
)
"""Used where no calibration is given: an assumption. The best large half-precision products reach 88 to 96% of a
dense peak (cuBLAS on an L20: 105 to 115 of 119.5 TFLOP/s, by the hgemm notes of github.com/DefTruth/CUDA-Learn-Notes);
ordinary shapes reach less, and small operations do not fill a device at all."""


def calibrated_efficiency(calibration: Calibration) -> Efficiency:
    """What a calibration found, and the defaults where it found nothing."""

    def steps(found: Iterable[CalibratedStep]) -> tuple[Step, ...]:
        return tuple(Step(step.size, step.low, step.estimate, step.high) for step in found)

    (launch,) = steps([calibration.launch])
    return Efficiency(
        steps(calibration.matrix), steps(calibration.vector), steps(calibration.memory), launch, calibration.origin
    )
