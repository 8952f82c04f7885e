"""Plans for several devices from the command line to the report: rates, prices, memory, expressions, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command import SCENARIO, SMALL, command, write_small
from modelmeter.contracts import converter
from modelmeter.contracts.expressions import evaluate_graph
from modelmeter.contracts.json_schema import document_schema
from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.cost.catalogue import find_device
from modelmeter.cost.efficiency import DEFAULT
from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.planning.report import Labels, build_report
from modelmeter.planning.sweep import sweep
from modelmeter.schema.scenario import Page, Scenario
from modelmeter.schema.timing import NETWORK

DEGREES: dict[str, dict[str, Any]] = {
    "tensor": {"tensor_parallel": 2},
    "both": {"tensor_parallel": 2, "expert_parallel": 2, "devices": 6},
    "experts": {"expert_parallel": 4, "batch": 6},
    "drawn": {"expert_parallel": 4, "batch": 4, "routing": "zipf:1.1", "decode_steps": 3},
    "replicas": {"devices": 3},
}


def report_of(**given: Any) -> AnalyticModelReport:
    scenario = Scenario(**{"pages": (Page(grid=(2, 1)),), "decode_steps": 15, "execution": "graph", **given})
    return build_report(FAMILY, FAMILY.default_configuration(), scenario, find_device("h100-sxm"), DEFAULT, Labels())


@pytest.fixture(scope="module")
def alone() -> AnalyticModelReport:
    return report_of()


@pytest.fixture(scope="module", params=list(DEGREES))
def several(request: pytest.FixtureRequest) -> AnalyticModelReport:
    return report_of(**DEGREES[request.param])


def test_expressions_give_the_report(several: AnalyticModelReport) -> None:
    expressions, totals = several.expressions, several.totals
    assert expressions and totals and several.capacity
    found = evaluate_graph(expressions, expressions["keys"])
    sums: dict[str, float] = {}
    for name, value in found.items():
        if name.startswith("modules/"):
            part = name.rpartition("/")[2]
            sums[part] = sums.get(part, 0) + value
    exact = converter.unstructure(totals.costs)
    assert {name: sums[name] for name in exact} == exact
    for case in ("low", "estimate", "high"):
        expected = getattr(several.capacity.total_time_s, case)
        assert sums[f"time_s.{case}"] == pytest.approx(expected, rel=1e-12)
    assert found["totals/weight_bytes"] == totals.weight_bytes
    assert found["totals/peak_live_bytes"] == totals.peak_live_bytes


def test_links_are_keys_of_the_expressions() -> None:
    report = report_of(tensor_parallel=2)
    assert report.expressions is not None
    keys = report.expressions["keys"]
    slower = evaluate_graph(report.expressions, {**keys, "interconnect_bytes_per_s": 1e9, "link_latency_s": 1e-4})
    before = evaluate_graph(report.expressions, keys)
    place = "modules/layers.[0-11].self_attn/decode/time_s.estimate"
    assert slower[place] > 10 * before[place]


def test_one_device_says_nothing_of_others(alone: AnalyticModelReport) -> None:
    text = json.dumps(converter.unstructure(alone))
    data = json.loads(text)
    assert "wire_bytes" not in text and "communication" not in text
    assert not {"devices", "replicas"} & set(data["capacity"])
    assert "Devices:" not in alone.notes


def test_rates_and_prices_count_all_devices(alone: AnalyticModelReport, several: AnalyticModelReport) -> None:
    assert several.scenario and several.capacity and alone.capacity
    given, capacity = several.scenario["scenario"], several.capacity
    replicas = given["devices"] // max(given["tensor_parallel"], given["expert_parallel"])
    assert (capacity.devices, capacity.replicas) == (given["devices"], replicas)
    pages = given["batch"] * replicas
    seconds = capacity.total_time_s.estimate
    assert capacity.pages_per_s and capacity.pages_per_s_and_device and capacity.price_per_1000_pages_usd
    assert capacity.tokens_per_s
    assert capacity.pages_per_s.estimate == pytest.approx(pages / seconds)
    assert capacity.tokens_per_s.estimate == pytest.approx(pages * (given["decode_steps"] + 1) / seconds)
    assert capacity.pages_per_s_and_device.estimate == pytest.approx(pages / seconds / given["devices"])
    hourly = find_device("h100-sxm").hourly_price_usd
    assert hourly is not None
    assert capacity.price_per_1000_pages_usd.estimate == pytest.approx(
        given["devices"] * hourly / 3600 * seconds / pages * 1000
    )
    assert capacity.memory_bytes <= alone.capacity.memory_bytes * given["batch"]
    assert capacity.largest_batch and alone.capacity.largest_batch
    assert capacity.largest_batch >= alone.capacity.largest_batch


def test_replicas_only_multiply(alone: AnalyticModelReport) -> None:
    three = report_of(devices=3)
    assert three.totals == alone.totals and three.module_metrics == alone.module_metrics
    assert three.capacity and alone.capacity and three.capacity.pages_per_s and alone.capacity.pages_per_s
    assert three.capacity.pages_per_s.estimate == pytest.approx(3 * alone.capacity.pages_per_s.estimate)
    assert three.capacity.pages_per_s_and_device == alone.capacity.pages_per_s_and_device
    assert three.capacity.price_per_1000_pages_usd and alone.capacity.price_per_1000_pages_usd
    assert three.capacity.price_per_1000_pages_usd.estimate == pytest.approx(
        alone.capacity.price_per_1000_pages_usd.estimate
    )


def test_the_report_is_one_of_the_contract(several: AnalyticModelReport) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    data = json.loads(json.dumps(converter.unstructure(several)))
    jsonschema.Draft202012Validator(document_schema("report")).validate(data)
    assert converter.structure(data, AnalyticModelReport) == several


def test_communication_is_a_category_and_a_bound() -> None:
    report = report_of(tensor_parallel=2)
    assert report.totals and report.totals.costs.wire_bytes
    (category,) = [one for one in report.operator_categories if one.category_id == "communication"]
    assert "LlamaAttention" in category.match_classes
    root = report.module_metrics[0]
    (part,) = [one for one in root.operator_breakdown if one.category_id == "communication"]
    # Two all-reduces in each of 24 CLIP layers for each of two views; in the decoder 25, and one gathering of logits.
    assert part.calls == 2 * 24 * 2 + 16 * (25 + 1)
    assert report.stage_metrics is not None
    bounds = {one.bound for one in report.stage_metrics if one.module_id == "embed_tokens"}
    assert bounds == {NETWORK}


def test_notes_say_what_is_assumed() -> None:
    notes = report_of(tensor_parallel=2, expert_parallel=2, devices=4).notes
    for words in ("4 in 2 replicas", "SAM, projector", "expert e on device e mod 2", "450 GB/s in one direction"):
        assert words in notes
    assert "sent to them" in report_of(expert_parallel=4).notes


# Commands -----------------------------------------------------------------------------------------------


def test_analyze_and_what_if(tmp_path: Path) -> None:
    arguments = ("--grid", "2x1", "--execution", "graph", "--max-new-tokens", "16")
    made = command("analyze", "deepseek-ocr", *arguments, "--out", "one", "--quiet", cwd=tmp_path)
    assert made.code == 0, made.err
    fresh = command("analyze", "deepseek-ocr", *arguments, "--tensor-parallel", "2", "--json")
    for change in (("--set", "tensor_parallel=2"), ("--tensor-parallel", "2")):
        asked = command("what-if", "one/report.json", *change, "--json", cwd=tmp_path)
        assert asked.code == 0, asked.err
        assert json.loads(asked.out)["after"] == json.loads(fresh.out)
    back = command("analyze", "deepseek-ocr", *arguments, "--tensor-parallel", "2", "--out", "two", cwd=tmp_path)
    assert "2 × H100 SXM" in back.out and "Memory of one device" in back.out and "communication" in back.out
    assert max(len(line) for line in back.out.splitlines()) <= 100
    assert "2 × H100 SXM" in (tmp_path / "two" / "summary.md").read_text()
    again = command("what-if", "two/report.json", "--set", "tensor_parallel=1", "--json", cwd=tmp_path)
    assert json.loads(again.out)["after"] == json.loads((tmp_path / "one" / "report.json").read_text())


def test_solving_for_several_devices(tmp_path: Path) -> None:
    made = command("analyze", "deepseek-ocr", "--grid", "1x1", "--execution", "graph", "--out", ".", cwd=tmp_path)
    assert made.code == 0, made.err
    ask = ("what-if", "report.json", "--tensor-parallel", "2", "--json", "--solve")
    batch = json.loads(command(*ask, "batch", cwd=tmp_path).out)["batch"]
    found = json.loads(command(*ask, "device", cwd=tmp_path).out)["devices"]
    offered = {one["device"]: one for one in found}
    assert "h100-sxm" in offered and offered["h100-sxm"]["batch"] == batch
    report = report_of(tensor_parallel=2, batch=batch, pages=(Page(grid=(1, 1)),), decode_steps=255)
    assert report.capacity and report.capacity.price_per_1000_pages_usd
    assert offered["h100-sxm"]["price_per_1000_pages_usd"] == pytest.approx(
        report.capacity.price_per_1000_pages_usd.estimate
    )


def test_figures_of_a_link_may_be_given(tmp_path: Path) -> None:
    made = command("analyze", "deepseek-ocr", "--device", "xeon-8480+", "--grid", "1x1", "--out", ".", cwd=tmp_path)
    assert made.code == 0, made.err
    refused = command("what-if", "report.json", "--tensor-parallel", "2", cwd=tmp_path)
    assert refused.code == SCENARIO and "has no figure for its connection to others" in refused.err
    figure = ("--figure", "interconnect_bytes_per_s=24e9")
    given = command("what-if", "report.json", "--tensor-parallel", "2", *figure, cwd=tmp_path)
    assert given.code == 0, given.err


def test_verify_compares_one_device(tmp_path: Path) -> None:
    write_small(tmp_path)
    small = ("verify", "small.json", *SMALL[2:], "--grid", "1x1", "--decode-steps", "1", "--json")
    one, several = (command(*small, *more, cwd=tmp_path) for more in ((), ("--tensor-parallel", "2")))
    assert one.code == several.code == 0, several.err
    assert several.out == one.out


def test_a_sweep_on_several_devices_gives_the_same_numbers() -> None:
    given = {"tensor_parallel": 2, "expert_parallel": 2, "execution": "graph", "decode_steps": 4}
    scenario = Scenario(pages=(Page(grid=(2, 1)),), **given)
    config = FAMILY.default_configuration()
    found = sweep(FAMILY, config, scenario, {"batch": [1, 3], "device": ["h100-sxm", "rtx-4090", "xeon-8480+"]})
    assert found.refused and "has no figure for its connection" in next(iter(found.refused))
    for batch in (1, 3):
        for device in ("h100-sxm", "rtx-4090"):
            one = Scenario(pages=scenario.pages, batch=batch, **given)
            timed = FAMILY.costs(config, one).timed(find_device(device), "graph")
            place = found.at(batch=batch, device=device)
            assert found.totals["weight_bytes"][place] == timed.tree.weight_bytes
            assert found.totals["peak_bytes"][place] == timed.tree.peak.bytes
            for stage, span in timed.stages.items():
                for case in ("low", "estimate", "high"):
                    assert found.seconds[stage][case][place] == pytest.approx(getattr(span.seconds, case), rel=1e-9)
