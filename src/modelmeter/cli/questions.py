"""What a command asks: a model and a scenario on a device, before anything is worked out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve

from modelmeter.cli.hugging_face_options import HuggingFaceOptions
from modelmeter.cli.subject import DocumentSubject, FamilySubject, Subject, find_subject
from modelmeter.errors import UsageError
from modelmeter.schema.scenario import Scenario

if TYPE_CHECKING:
    from modelmeter.cost.efficiency import Efficiency
    from modelmeter.planning.report import Labels
    from modelmeter.planning.traced import TracedQuestion
    from modelmeter.planning.what_if import Question
    from modelmeter.schema.callgraph import CallGraph

_DEFAULT_MODEL = HuggingFaceOptions()


def asked(
    subject: str,
    given: Mapping[str, Any],
    device_file: tuple[Path, ...],
    calibration: Path | None,
    profile: str | None,
    labels: Mapping[str, Any],
    input_ids: str | None,
    step: Callable[[str], None],
    *,
    traced: bool,
    model: HuggingFaceOptions = _DEFAULT_MODEL,
    keep: Callable[[CallGraph], None] = lambda graph: None,
) -> Question | TracedQuestion:
    """The question; a model without closed forms is traced here, and one that has them if ``traced``.

    A call graph that is traced goes to ``keep``.
    """
    from modelmeter.cost.catalogue import find_device
    from modelmeter.planning.analysis import DEFAULT_DECODE_STEPS

    found = model.applied(find_subject(subject, own_code=model.trust_remote_code))
    efficiency = _efficiency(calibration)
    device = find_device(given.get("device", Scenario().device), device_file)
    if isinstance(found, FamilySubject) and not traced:
        from modelmeter.planning.what_if import Question

        if input_ids is not None:
            raise UsageError("--input-ids is for Hugging Face configurations", remedy="leave it out")
        scenario = Scenario(**{"decode_steps": DEFAULT_DECODE_STEPS, **given})
        return Question(found.family, found.config, scenario, device, efficiency, _labels(labels, profile, {}))
    from modelmeter.cli.traced_run import run_of_subject
    from modelmeter.planning.traced import TracedQuestion

    run, scenario = run_of_subject(found, given, DEFAULT_DECODE_STEPS, input_ids, step, keep)
    scenario = evolve(scenario, device=device.id)
    names = {} if isinstance(found, FamilySubject) else _names(found, run.name, run.configuration)
    return TracedQuestion(run, scenario, device, efficiency, _labels(labels, profile, names))


def _names(found: Subject, name: str, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """What a report calls a model that has no family."""
    published = configuration.get("_name_or_path")
    words = "A call graph traced before." if isinstance(found, DocumentSubject) else "Inputs given by the options."
    return {"model_id": str(published or name), "model_variant": name, "profile_description": words}


def _efficiency(calibration: Path | None) -> Efficiency:
    from modelmeter.cost.efficiency import DEFAULT

    if calibration is None:
        return DEFAULT
    from modelmeter.planning.calibration import load_efficiency

    return load_efficiency(calibration)


def _labels(given: Mapping[str, Any], profile: str | None, names: Mapping[str, Any]) -> Labels:
    from modelmeter.planning.report import Labels
    from modelmeter.planning.workload_profiles import find_profile, profile_ids

    named = {**names, **{name: value for name, value in given.items() if value is not None}}
    if profile in profile_ids():
        known = find_profile(str(profile))
        named |= {
            "doc_kind": known.doc_kind,
            "profile_description": known.description,
            "profile_id": known.profile_id,
        }
    return Labels(**named)
