"""Asking a report again with something changed: from the report alone, exactly as a fresh analysis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

from attrs import evolve, fields, frozen

from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.cost.efficiency import Efficiency, Step
from modelmeter.errors import DocumentError, UnknownNameError
from modelmeter.families.protocol import Family
from modelmeter.families.registry import families, get_family
from modelmeter.planning.analysis import analyze
from modelmeter.planning.report import Labels, build_report, report_inputs
from modelmeter.planning.traced import TracedQuestion, changed_trace
from modelmeter.planning.traced_run import TracedRun
from modelmeter.schema.analysis import Analysis
from modelmeter.schema.device import OPTIONAL_FIGURES, Device
from modelmeter.schema.scenario import Page, Scenario

OVERRIDES = {
    "mode": ("base_size", "image_size", "crop_mode"),
    "attention": ("vision_attention", "decoder_attention"),
    "dtype": ("activation_dtype", "kv_dtype"),
    "seq_len": ("text_tokens",),
    "text_tokens": ("seq_len",),
    "pages": ("seq_len",),
    "tensor_parallel": ("devices",),
    "expert_parallel": ("devices",),
}
"""A key to those that follow from it, and are derived anew when it changes."""


@frozen
class Question:
    """What a report was made from: all that it takes to make another."""

    family: Family
    config: Any
    scenario: Scenario
    device: Device
    efficiency: Efficiency
    labels: Labels

    def inputs(self) -> dict[str, Any]:
        """All that determines the report, as plain data, before it is worked out; ``question_from`` reads it.

        Raises ScenarioError for what the model cannot have.
        """
        described = self.family.describe(self.config, self.scenario)
        return report_inputs(
            self.family, self.config, self.scenario, self.device, self.efficiency, described, self.labels
        )

    def described(self) -> Mapping[str, Any]:
        """The scenario as it is run. Raises ScenarioError for what the model cannot have."""
        return self.family.describe(self.config, self.scenario)

    def analysis(self) -> Analysis:
        """Costs, times and memory. Raises ScenarioError as ``report`` does."""
        return analyze(self.family, self.config, self.scenario, self.device, self.efficiency)

    def report(self, analysis: Analysis | None = None) -> AnalyticModelReport:
        """Work it out, from its ``analysis`` where that is at hand.

        Raises ScenarioError for what the model cannot have, what the device lacks, and what does not fit.
        """
        return build_report(
            self.family, self.config, self.scenario, self.device, self.efficiency, self.labels, analysis=analysis
        )


def question_of(report: AnalyticModelReport) -> Question | TracedQuestion:
    """What a report was made from; nothing but the report is needed, no catalogue and no file.

    Raises DocumentError for a report without its scenario.
    """
    if report.scenario is None:
        raise DocumentError("the report holds no scenario", remedy="make it again with modelmeter analyze")
    return question_from(report.scenario)


def question_from(data: Mapping[str, Any]) -> Question | TracedQuestion:
    """The question whose ``inputs`` these are. Raises DocumentError for what they are not."""
    try:
        if "trace" in data:
            run = TracedRun.from_data(data["trace"], data["configuration"], data["described"])
            return TracedQuestion(run, *_circumstances(data))
        if data["family"] not in families():
            raise UnknownNameError("family", data["family"], families())
        family = get_family(data["family"])
        config = family.restore_configuration(data["configuration"])
        return Question(family, config, *_circumstances(data))
    except (KeyError, TypeError) as error:
        raise DocumentError(
            f"the report's scenario lacks or misnames {error}", remedy="take it as it was written"
        ) from None


def _circumstances(data: Mapping[str, Any]) -> tuple[Scenario, Device, Efficiency, Labels]:
    return (
        _scenario(data["scenario"]),
        Device.from_data(data["device"], "the report's device"),
        _efficiency(data["efficiency"]),
        Labels(**data["labels"]),
    )


@overload
def changed(question: Question, changes: Mapping[str, Any], device: Device | None = None) -> Question: ...


@overload
def changed(
    question: Question | TracedQuestion, changes: Mapping[str, Any], device: Device | None = None
) -> Question | TracedQuestion: ...


def changed(
    question: Question | TracedQuestion, changes: Mapping[str, Any], device: Device | None = None
) -> Question | TracedQuestion:
    """The same question with some scenario keys changed, and perhaps another device.

    Raises UnknownNameError for keys that a scenario does not have, ScenarioError for values it cannot have, and
    UsageError for keys that would need another trace.
    """
    if isinstance(question, TracedQuestion):
        return changed_trace(question, changes, device)
    scenario = Scenario(**changed_values(question.scenario, changes))
    if device is not None:
        scenario = evolve(scenario, device=device.id)
    return evolve(question, scenario=scenario, device=device or question.device)


def changed_values(scenario: Scenario, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A scenario's keys with some of them changed; what follows from a changed one is derived anew.

    Raises UnknownNameError for keys that a scenario does not have.
    """
    known = [attribute.name for attribute in fields(Scenario)]
    values = {name: getattr(scenario, name) for name in known}
    for name, value in changes.items():
        if name not in known:
            raise UnknownNameError("scenario key", name, known)
        for follower in OVERRIDES.get(name, ()):
            if follower not in changes:
                values.pop(follower, None)
        values[name] = value
    return values


def _scenario(data: Mapping[str, Any]) -> Scenario:
    values = dict(data)
    pages = []
    for page in values.pop("pages"):
        grid = page.get("grid")
        pages.append(Page(page.get("width"), page.get("height"), tuple(grid) if grid else None, page.get("name")))
    return Scenario(pages=tuple(pages), **values)


def _efficiency(data: Mapping[str, Any]) -> Efficiency:
    tables = {name: tuple(Step(**step) for step in data[name]) for name in ("matrix", "vector", "memory")}
    return Efficiency(**tables, launch=Step(**data["launch"]), origin=data["origin"])


def overridden(device: Device, figures: Mapping[str, float]) -> Device:
    """A device with some of its figures replaced, each by name as ``memory_bytes_per_s``; its id says so.

    ``dense_flops_per_s.bfloat16`` names a peak. Raises UnknownNameError for a figure it does not have.
    """
    if not figures:
        return device
    data = device.to_data()
    data["sources"] = {**data["sources"], "changed": {"title": "Changed by hand in a what-if question"}}
    for name, value in figures.items():
        table, _, entry = name.partition(".")
        place = data["figures"].get(table) if not entry else data["figures"].get(table, {})
        if (place is None and table not in OPTIONAL_FIGURES) or (entry and entry not in (place or ())):
            known = [figure for figure, _ in device.figures.named()]
            raise UnknownNameError("figure", name, [*known, *(one for one in OPTIONAL_FIGURES if one not in known)])
        figure = {"value": value, "source": "changed", "verified": False}
        if entry:
            data["figures"][table] = {**place, entry: figure}
            data["figures"].get("sparse_flops_per_s", {}).pop(entry, None)
        else:
            data["figures"][table] = figure
    if not data["id"].endswith("-changed"):
        data["id"] += "-changed"
    return Device.from_data(data, "the changed device")
