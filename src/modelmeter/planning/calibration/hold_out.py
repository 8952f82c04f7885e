"""Which measurements a calibration does not see, so that its error on them means something."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from modelmeter.errors import UsageError
from modelmeter.planning.calibration.costed import CostedMeasurement

EVERY = 4
"""One measurement of four is held out, unless the user says which or how many."""

FEWEST_FAMILIES = 2 * EVERY
"""Module families that a single measurement needs to be split."""


@frozen
class HoldOut:
    """Names of measurements that are held out; with one measurement, of module families in it. ``rule`` in words."""

    measurements: frozenset[str]
    modules: frozenset[tuple[str, str]]
    rule: str


def choose(measured: Sequence[CostedMeasurement], named: frozenset[str], every: int | None) -> HoldOut:
    """Hold out those that the user named, else each ``every``-th by name, always at least one.

    Raises UsageError where nothing would be left to fit to, or nothing can be held out.
    """
    if named and every is not None:
        raise UsageError("--hold-out and --hold-out-every contradict each other", remedy="give one of them")
    if every is not None and every < 2:
        raise UsageError(f"--hold-out-every is {every}", remedy="give a whole number of at least 2")
    names = [one.name for one in measured]
    if named:
        if named >= set(names):
            raise UsageError("all measurements are held out", remedy="give some to fit to as well")
        return HoldOut(named, frozenset(), "measurements that were named")
    every = every or EVERY
    if len(names) == 1:
        return _within(measured[0], every)
    chosen = names[every - 1 :: every] or names[-1:]
    rule = f"every {_ordinal(every)} measurement by name" if len(names) >= every else "the last measurement by name"
    return HoldOut(frozenset(chosen), frozenset(), rule)


def _within(only: CostedMeasurement, every: int) -> HoldOut:
    """Module families of one measurement, longest first, so that both parts have long and short ones."""
    ranked = sorted(only.modules, key=lambda place: (-only.modules[place], place))
    if len(ranked) < FEWEST_FAMILIES:
        raise UsageError(
            f"{only.name} has times of {len(ranked)} kinds of modules, too few to hold some out",
            remedy="give several measurements of different pages, batches and text lengths",
        )
    rule = (
        f"every {_ordinal(every)} module family of the only measurement, longest first; its stages are no check, "
        "since they hold what was fitted to as well"
    )
    return HoldOut(frozenset(), frozenset(ranked[every - 1 :: every]), rule)


def _ordinal(number: int) -> str:
    endings = {1: "st", 2: "nd", 3: "rd"}
    ending = "th" if number % 100 in (11, 12, 13) else endings.get(number % 10, "th")
    return f"{number}{ending}"
