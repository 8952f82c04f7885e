"""Everything that a page needs to ask a report again without Python, computed from the report alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.cost.arithmetic import Number
from modelmeter.cost.categories import CATEGORIES, OTHER
from modelmeter.cost.memory import reserve_bytes
from modelmeter.cost.network import Link
from modelmeter.cost.roofline import Machine
from modelmeter.errors import ScenarioError
from modelmeter.planning.live.graph import compact_graph
from modelmeter.planning.live.levers import grid_rules, levers, traced_levers
from modelmeter.planning.live.modules import category_id
from modelmeter.planning.live.variants import AS_REPORTED, INTERCONNECT, Variant, variants_of
from modelmeter.planning.traced import TracedQuestion
from modelmeter.planning.what_if import Question, question_of
from modelmeter.schema.callgraph import STAGES
from modelmeter.schema.device import Device
from modelmeter.schema.timing import BOUNDS


def why_not(report: AnalyticModelReport) -> str:
    """Why a report cannot be asked again on a page; empty where it can."""
    return _NO_EXPRESSIONS if _question(report) is None else ""


_NO_EXPRESSIONS = "this report holds no expressions: another tool made it, or another version of this one"


def live_report(report: AnalyticModelReport, devices: Iterable[Device] = ()) -> dict[str, Any] | None:
    """The report's figures as one graph of expressions, with its keys, devices, levers and choices.

    ``devices`` are offered besides the report's own. None where ``why_not`` has a reason.
    """
    question = _question(report)
    if question is None:
        return None
    variants = variants_of(question)
    needs = sorted({name for variant in variants for name in variant.needs})
    keys = _keys(question, variants[0])
    rules: dict[str, Number] = {}
    if isinstance(question, TracedQuestion):
        found = traced_levers(question)
    else:
        found = levers(question, keys)
        rules = {f"page/{name}": rule for name, rule in grid_rules(question).items()}
    offered = {device.id: device for device in devices} | {question.device.id: question.device}
    graph = compact_graph([variant.roots() | rules for variant in variants])
    known = {*graph["keys"]}
    return {
        "bounds": list(BOUNDS),
        "categories": {category_id(name): name.capitalize() for name in (*CATEGORIES, OTHER)},
        "devices": [_device(device, needs, known) for _, device in sorted(offered.items())],
        "graph": graph,
        "keys": {name: value for name, value in sorted(keys.items()) if name in known},
        "levers": found,
        "stages": list(STAGES),
        "variants": [_variant(variant, question) for variant in variants],
    }


def _question(report: AnalyticModelReport) -> Question | TracedQuestion | None:
    """What a report was made from, where it can be asked again without Python."""
    return None if report.expressions is None or report.scenario is None else question_of(report)


def _keys(question: Question | TracedQuestion, own: Variant) -> dict[str, Any]:
    """The report's own values of all keys of the scenario."""
    values: dict[str, Any] = {}
    if isinstance(question, Question):
        values, _ = question.family.scenario_keys(question.config, question.scenario)
    return {**own.sizes, **values, "eager": int(question.scenario.execution == "eager")}


def _device(device: Device, needs: Sequence[str], known: set[str]) -> dict[str, Any]:
    """A device's keys, and for everything needed that it lacks what a command would say."""
    lacks = {}
    for name in needs:
        try:
            Link.of(device) if name == INTERCONNECT else device.peak_flops_per_s(name)
        except ScenarioError as error:
            lacks[name] = str(error)
    dtypes = [name for name in needs if name not in lacks and name != INTERCONNECT]
    communicates = INTERCONNECT in needs and INTERCONNECT not in lacks
    figures = Machine.of(device, dtypes, "eager", communicates=communicates).named()
    figures |= {"memory_bytes": device.memory_bytes, "reserve_bytes": reserve_bytes(device)}
    if device.hourly_price_usd is not None:
        figures["hourly_price_usd"] = device.hourly_price_usd
    return {
        "id": device.id,
        "keys": {name: value for name, value in sorted(figures.items()) if name in known and name != "eager"},
        "lacks": lacks,
        "name": device.name,
    }


def _variant(variant: Variant, own: Question | TracedQuestion) -> dict[str, Any]:
    if isinstance(own, TracedQuestion):
        return {
            "attention": AS_REPORTED,
            "attention_label": "as traced",
            "decoder_attention": "",
            "dtype": AS_REPORTED,
            "dtype_label": "as traced",
            "needs": variant.needs,
            "vision_attention": "",
        }
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
        "needs": variant.needs,
        "vision_attention": resolved.vision_attention,
    }
