"""The fit: the shares of the peaks that bring predicted times closest to measured ones.

What is made small is the weighted mean of a robust distance between the logarithms of both times: near
zero a square, far out a straight line, so that a disturbed time counts no more than it has to. A small
price on leaving the defaults keeps a number there that no time depends on. The descent goes along one
number after another, over finer and finer factors; it has no randomness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from attrs import frozen

from modelmeter.planning.calibration.prediction import LAUNCH, Floats, Indexes, Mask, Predictor

COARSE, FINE = (4.0, 2.0, 1.4), (1.15, 1.05, 1.015)
"""By how much a number is raised and lowered: from every start, then from the best place found."""

STARTS = (1.0, 0.3, 3.0)
"""The defaults, and all of them scaled: a descent ends in the valley that it begins in."""

ROUNDS = 30
"""Passes over all numbers for one factor, at most; it ends earlier where nothing gets better."""

SOFT = 0.1
"""Distance of logarithms at which the robust distance turns from a square to a line: 10%."""

KEEP = 0.002
"""Price of leaving the default: this much a factor of e, beside a mean distance of logarithms."""

LARGEST, SMALLEST = 1e3, 1e-5
"""No share leaves these bounds. One above 1 is real where data stay in a cache, or a clock is above its base."""

FEWEST = 3
"""Times of stages or modules that must notice a number, or it is not told."""

NOTICED = 0.25
"""A time notices a number if it grows by this part when the device is half as good at it.

That includes times which only say that the device is no worse: where something else bounds them now.
"""


@frozen(eq=False)
class Fit:
    """The numbers found, how many times notice each one, and which were fitted."""

    shares: Floats
    observations: Indexes
    fitted: tuple[bool, ...]


def fit(predictor: Predictor, measured_s: Floats, weights: Floats, default: Floats) -> Fit:
    """Fit all numbers to observed times [t]; those that too few of them notice stay at their default.

    A time of weight 0 takes no part.
    """
    used = weights > 0
    free = np.ones(len(default), dtype=bool)
    while True:
        shares = _from_some_starts(predictor, measured_s, weights, default, free)
        counts = noticing(predictor, shares, used)
        told = free & (counts >= FEWEST)
        # A number that is put back moves what others bound, so it is looked at again.
        if (told == free).all():
            return Fit(shares, counts, tuple(bool(one) for one in told))
        free = told


def noticing(predictor: Predictor, shares: Floats, used: Mask) -> Indexes:
    """How many of the times in use notice each number."""
    times = predictor.times(shares)
    counts = np.zeros(len(shares), dtype=np.int64)
    for number, step in enumerate(predictor.steps):
        worse = shares.copy()
        worse[number] *= 2.0 if step.table == LAUNCH else 0.5
        counts[number] = int(((predictor.times(worse) >= (1 + NOTICED) * times) & used).sum())
    return counts


def _from_some_starts(predictor: Predictor, measured_s: Floats, weights: Floats, default: Floats, free: Mask) -> Floats:
    """The best of the descents that begin at the defaults, and at all of them scaled up or down."""
    logs = np.log(measured_s)
    scale = weights / weights.sum()
    moving = [number for number in range(len(default)) if free[number]]

    def loss(shares: Floats) -> float:
        distance = np.log(predictor.times(shares)) - logs
        robust = np.sqrt(distance**2 + SOFT**2) - SOFT
        return float((scale * robust).sum() + KEEP * np.abs(np.log(shares / default)).sum())

    found = []
    for factor in STARTS:
        start = default.copy()
        start[moving] = np.clip(start[moving] * factor, SMALLEST, LARGEST)
        found.append(_descend(loss, start, default, moving, COARSE))
    best = min(found, key=lambda descent: descent[0])
    return _descend(loss, best[1], default, moving, FINE)[1]


def _descend(
    loss: Callable[[Floats], float], start: Floats, default: Floats, moving: Sequence[int], factors: Sequence[float]
) -> tuple[float, Floats]:
    shares = start.copy()
    least = loss(shares)
    for factor in factors:
        for _ in range(ROUNDS):
            before = least
            for number in moving:
                kept = shares[number]
                # The default itself is tried as well: a grid of factors would only come near it.
                for trial in (kept * factor, kept / factor, default[number]):
                    shares[number] = np.clip(trial, SMALLEST, LARGEST)
                    now = loss(shares)
                    if now < least:
                        least, kept = now, shares[number]
                    else:
                        shares[number] = kept
            if least >= before:
                break
    return least, shares
