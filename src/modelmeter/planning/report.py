"""The analytic report of a scenario on a device, from the closed forms and the module tree."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from attrs import asdict, frozen

import modelmeter
from modelmeter.contracts.report import (
    AnalyticModelReport,
    AnalyticModuleNode,
    Capacity,
    DeepSeekOCRModelSpec,
    OCRWorkloadProfile,
    OperatorCategory,
)
from modelmeter.cost.categories import CATEGORIES, COMMUNICATION, DESCRIPTIONS, OTHER, category_of
from modelmeter.cost.efficiency import DEFAULT, Efficiency
from modelmeter.families.protocol import Family
from modelmeter.patterns import last_part
from modelmeter.planning.analysis import analyze
from modelmeter.planning.capacity import capacity_of
from modelmeter.planning.expressions import report_expressions
from modelmeter.planning.metrics import module_metrics, stage_metrics, totals_of
from modelmeter.schema.analysis import Analysis
from modelmeter.schema.cost import PREFILL, CostNode, CostTree, forward_of
from modelmeter.schema.device import Device
from modelmeter.schema.scenario import Scenario

CONFIG_PATH, LAYER_DOCS_DIR = "config.json", "layers"
"""Files beside the report, relative to it."""


@frozen
class Labels:
    """What a request says about a report beyond what determines the numbers."""

    model_id: str = "deepseek-ai/DeepSeek-OCR"
    model_variant: str = "deepseek-ocr-3b"
    hf_revision: str | None = None
    profile_id: str = "custom"
    profile_description: str = "A workload given by its options."
    doc_kind: str = "synthetic"
    profile_run_id: str | None = None
    measured_total_time_ms: float | None = None


_LABELS = Labels()


def build_report(
    family: Family,
    config: Any,
    scenario: Scenario,
    device: Device,
    efficiency: Efficiency = DEFAULT,
    labels: Labels = _LABELS,
    *,
    analysis: Analysis | None = None,
) -> AnalyticModelReport:
    """Work out a scenario on a device, if that is not done yet, and write it down under the contract.

    Raises ScenarioError for what the model cannot have, what the device lacks, and what does not fit it.
    """
    analysis = analysis or analyze(family, config, scenario, device, efficiency)
    described = family.describe(config, scenario)
    resolved = scenario.resolve()
    return assemble(
        analysis,
        report_inputs(family, config, scenario, device, efficiency, described, labels),
        labels,
        facts=family.model_facts(config),
        workload=OCRWorkloadProfile(
            profile_id=labels.profile_id,
            description=labels.profile_description,
            seq_len=described["seq_len"],
            base_size=resolved.base_size or 0,
            image_size=resolved.image_size or 0,
            crop_mode=bool(resolved.crop_mode),
            max_new_tokens=scenario.decode_steps + 1,
            doc_kind=labels.doc_kind,
            num_pages=scenario.num_pages,
        ),
        qualified=family.qualified_class_name,
        capacity=capacity_of(family, config, analysis),
        expressions=report_expressions(family, config, scenario, device, efficiency),
    )


def assemble(
    analysis: Analysis,
    inputs: dict[str, Any],
    labels: Labels,
    *,
    facts: Mapping[str, Any],
    workload: OCRWorkloadProfile,
    qualified: Callable[[str], str],
    capacity: Capacity,
    expressions: dict[str, Any] | None,
) -> AnalyticModelReport:
    """What was worked out, written down under the contract; ``qualified`` gives a class with its module."""
    predicted = analysis.timed.total.seconds.estimate * 1e3
    measured = labels.measured_total_time_ms
    return AnalyticModelReport(
        report_id=report_id(inputs),
        model=DeepSeekOCRModelSpec(
            model_id=labels.model_id,
            model_variant=labels.model_variant,
            hf_revision=labels.hf_revision,
            config_path=CONFIG_PATH,
            **facts,
        ),
        workload=workload,
        modules=module_nodes(qualified, analysis.tree),
        operator_categories=operator_categories(analysis),
        module_metrics=module_metrics(analysis, labels.profile_id),
        profile_run_id=labels.profile_run_id,
        predicted_total_time_ms=predicted,
        measured_total_time_ms=measured,
        predicted_vs_measured_ratio=predicted / measured if measured else None,
        notes=" ".join(analysis.assumptions),
        layer_docs_dir=LAYER_DOCS_DIR,
        scenario=inputs,
        stage_metrics=stage_metrics(analysis),
        totals=totals_of(analysis),
        capacity=capacity,
        expressions=expressions,
    )


def report_inputs(
    family: Family,
    config: Any,
    scenario: Scenario,
    device: Device,
    efficiency: Efficiency,
    described: Mapping[str, Any],
    labels: Labels,
) -> dict[str, Any]:
    """All that determines a report's content, as plain data."""
    inputs: dict[str, Any] = plain(
        {
            "configuration": config.to_dict(),
            "described": dict(described),
            "device": device.to_data(),
            "efficiency": asdict(efficiency),
            "family": family.name,
            "labels": asdict(labels),
            "scenario": asdict(scenario),
            "tool": tool(),
        }
    )
    return inputs


def tool() -> dict[str, str]:
    """What makes reports, and its version."""
    return {"name": "modelmeter", "version": modelmeter.__version__}


def plain(data: Any) -> Any:
    """The same as JSON would give it back: tuples become lists, keys are strings."""
    return json.loads(json.dumps(data, sort_keys=True))


def report_id(inputs: Mapping[str, Any]) -> str:
    """A hash of all that determines the content: 16 hexadecimal digits."""
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def module_nodes(qualified: Callable[[str], str], tree: CostTree) -> tuple[AnalyticModuleNode, ...]:
    """The module tree: every family of modules with its repetition and what shapes its tensors."""
    known = {node.id: node for node in tree.nodes}
    children: dict[str, list[str]] = {}
    for node in tree.nodes:
        children.setdefault(node.caller, []).append(node.id)
    found = []
    for node in tree.nodes:
        repetition, count = repetition_of(node, known.get(node.caller))
        found.append(
            AnalyticModuleNode(
                module_id=node.id,
                name=last_part(node.id),
                qualified_class_name=qualified(node.class_name),
                stage=node.stage,
                parent_id=node.caller or None,
                children=tuple(children.get(node.id, ())),
                repetition=repetition,
                repetition_count=count,
                constructor_params=plain(dict(node.configuration)),
            )
        )
    return tuple(found)


def repetition_of(node: CostNode, caller: CostNode | None) -> tuple[str, int | None]:
    """How often a node runs in one call of its caller: ``for`` in a series, ``parfor`` side by side."""
    if caller is None:
        return "none", None
    if node.members > caller.members:
        return "for" if node.series else "parfor", node.members // caller.members
    calls, times = _calls(node, PREFILL), _calls(caller, PREFILL)
    if node.members == caller.members and times and calls > times:
        return "parfor", calls // times
    return "none", None


def _calls(node: CostNode, forward: str) -> int:
    return sum(calls for run, calls in node.calls.items() if forward_of(run) == forward)


def operator_categories(analysis: Analysis) -> tuple[OperatorCategory, ...]:
    """Every category, communication only between devices, with the classes that have own operators of it."""
    classes: dict[str, dict[str, None]] = {}
    for node in analysis.tree.nodes:
        for entry in node.operators:
            classes.setdefault(category_of(entry.operator), {})[node.class_name] = None
    return tuple(
        OperatorCategory(
            category_id=category.replace(" ", "_"),
            display_name=category.capitalize(),
            description=DESCRIPTIONS[category],
            match_classes=tuple(sorted(classes.get(category, ()))),
        )
        for category in (*CATEGORIES, OTHER)
        if category != COMMUNICATION or category in classes
    )
