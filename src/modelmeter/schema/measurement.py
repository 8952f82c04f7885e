"""The measurement document: how long a model took on a device that was there, and how it was measured.

All times are in seconds and end in ``_s``, all sizes in bytes. Structure and keys are the same for the
same workload; the times vary by nature, which is why every sample is kept beside its median.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from modelmeter.errors import DocumentError
from modelmeter.schema.callgraph import REQUIRED

MEASUREMENT_VERSION = 1
KIND = "measurement"
RANDOM_WEIGHTS = "random"

STAGES = ("vision", "projector", "prefill", "decode")
"""``prefill`` is the decoder's part of the first forward; the four add up to all forwards."""

_INDEX = re.compile(r"(?<=\.)[0-9]+(?=\.|$)")


@frozen
class Times:
    """One quantity measured several times: ``time_s`` is the median."""

    time_s: float
    min_s: float
    max_s: float
    samples_s: tuple[float, ...] = ()

    @classmethod
    def of(cls, samples_s: Sequence[float]) -> Times:
        """Median and extremes of samples, rounded to nanoseconds."""
        rounded = tuple(round(sample, 9) for sample in samples_s)
        return cls(round(statistics.median(rounded), 9), min(rounded), max(rounded), rounded)


@frozen
class ForwardTimes:
    """One forward of the model: ``prefill`` (vision included), ``decode 1``, ``decode 2``, …"""

    name: str
    time: Times


@frozen
class ModuleTimes:
    """Calls of one module in one run, and the seconds spent in it with (total) and without (own) its callees."""

    calls: int
    total_time_s: float
    own_time_s: float

    def plus(self, other: ModuleTimes) -> ModuleTimes:
        """The sum of two modules."""
        return ModuleTimes(
            self.calls + other.calls,
            self.total_time_s + other.total_time_s,
            self.own_time_s + other.own_time_s,
        )


@frozen
class MeasuredDevice:
    """What the model ran on. ``threads`` are those that torch uses on the CPU; ``cuda`` is torch's version of it."""

    name: str
    kind: str
    memory_bytes: int | None = None
    threads: int = 0
    driver: str | None = None
    cuda: str | None = None
    compute_capability: str | None = None


@frozen
class Conditions:
    """How it was measured.

    ``warmup_runs`` came before and were not kept; ``repeats`` are the runs that the samples are from,
    ``module_repeats`` further ones with a timer around every module, of which the one of median
    duration is kept whole. ``clock`` is ``time.perf_counter`` or ``cuda events``. ``memory`` says what
    ``memory_peak_bytes`` is the peak of. ``notes`` say in words what else a reader must know.
    """

    warmup_runs: int
    repeats: int
    module_repeats: int
    clock: str
    execution: str
    inputs: str
    memory: str
    seed: int | None = None
    float32_matmul_precision: str | None = None
    notes: tuple[str, ...] = ()


@frozen
class Measurement:
    """The document. ``stages`` and ``forwards`` are of runs without module timers, ``modules`` of runs with them.

    ``run`` is the wall clock from the first forward to the last token, the choice of tokens included.
    ``stage_modules`` splits ``modules`` by stage, since decoder modules run in prefill and in decode.
    ``tokens`` and ``text`` are there for real weights only, as is ``stopped`` (``end of text`` or
    ``length``), which says what ended the text.
    """

    schema_version: int = field(default=MEASUREMENT_VERSION, metadata={REQUIRED: True})
    kind: str = field(default=KIND, metadata={REQUIRED: True})
    tool: dict[str, str] = field(factory=dict)
    device: MeasuredDevice = field(kw_only=True)
    versions: dict[str, str] = field(factory=dict)
    model: dict[str, Any] = field(factory=dict)
    weights: str = RANDOM_WEIGHTS
    scenario: dict[str, Any] = field(factory=dict)
    conditions: Conditions = field(kw_only=True)
    run: Times = field(kw_only=True)
    stages: dict[str, Times] = field(factory=dict)
    forwards: list[ForwardTimes] = field(factory=list)
    modules: dict[str, ModuleTimes] = field(factory=dict)
    stage_modules: dict[str, dict[str, ModuleTimes]] = field(factory=dict)
    memory_peak_bytes: int | None = None
    prompt: str | None = None
    tokens: list[int] | None = None
    text: str | None = None
    stopped: str | None = None

    @property
    def first_token_s(self) -> float:
        """Median of the first forward, vision included: the time to the first token."""
        return self.forwards[0].time.time_s

    @property
    def token_s(self) -> float | None:
        """Median over the decode steps of each step's median; None without decode steps."""
        steps = [forward.time.time_s for forward in self.forwards[1:]]
        return statistics.median(steps) if steps else None

    def module_families(self) -> dict[str, ModuleTimes]:
        """Modules with their indexes taken out (``layers.*.mlp``), the largest own time first."""
        return families(self.modules)

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the document as JSON, beside the target and renamed into place.

        Raises OutputError if the file exists and ``force`` is not set.
        """
        from modelmeter.schema.files import write_file

        return write_file(Path(path), self.to_json(), force=force)

    @classmethod
    def load(cls, path: str | Path) -> Measurement:
        """Read a document strictly: unknown keys, wrong types and impossible times are refused with their place.

        Raises DocumentError.
        """
        from modelmeter.schema.codec import load_json

        loaded = load_json(Path(path), cls)
        for problem in _problems(loaded):
            raise DocumentError(f"{path}: {problem}", remedy="measure it again")
        return loaded

    def to_json(self) -> str:
        """The document as JSON text, keys sorted."""
        from modelmeter.schema.codec import dump_json

        return dump_json(self)


def families(modules: Mapping[str, ModuleTimes]) -> dict[str, ModuleTimes]:
    """Sums over modules whose ids differ by indexes only, the largest own time first."""
    summed: dict[str, ModuleTimes] = {}
    for name, times in modules.items():
        pattern = _INDEX.sub("*", name)
        summed[pattern] = summed[pattern].plus(times) if pattern in summed else times
    return dict(sorted(summed.items(), key=lambda item: (-item[1].own_time_s, item[0])))


def _problems(measured: Measurement) -> Iterator[str]:
    if measured.kind != KIND:
        yield f"kind is {measured.kind!r:.40}, not {KIND!r}"
    if not measured.forwards:
        yield "forwards is empty"
    timed = [("run", measured.run), *((f"stages[{name!r}]", times) for name, times in measured.stages.items())]
    timed += [(f"forwards[{index}]", forward.time) for index, forward in enumerate(measured.forwards)]
    for place, times in timed:
        if not 0 <= times.min_s <= times.time_s <= times.max_s:
            yield f"{place}: min_s, time_s and max_s are {times.min_s}, {times.time_s} and {times.max_s}"
        if any(sample < 0 for sample in times.samples_s):
            yield f"{place}: a sample is negative"
    for name, times_of in measured.modules.items():
        if times_of.calls < 0 or times_of.total_time_s < 0 or not math.isfinite(times_of.own_time_s):
            yield f"modules[{name!r}] is {times_of}"
    for stage, modules in measured.stage_modules.items():
        unknown = set(modules) - set(measured.modules)
        if unknown:
            yield f"stage_modules[{stage!r}] names {min(unknown)!r}, which is not in modules"
    if measured.memory_peak_bytes is not None and measured.memory_peak_bytes < 0:
        yield f"memory_peak_bytes is {measured.memory_peak_bytes}"
