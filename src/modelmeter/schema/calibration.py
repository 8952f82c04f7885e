"""The calibration document: how much of a device's peaks a measured model reached, and how well that predicts.

Times are in seconds and end in ``_s``. An error is predicted over measured, less 1: 0.25 is a quarter too long.
Files of measurements are named by as little of their path as tells them apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from attrs import field, frozen

from modelmeter.errors import DocumentError
from modelmeter.schema.callgraph import REQUIRED

CALIBRATION_VERSION = 1
KIND = "calibration"

TABLES = ("matrix", "vector", "memory")
"""Step tables: matrix products and other work by FLOPs of a call, memory by its bytes."""

FITTED, DEFAULT = "fitted", "default"
ORIGINS = (FITTED, DEFAULT)

FIT, HELD_OUT = "fit", "held out"
ROLES = (FIT, HELD_OUT)
"""Whether a measurement took part in the fit, or was only predicted."""


@frozen
class CalibratedStep:
    """The share of a peak that calls of at least ``size`` reach; of the launch overhead, a factor on it.

    ``low`` is what gives the shortest time, ``high`` the longest. ``origin`` is ``default`` where the
    measurements do not tell; ``observations`` are the times of stages and modules that notice it.
    """

    size: int
    low: float
    estimate: float
    high: float
    origin: str
    observations: int


@frozen
class CalibratedDevice:
    """The device that shares are of: its id, and what the measurements call it. ``figures`` are its peaks."""

    id: str
    name: str
    measured_name: str
    kind: str
    threads: int
    figures: dict[str, float] = field(factory=dict)


@frozen
class Compared:
    """One time: measured, predicted with the defaults, and with the calibration as an interval."""

    measured_s: float
    default_s: float
    low_s: float
    estimate_s: float
    high_s: float

    @property
    def default_error(self) -> float:
        """Relative error with the default efficiencies."""
        return self.default_s / self.measured_s - 1

    @property
    def error(self) -> float:
        """Relative error of the calibrated estimate."""
        return self.estimate_s / self.measured_s - 1

    @property
    def within(self) -> bool:
        """Whether the measured time lies in the calibrated interval."""
        return self.low_s <= self.measured_s <= self.high_s


@frozen
class Prediction:
    """One measurement beside what is predicted for it. ``total`` is of all forwards.

    ``modules``: ``stage/module`` to own time, those that take at least 1% of their stage. Where some
    modules of the only measurement were held out, these have an entry of their own, without a total.
    """

    name: str
    role: str
    total: Compared | None = None
    stages: dict[str, Compared] = field(factory=dict)
    modules: dict[str, Compared] = field(factory=dict)


@frozen
class ErrorSummary:
    """Absolute relative errors of some times: median and largest, before and after; how many lie in the interval."""

    count: int
    default_median: float
    default_worst: float
    median: float
    worst: float
    within: int


@frozen
class Summary:
    """Errors of all totals, stages and modules of one role; None where there are none."""

    measurements: int
    totals: ErrorSummary | None = None
    stages: ErrorSummary | None = None
    modules: ErrorSummary | None = None


@frozen
class Calibration:
    """The document."""

    schema_version: int = field(default=CALIBRATION_VERSION, metadata={REQUIRED: True})
    kind: str = field(default=KIND, metadata={REQUIRED: True})
    tool: dict[str, str] = field(factory=dict)
    device: CalibratedDevice = field(kw_only=True)
    matrix: tuple[CalibratedStep, ...] = field(kw_only=True)
    vector: tuple[CalibratedStep, ...] = field(kw_only=True)
    memory: tuple[CalibratedStep, ...] = field(kw_only=True)
    launch: CalibratedStep = field(kw_only=True)
    launch_overhead_s: float = field(kw_only=True)
    origin: str = field(kw_only=True)
    hold_out: str = field(kw_only=True)
    predictions: list[Prediction] = field(factory=list)
    summaries: dict[str, Summary] = field(factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def held_out(self) -> Summary:
        """Errors on what the fit has not seen."""
        return self.summaries[HELD_OUT]

    def steps(self) -> Iterator[tuple[str, CalibratedStep]]:
        """Every step with the name of its table, the launch overhead last."""
        for table in TABLES:
            for step in getattr(self, table):
                yield table, step
        yield "launch", self.launch

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the document as JSON, beside the target and renamed into place.

        Raises OutputError if the file exists and ``force`` is not set.
        """
        from modelmeter.schema.files import write_file

        return write_file(Path(path), self.to_json(), force=force)

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a document strictly: unknown keys, wrong types and impossible shares are refused with their place.

        Raises DocumentError.
        """
        from modelmeter.schema.codec import load_json

        loaded = load_json(Path(path), cls)
        for problem in _problems(loaded):
            raise DocumentError(f"{path}: {problem}", remedy="calibrate again")
        return loaded

    def to_json(self) -> str:
        """The document as JSON text, keys sorted."""
        from modelmeter.schema.codec import dump_json

        return dump_json(self)


def _problems(found: Calibration) -> Iterator[str]:
    if found.kind != KIND:
        yield f"kind is {found.kind!r:.40}, not {KIND!r}"
    for table in TABLES:
        sizes = [step.size for step in getattr(found, table)]
        if sizes[:1] != [0] or sizes != sorted(set(sizes)):
            yield f"{table} has steps from {sizes}, expected rising sizes from 0 on"
    for table, step in found.steps():
        # The longest time has the smallest share of a peak, but the largest factor on the overhead.
        rising = (step.high, step.estimate, step.low) if table != "launch" else (step.low, step.estimate, step.high)
        if not 0 < rising[0] <= rising[1] <= rising[2] < math.inf:
            yield f"{table} from {step.size}: low, estimate and high are {step.low}, {step.estimate}, {step.high}"
        if step.origin not in ORIGINS:
            yield f"{table} from {step.size}: origin is {step.origin!r:.40}, expected one of {', '.join(ORIGINS)}"
    if not found.launch_overhead_s > 0:
        yield f"launch_overhead_s is {found.launch_overhead_s}"
    if not found.origin.strip() or not found.origin.isprintable():
        yield "origin is no line of text"
    if set(found.summaries) != set(ROLES):
        yield f"summaries has {', '.join(sorted(found.summaries)) or 'nothing'}, expected {' and '.join(ROLES)}"
    for prediction in found.predictions:
        if prediction.role not in ROLES:
            yield f"predictions: {prediction.name!r:.40} has the role {prediction.role!r:.40}"
