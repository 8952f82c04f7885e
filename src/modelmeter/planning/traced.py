"""Reports from a trace: the same contract, without a closed form.

What follows from the traced costs (times on a device, memory, capacity) is worked out as for closed forms. What would
need another trace (another batch, page, dtype, …) is refused by name, never scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import asdict, evolve, fields, frozen

from modelmeter.contracts.report import AnalyticModelReport, OCRWorkloadProfile
from modelmeter.cost.categories import by_category
from modelmeter.cost.efficiency import Efficiency
from modelmeter.cost.memory import check_fits
from modelmeter.cost.timed import time_tree
from modelmeter.errors import ScenarioError, UnknownNameError, UsageError
from modelmeter.families.registry import families, get_family
from modelmeter.planning.analysis import common_assumptions
from modelmeter.planning.capacity import rates_of
from modelmeter.planning.expressions import traced_expressions
from modelmeter.planning.model_facts import facts_of
from modelmeter.planning.report import Labels, assemble, tool
from modelmeter.planning.traced_run import TracedRun
from modelmeter.schema.analysis import Analysis
from modelmeter.schema.device import Device
from modelmeter.schema.scenario import Scenario

LEVERS = ("device", "execution")
"""Scenario keys that change no traced number."""


@frozen
class TracedQuestion:
    """A traced run and where it is to run: all that its report is made from."""

    run: TracedRun
    scenario: Scenario
    device: Device
    efficiency: Efficiency
    labels: Labels

    def inputs(self) -> dict[str, Any]:
        """All that determines the report, as plain data."""
        from modelmeter.planning.report import plain

        found: dict[str, Any] = plain(
            {
                "configuration": self.run.configuration,
                "described": self.run.described,
                "device": self.device.to_data(),
                "efficiency": asdict(self.efficiency),
                "labels": asdict(self.labels),
                "scenario": asdict(self.scenario),
                "tool": tool(),
                "trace": self.run.to_data(),
            }
        )
        return found

    def report(self, analysis: Analysis | None = None) -> AnalyticModelReport:
        """Work it out, from its ``analysis`` where that is at hand.

        Raises ScenarioError for a dtype that the device lacks, and what does not fit its memory.
        """
        return _report(self, analysis or self.analysis())

    def described(self) -> Mapping[str, Any]:
        """The scenario as it was run."""
        return self.run.described

    def analysis(self) -> Analysis:
        """Times, memory and categories of the traced run on the device.

        Raises ScenarioError for a dtype that the device lacks, and what does not fit its memory.
        """
        return analyze_traced(self.run, self.scenario, self.device, self.efficiency)


def analyze_traced(run: TracedRun, scenario: Scenario, device: Device, efficiency: Efficiency) -> Analysis:
    """A traced run on a device. Raises ScenarioError for what the device cannot do or hold."""
    timed = time_tree(run.tree, device, scenario.execution, efficiency)
    memory = check_fits(run.tree, device)
    assumptions = (
        f"Costs: traced{'' if run.kind == 'document' else f' from {run.name}'}, operator by operator.",
        "Bytes: modules that are one operator count inputs, weights and results once; what other modules run by "
        "themselves is counted kernel by kernel.",
        *(f"Trace: {note}." for note in run.notes),
        *common_assumptions(scenario, device, efficiency, "where it reads a result"),
    )
    return Analysis(scenario, device, timed, memory, by_category(timed), assumptions)


def changed_trace(question: TracedQuestion, changes: Mapping[str, Any], device: Device | None) -> TracedQuestion:
    """The same traced run elsewhere. Raises UsageError, naming the levers, for what needs another trace."""
    known = [attribute.name for attribute in fields(Scenario)]
    for name in changes:
        if name not in known:
            raise UnknownNameError("scenario key", name, known)
    others = needing_another_trace(question, changes)
    if others:
        raise UsageError(
            f"the report comes from a trace, and {', '.join(others)} would need another one",
            remedy="give --retrace where the model can be traced again, or analyze it anew",
        )
    values = {name: value for name, value in changes.items() if name in LEVERS}
    if device is not None:
        values["device"] = device.id
    return evolve(question, scenario=evolve(question.scenario, **values), device=device or question.device)


def needing_another_trace(question: TracedQuestion, changes: Mapping[str, Any]) -> list[str]:
    """The changed keys that a traced run does not answer."""
    return [name for name, value in changes.items() if name not in LEVERS and getattr(question.scenario, name) != value]


def _report(question: TracedQuestion, analysis: Analysis) -> AnalyticModelReport:
    run, scenario, labels = question.run, question.scenario, question.labels
    of_family = run.kind == "family" and run.name in families()
    if of_family:
        family = get_family(run.name)
        facts = family.model_facts(family.restore_configuration(run.configuration))
    else:
        facts = facts_of(run.configuration, run.tree)
    resolved = scenario.resolve() if of_family else None
    workload = OCRWorkloadProfile(
        profile_id=labels.profile_id,
        description=labels.profile_description,
        seq_len=_positions(run),
        base_size=(resolved and resolved.base_size) or 0,
        image_size=(resolved and resolved.image_size) or 0,
        crop_mode=bool(resolved and resolved.crop_mode),
        max_new_tokens=scenario.decode_steps + 1,
        doc_kind=labels.doc_kind,
        num_pages=scenario.num_pages,
    )
    return assemble(
        analysis,
        question.inputs(),
        labels,
        facts=facts,
        workload=workload,
        qualified=lambda name: run.class_names.get(name, name),
        capacity=rates_of(analysis, largest_batch=None),
        expressions=traced_expressions(run.tree, scenario.execution, question.device, question.efficiency),
    )


def _positions(run: TracedRun) -> int:
    found = run.described.get("seq_len")
    if type(found) is int and found >= 0:
        return found
    if found is not None:
        raise ScenarioError(f"the traced run has {found!r:.40} positions", remedy="trace it again")
    return 0
