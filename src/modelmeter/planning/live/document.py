"""Everything that a page needs to ask a report again without Python, computed from the report alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.cost.categories import CATEGORIES, OTHER
from modelmeter.cost.memory import reserve_bytes
from modelmeter.cost.roofline import Machine
from modelmeter.errors import ScenarioError
from modelmeter.planning.live.graph import compact_graph
from modelmeter.planning.live.levers import grid_rules, levers
from modelmeter.planning.live.modules import category_id
from modelmeter.planning.live.variants import AS_REPORTED, Variant, variants_of
from modelmeter.planning.what_if import Question, question_of
from modelmeter.schema.callgraph import STAGES
from modelmeter.schema.device import Device
from modelmeter.schema.timing import BOUNDS


def why_not(report: AnalyticModelReport) -> str:
    """Why a report cannot be asked again on a page; empty where it can."""
    question = _question(report)
    if question is None:
        return "this report holds no expressions: it was made from a trace, or by another tool"
    return "this report is for several devices: ask modelmeter what-if" if question.scenario.devices > 1 else ""


def live_report(report: AnalyticModelReport, devices: Iterable[Device] = ()) -> dict[str, Any] | None:
    """The report's figures as one graph of expressions, with its keys, devices, levers and choices.

    ``devices`` are offered besides the report's own. None where ``why_not`` has a reason.
    """
    question = _question(report)
    if question is None or question.scenario.devices > 1:
        return None
    variants = variants_of(question)
    rules = {f"page/{name}": rule for name, rule in grid_rules(question).items()}
    dtypes = sorted({dtype for variant in variants for dtype in variant.costs.form.dtypes})
    keys = _keys(question, variants[0])
    offered = {device.id: device for device in devices} | {question.device.id: question.device}
    graph = compact_graph([variant.roots() | rules for variant in variants])
    known = {*graph["keys"]}
    return {
        "bounds": list(BOUNDS),
        "categories": {category_id(name): name.capitalize() for name in (*CATEGORIES, OTHER)},
        "devices": [_device(device, dtypes, known) for _, device in sorted(offered.items())],
        "graph": graph,
        "keys": {name: value for name, value in sorted(keys.items()) if name in known},
        "levers": levers(question, keys),
        "stages": list(STAGES),
        "variants": [_variant(variant, question) for variant in variants],
    }


def _question(report: AnalyticModelReport) -> Question | None:
    """What a report was made from, where that has a closed form."""
    if report.expressions is None or report.scenario is None:
        return None
    question = question_of(report)
    return question if isinstance(question, Question) else None


def _keys(question: Question, own: Variant) -> dict[str, Any]:
    """The report's own values of all keys of the scenario."""
    values, _ = question.family.scenario_keys(question.config, question.scenario)
    return {**own.costs.values, **values, "eager": int(question.scenario.execution == "eager")}


def _device(device: Device, dtypes: Sequence[str], known: set[str]) -> dict[str, Any]:
    """A device's keys, and for every data type that it lacks what a command would say."""
    lacks = {}
    for dtype in dtypes:
        try:
            device.peak_flops_per_s(dtype)
        except ScenarioError as error:
            lacks[dtype] = str(error)
    figures = Machine.of(device, [dtype for dtype in dtypes if dtype not in lacks], "eager").named()
    figures |= {"memory_bytes": device.memory_bytes, "reserve_bytes": reserve_bytes(device)}
    if device.hourly_price_usd is not None:
        figures["hourly_price_usd"] = device.hourly_price_usd
    return {
        "id": device.id,
        "keys": {name: value for name, value in sorted(figures.items()) if name in known and name != "eager"},
        "lacks": lacks,
        "name": device.name,
    }


def _variant(variant: Variant, own: Question) -> dict[str, Any]:
    scenario = own.scenario.resolve()
    kinds = f"vision {scenario.vision_attention}, decoder {scenario.decoder_attention}"
    widths = f"{scenario.dtype} weights, {scenario.activation_dtype} activations, {scenario.kv_dtype} cache"
    resolved = variant.question.scenario.resolve()
    return {
        "attention": variant.attention,
        "attention_label": kinds if variant.attention == AS_REPORTED else variant.attention,
        "decoder_attention": resolved.decoder_attention,
        "dtype": variant.dtype,
        "dtype_label": widths if variant.dtype == AS_REPORTED else variant.dtype,
        "peaks": list(variant.costs.form.dtypes),
        "vision_attention": resolved.vision_attention,
    }
