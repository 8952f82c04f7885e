"""From what a request says to what is worked out. It names data of ModelMeter's own, and neither code nor files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve

from modelmeter.contracts.converter import converter
from modelmeter.contracts.requests import DeepSeekOCRAnalyticRequest
from modelmeter.contracts.service import WhatIfRequest
from modelmeter.cost.catalogue import find_device
from modelmeter.cost.efficiency import DEFAULT
from modelmeter.errors import ScenarioError, UnknownNameError
from modelmeter.families.protocol import Family
from modelmeter.planning.analysis import DEFAULT_DECODE_STEPS
from modelmeter.planning.report import Labels
from modelmeter.planning.traced import TracedQuestion
from modelmeter.planning.what_if import Question, changed, overridden
from modelmeter.planning.workload_profiles import find_profile
from modelmeter.schema.device import Device
from modelmeter.schema.scenario import Page, Scenario

MOST_LETTERS = 200
"""Letters of a name, and digits of a number, that a scenario of a request may have."""

_LARGEST = 10**12
"""Whole numbers of a scenario are at most this: no page, batch or text is larger, and floats hold it exactly."""

_SLOWEST, _FASTEST = 1e-6, 1e9
"""Millions of operations or bytes a second, and 10**21: times on other devices are no numbers any more."""

_ROUTINGS = ("balanced", "worst", "zipf:ALPHA", "random:SEED")


def question_asked(family: Family, request: DeepSeekOCRAnalyticRequest, device_files: Sequence[Path] = ()) -> Question:
    """What a request asks: its profile's workload with the keys of its scenario over it.

    Raises UnknownNameError for a profile or device that is not there, ScenarioError for what is not possible.
    """
    profile = find_profile(request.workload_profile_id)
    workload = Scenario(**{"decode_steps": DEFAULT_DECODE_STEPS, **profile.scenario})
    labels = Labels(
        model_id=request.model_id,
        model_variant=request.model_variant,
        profile_id=profile.profile_id,
        profile_description=profile.description,
        doc_kind=profile.doc_kind,
        profile_run_id=request.profile_run_id,
    )
    device = find_device(workload.device, device_files)
    question = Question(family, family.default_configuration(), workload, device, DEFAULT, labels)
    changes, device = _changes(request.scenario or {}, device, device_files)
    return changed(question, changes, device)


def question_changed(
    question: Question | TracedQuestion, request: WhatIfRequest, device_files: Sequence[Path] = ()
) -> Question | TracedQuestion:
    """A question with the changes of a request. Raises as ``question_asked`` does, and UsageError for a trace."""
    changes, device = _changes(request.scenario, question.device, device_files)
    asked = changed(question, changes, device)
    for name in ("peak_tflops_per_s", "memory_tb_per_s"):
        value = getattr(request, name)
        if value is not None and not _SLOWEST <= value <= _FASTEST:
            raise ScenarioError(f"{name} is {value}", remedy=f"give a number from {_SLOWEST:g} to {_FASTEST:g}")
    figures: dict[str, float] = {}
    if request.peak_tflops_per_s is not None:
        figures |= _peaks(asked, request.peak_tflops_per_s * 1e12)
    if request.memory_tb_per_s is not None:
        figures["memory_bytes_per_s"] = request.memory_tb_per_s * 1e12
    device = overridden(asked.device, figures)
    return evolve(asked, device=device, scenario=evolve(asked.scenario, device=device.id))


def _peaks(question: Question | TracedQuestion, flops_per_s: float) -> dict[str, float]:
    """Every dense peak, in proportion to that of the dtype which the scenario computes in."""
    peaks = question.device.figures.dense_flops_per_s
    dtype = question.scenario.resolve().activation_dtype
    if dtype not in peaks:
        raise ScenarioError(f"{question.device.id} has no peak for {dtype}", remedy="choose another dtype")
    factor = flops_per_s / peaks[dtype].value
    return {f"dense_flops_per_s.{name}": peak.value * factor for name, peak in peaks.items()}


def _changes(keys: Mapping[str, Any], device: Device, device_files: Sequence[Path]) -> tuple[dict[str, Any], Device]:
    """Keys of a request as a scenario takes them, and the device that they name."""
    changes = dict(keys)
    for key, value in changes.items():
        _check_size(key, value)
    if "routing" in changes:
        _check_routing(changes["routing"])
    if "pages" in changes:
        changes["pages"] = converter.structure(changes["pages"], tuple[Page, ...])
    wanted = changes.get("device", device.id)
    return changes, device if wanted == device.id else find_device(wanted, device_files)


def _check_size(key: str, value: Any) -> None:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _check_size(key, item)
    elif isinstance(value, int) and abs(value) > _LARGEST:
        raise ScenarioError(f"{key} has a number above {_LARGEST:,}", remedy="give a smaller one")
    elif isinstance(value, str) and len(value) > MOST_LETTERS:
        raise ScenarioError(f"{key} has a text of {len(value)} letters", remedy=f"give at most {MOST_LETTERS}")


def _check_routing(text: str) -> None:
    """Only policies that are words: the command line takes a file's name too, and no request may name a file."""
    if text.partition(":")[0] not in ("balanced", "worst", "zipf", "random"):
        raise UnknownNameError("routing policy", text, _ROUTINGS)
