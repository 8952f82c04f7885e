"""From residuals to an interval: how far off the times were that a number bounds."""

from __future__ import annotations

import numpy as np

from modelmeter.cost.efficiency import ESTIMATE, HIGH
from modelmeter.planning.calibration.fitting import Fit
from modelmeter.planning.calibration.prediction import Floats, Indexes, Predictor

SHORT, LONG = 0.1, 0.9
"""Parts of the weighted times whose measured over predicted make the shortest and the longest time."""

MOSTLY = 0.5
"""A residual is a number's own where the number bounds at least this part of the time."""

FEWEST_RESIDUALS = 5
"""With fewer of its own, a number takes the spread of all."""


def spread(predictor: Predictor, found: Fit, measured_s: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Factors on time of every number: for the shortest (at most 1) and for the longest (at least 1).

    The longest time counts what kernels move one by one, so part of its distance is there already; its
    residuals are taken from that.
    """
    short = np.ones(len(found.shares))
    long = np.ones(len(found.shares))
    used = weights > 0
    for case, factors, part in ((ESTIMATE, short, SHORT), (HIGH, long, LONG)):
        seconds, bound = predictor.operators(found.shares, case)
        ratios = measured_s / predictor.observations(seconds)
        parts = _parts(predictor, seconds, bound, len(found.shares))
        for number in range(len(found.shares)):
            mine = (parts[number] >= MOSTLY) & used
            chosen = mine if mine.sum() >= FEWEST_RESIDUALS else used
            factors[number] = _quantile(ratios[chosen], weights[chosen], part)
    return np.minimum(short, 1.0), np.maximum(long, 1.0)


def _quantile(values: Floats, weights: Floats, part: float) -> float:
    """The value below which that part of the weights lies: small modules, mostly timer, count little."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) >= part * weights.sum()
    return float(values[order][int(np.argmax(reached))])


def _parts(predictor: Predictor, seconds: Floats, bound: Indexes, numbers: int) -> list[Floats]:
    """For each number the part of every time [t] that it bounds."""
    whole = predictor.observations(seconds)
    return [predictor.observations(np.where(bound == number, seconds, 0.0)) / whole for number in range(numbers)]
