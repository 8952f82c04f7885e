"""What a fit sees: every stage's and module's time, its weight, and what predicts it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import frozen

from modelmeter.cost.efficiency import Efficiency
from modelmeter.planning.calibration.costed import CostedMeasurement
from modelmeter.planning.calibration.hold_out import HoldOut
from modelmeter.planning.calibration.prediction import Floats, Predictor, predictor
from modelmeter.schema.device import Device


@frozen
class Observed:
    """One measured time. ``module`` is empty where it is the stage's; ``share`` is its part of the stage."""

    measurement: str
    stage: str
    module: str
    share: float
    held_out: bool


@frozen(eq=False)
class Observations:
    """All of them, with times and weights in the same order [t]. What is held out has weight 0."""

    predictor: Predictor
    observed: tuple[Observed, ...]
    measured_s: Floats
    weights: Floats


def observe(
    measured: Sequence[CostedMeasurement], device: Device, efficiency: Efficiency, held: HoldOut
) -> Observations:
    """Stages weigh the square root of their share of the forwards; a stage's modules together as much as it.

    A plain share would leave decoding and projector to chance beside vision; equal weights would give
    a stage of a millisecond, mostly noise, as much say as one of seconds.
    """
    made, places = predictor(measured, device, efficiency)
    observed, measured_s, weights = [], [], []
    for index, stage, module in places:
        one = measured[index]
        stage_s = one.stages[stage]
        time_s = one.modules[stage, module] if module else stage_s
        away = one.name in held.measurements or (stage, module) in held.modules
        # A stage's time would tell of modules in it that are held out.
        unused = away or (bool(held.modules) and not module)
        observed.append(Observed(one.name, stage, module, time_s / stage_s, away))
        measured_s.append(time_s)
        weights.append(0.0 if unused else (stage_s / sum(one.stages.values())) ** 0.5 * time_s / stage_s)
    return Observations(made, tuple(observed), np.array(measured_s), np.array(weights))
