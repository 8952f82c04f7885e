"""Live bytes over a run in bounded room: of every stretch of operations the least and the most."""

from __future__ import annotations

from itertools import groupby

from modelmeter.schema.callgraph import MemoryTimeline

MOST_POINTS = 1_000
"""So many points are kept at most; a drawing is about as many pixels wide."""

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
