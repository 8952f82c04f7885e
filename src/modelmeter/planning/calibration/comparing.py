"""Predicted beside measured times, before and after, and what that comes to."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

import numpy as np

from modelmeter.cost.efficiency import CASES, Efficiency
from modelmeter.planning.calibration.observing import Observations
from modelmeter.planning.calibration.prediction import Floats, shares_of
from modelmeter.schema.calibration import FIT, HELD_OUT, ROLES, Compared, ErrorSummary, Prediction, Summary

LEAST_SHARE = 0.01
"""Modules below this share of their stage are not compared: a timer takes about as long as they do."""


def compared(seen: Observations, efficiency: Efficiency, default: Efficiency) -> list[Prediction]:
    """Every measurement beside what is predicted for it, in order."""
    columns = [seen.measured_s, seen.predictor.times(shares_of(default))]
    columns += [seen.predictor.times(shares_of(efficiency, case), case) for case in CASES]
    times = np.stack(columns, axis=1)
    found = []
    for name in dict.fromkeys(one.measurement for one in seen.observed):
        rows = [place for place, one in enumerate(seen.observed) if one.measurement == name]
        stages = [place for place in rows if not seen.observed[place].module]
        away = seen.observed[stages[0]].held_out
        for role in ROLES:
            modules = {
                f"{seen.observed[place].stage}/{seen.observed[place].module}": _compared(times[place])
                for place in rows
                if seen.observed[place].module
                and seen.observed[place].share >= LEAST_SHARE
                and seen.observed[place].held_out == (role == HELD_OUT)
            }
            if away == (role == HELD_OUT):
                of_stages = {seen.observed[place].stage: _compared(times[place]) for place in stages}
                found.append(Prediction(name, role, _compared(times[stages].sum(axis=0)), of_stages, modules))
            elif modules:
                found.append(Prediction(name, role, modules=modules))
    return found


def summaries(predictions: Sequence[Prediction]) -> dict[str, Summary]:
    """Errors of what was fitted to, and of what was held out."""
    found = {}
    for role in (FIT, HELD_OUT):
        mine = [prediction for prediction in predictions if prediction.role == role]
        found[role] = Summary(
            len(mine),
            _summary(prediction.total for prediction in mine if prediction.total is not None),
            _summary(one for prediction in mine for one in prediction.stages.values()),
            _summary(one for prediction in mine for one in prediction.modules.values()),
        )
    return found


def _compared(times: Floats) -> Compared:
    """In the order measured, default, low, estimate, high; to six digits, so that a last bit changes no file."""
    return Compared(*(float(f"{time_s:.6g}") for time_s in times))


def _summary(times: Iterable[Compared]) -> ErrorSummary | None:
    found = list(times)
    if not found:
        return None
    before = [abs(one.default_error) for one in found]
    after = [abs(one.error) for one in found]
    return ErrorSummary(
        len(found),
        _rounded(statistics.median(before)),
        _rounded(max(before)),
        _rounded(statistics.median(after)),
        _rounded(max(after)),
        sum(one.within for one in found),
    )


def _rounded(error: float) -> float:
    return float(f"{error:.4g}")
