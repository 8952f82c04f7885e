"""Live bytes over a run in bounded room: of every stretch of operations the least and the most."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from modelmeter.schema.callgraph import MemoryTimeline

MOST_POINTS = 1_000
"""So many points are kept at most; a drawing is about as many pixels wide."""

Call = tuple[int, str, str, str]
"""Live bytes after an operation, module, operator and stage."""

Sample = tuple[int, int, str, str, str]
"""Number of the operation, live bytes after it, module, operator and stage."""


class MemorySeries:
    """Takes live bytes operation by operation and keeps at most so many of them.

    While there are few, all are kept. Then the run is cut into stretches of equal length, a power of
    two and as short as the bound allows, and the first least and the first most of each are kept. So the
    largest of the run is always among them, and what is kept depends on nothing but the run.
    """

    def __init__(self, most: int = MOST_POINTS) -> None:
        self.operations = 0
        self._most = most
        self._length = 1
        self._samples: list[Sample] = []

    def add(self, live_bytes: int, module: str, operator: str, stage: str) -> None:
        """The live bytes after one more operation."""
        self._samples.append((self.operations, live_bytes, module, operator, stage))
        self.operations += 1
        if len(self._samples) > 4 * self._most:
            self._thin()

    def extend(self, samples: Sequence[Call]) -> None:
        """The live bytes after several more operations."""
        step = 4 * self._most
        for start in range(0, len(samples), step):
            self._samples += [
                (number, *sample) for number, sample in enumerate(samples[start : start + step], self.operations)
            ]
            self.operations = self._samples[-1][0] + 1
            if len(self._samples) > 4 * self._most:
                self._thin()

    def as_timeline(self) -> MemoryTimeline | None:
        """What was kept; None where nothing ran."""
        if not self._samples:
            return None
        self._thin()
        numbers, live, modules, operators, stages = zip(*self._samples, strict=True)
        return MemoryTimeline(self.operations, numbers, live, modules, operators, stages)

    def _thin(self) -> None:
        """Shorten what came since the last time to its stretches, and lengthen these only where that is too much."""
        self._shorten()
        while len(self._samples) > self._most:
            self._length *= 2
            self._shorten()

    def _shorten(self) -> None:
        kept: list[Sample] = []
        for _, stretch in groupby(self._samples, lambda sample: sample[0] // self._length):
            samples = list(stretch)
            least = min(samples, key=lambda sample: sample[1])
            most = max(samples, key=lambda sample: sample[1])
            kept += sorted({least, most})
        self._samples = kept


class SampleTape:
    """All live bytes of one call, operation by operation."""

    def __init__(self) -> None:
        self.samples: list[Call] = []

    def add(self, live_bytes: int, module: str, operator: str, stage: str) -> None:
        """The live bytes after one more operation."""
        self.samples.append((live_bytes, module, operator, stage))

    def extend(self, samples: Sequence[Call]) -> None:
        """The live bytes after several more operations."""
        self.samples += samples
