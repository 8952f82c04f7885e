"""The page's expressions give what a fresh analysis gives, for other devices, sizes, data types and attention."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from command import LLAMA, command, write_json
from modelmeter.contracts import load_report
from modelmeter.contracts.expressions import evaluate_graph
from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.cost.catalogue import load_catalogue
from modelmeter.families.deepseek_ocr.views import VisionWorkload, compute_view_layout
from modelmeter.planning.live import live_report, why_not
from modelmeter.planning.what_if import changed, question_of
from modelmeter.schema.callgraph import STAGES
from modelmeter.schema.scenario import Page
from modelmeter.schema.timing import BOUNDS

EXAMPLE = Path(__file__).parents[1] / "examples" / "report.json"

ASKED: list[dict[str, Any]] = [
    {},
    {"batch": 7, "decode_steps": 40},
    {"device": "h200", "execution": "graph", "batch": 16, "decode_steps": 511},
    {"device": "rtx-5090", "attention": "eager", "text_tokens": 333},
    {"dtype": "float8_e4m3fn", "decode_steps": 0},
    {"dtype": "float32", "attention": "eager", "device": "a100-40g", "pages": (Page(grid=(3, 2)),)},
    {"pages": (Page(grid=(1, 1)), Page(grid=(1, 1))), "mode": "tiny", "batch": 3},
    {"pages": (Page(grid=(2, 4)),) * 3, "decode_steps": 1, "execution": "graph"},
]


SHARED = {"expert_parallel": 4, "devices": 8, "batch": 32, "execution": "graph"}

CASES: list[tuple[str, dict[str, Any]]] = [
    *(("example", asked) for asked in ASKED),
    ("shared", {}),
    ("shared", {"device": "h200", "batch": 61, "execution": "eager", "attention": "eager"}),
    ("shared", {"decode_steps": 0, "pages": (Page(grid=(1, 1)),)}),
    ("traced", {}),
    ("traced", {"device": "rtx-5090", "execution": "graph"}),
]
"""Reports and changes: one of a closed form, one of several devices, one from a trace."""


@cache
def example(subject: str = "example") -> AnalyticModelReport:
    if subject == "traced":
        return traced()
    report = load_report(EXAMPLE)
    return changed(question_of(report), SHARED).report() if subject == "shared" else report


def traced() -> AnalyticModelReport:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_json(folder / "config.json", LLAMA)
        options = ("--input-ids", "2x24", "--decode-steps", "9", "--out", "runs", "--quiet")
        assert command("analyze", "config.json", *options, cwd=folder).code == 0
        return load_report(folder / "runs" / "report.json")


@cache
def live(subject: str = "example") -> dict[str, Any]:
    found = live_report(example(subject), load_catalogue().values())
    assert found is not None
    return found


def unpacked(graph: Mapping[str, Any], variant: int) -> dict[str, Any]:
    """The compact graph as a report writes it, for the evaluation that reports have."""
    nodes: list[list[Any]] = []
    arguments = iter(graph["args"])
    for place, letter in enumerate(graph["ops"]):
        name, arity = graph["operations"][letter]
        given = [next(arguments) for _ in range(arity)]
        if name in ("number", "key"):
            nodes.append([name, graph[f"{name}s"][given[0]]])
        else:
            nodes.append([name, *(place - one for one in given)])
    return {"nodes": nodes, "roots": dict(zip(graph["names"], graph["roots"][variant], strict=True))}


def answer(subject: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a page works out for these changes, as its script does."""
    document = live(subject)
    own = document["variants"][0]
    attention, dtype = asked.get("attention", own["attention"]), asked.get("dtype", own["dtype"])
    variant = next(
        place
        for place, one in enumerate(document["variants"])
        if (one["attention"], one["dtype"]) == (attention, dtype)
    )
    device = next(
        one for one in document["devices"] if one["id"] == asked.get("device", document["levers"]["device"]["value"])
    )
    keys = {**document["keys"], **device["keys"], "page_width": 1240, "page_height": 1754}
    keys.setdefault("hourly_price_usd", 0.0)
    # What a device lacks is not a number on the page.
    keys |= {name: float("nan") for name in document["graph"]["keys"] if name not in keys}
    if "execution" in asked:
        keys["eager"] = int(asked["execution"] == "eager")
    keys |= {name: asked[name] for name in ("batch", "decode_steps", "text_tokens") if name in asked}
    if "mode" in asked:
        keys |= document["levers"]["mode"]["choices"][asked["mode"]]
    if "pages" in asked:
        page = document["levers"]["page"]
        keys[page["columns"]], keys[page["rows"]] = asked["pages"][0].grid
        keys[document["levers"]["pages"]["key"]] = len(asked["pages"])
        keys["text_tokens"] = asked.get("text_tokens", page["text_tokens"])
    return evaluate_graph(unpacked(document["graph"], variant), keys)


def fresh(subject: str, asked: Mapping[str, Any]) -> AnalyticModelReport:
    question = question_of(example(subject))
    device = load_catalogue()[asked["device"]] if "device" in asked else None
    return changed(question, asked, device).report()


def close(number: float) -> Any:
    return pytest.approx(number, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize(("subject", "asked"), CASES, ids=str)
def test_modules_are_those_of_a_fresh_report(subject: str, asked: dict[str, Any]):
    found, report = answer(subject, asked), fresh(subject, asked)
    assert [node.module_id for node in report.modules] == [node.module_id for node in example(subject).modules]
    places = {node.module_id: place for place, node in enumerate(report.modules)}
    compared = 0
    for metrics in report.module_metrics:
        where = f"{places[metrics.module_id]}/all"
        assert found[f"{where}/calls"] == metrics.calls
        assert found[f"{where}/flops"] / 1e12 == metrics.total_flops_tflops
        assert found[f"{where}/bytes"] / 1e12 == metrics.total_io_tb
        assert found[f"{where}/weights"] / 1e9 == metrics.memory_weights_gb
        assert found[f"{where}/peak"] / 1e9 == metrics.memory_activations_gb
        assert found[f"{where}/cache"] / 1e9 == metrics.memory_kvcache_gb
        assert found[f"{where}/estimate"] * 1e3 == close(metrics.total_time_ms)
        assert found[f"{where}/share"] == close(metrics.share_of_model_time)
        for part in metrics.operator_breakdown:
            inside = f"{where}/{part.category_id}"
            assert found[f"{inside}/calls"] == part.calls
            assert found[f"{inside}/flops"] / 1e12 == part.flops_tflops
            assert found[f"{inside}/bytes"] / 1e12 == part.io_tb
            compared += 1
    for entry in report.stage_metrics or ():
        where = f"{places[entry.module_id]}/{entry.stage}"
        assert found[f"{where}/calls"] == entry.calls
        assert found[f"{where}/flops"] / 1e12 == entry.total_flops_tflops
        assert found[f"{where}/bytes"] / 1e12 == entry.total_io_tb
        assert found[f"{where}/estimate"] * 1e3 == close(entry.total_time_ms)
        assert found[f"{where}/share"] == close(entry.share_of_stage_time)
        assert (["", *BOUNDS])[found[f"{where}/bound"] + 1] == entry.bound
        compared += 1
    assert compared > (20 if subject == "traced" else 100)


@pytest.mark.parametrize(("subject", "asked"), CASES, ids=str)
def test_the_run_is_that_of_a_fresh_report(subject: str, asked: dict[str, Any]):
    found, report = answer(subject, asked), fresh(subject, asked)
    capacity, totals = report.capacity, report.totals
    assert capacity is not None and totals is not None
    assert found["run/memory_bytes"] == capacity.memory_bytes
    assert found["run/headroom_bytes"] == capacity.headroom_bytes
    assert found["run/live_bytes"] == totals.peak_live_bytes
    if subject != "traced":
        assert found["run/prompt_positions"] == report.workload.seq_len
    assert STAGES[found["run/slowest"]] == capacity.total_time_s.bound_by
    assert STAGES[found["run/slowest_first"]] == capacity.time_to_first_token_s.bound_by
    assert found["0/all/parameters"] == totals.parameters
    assert found["0/all/matrix_flops"] == totals.costs.matrix_flops
    assert found["0/all/launches"] == totals.costs.launches
    for name, interval in {
        "total": capacity.total_time_s,
        "first_token": capacity.time_to_first_token_s,
        "output_token": capacity.time_per_output_token_s,
        "tokens_per_s": capacity.tokens_per_s,
        "pages_per_s": capacity.pages_per_s,
        "price": capacity.price_per_1000_pages_usd,
    }.items():
        for case in ("low", "estimate", "high"):
            if interval is None:
                assert not found.get(f"run/{name}/{case}")
            else:
                assert found[f"run/{name}/{case}"] == close(getattr(interval, case)), name


@pytest.mark.parametrize(
    "size", [(1240, 1754), (640, 640), (641, 10), (3000, 900), (1, 99999), (2000, 2000), (700, 1400)]
)
def test_the_grid_of_a_page_is_the_families_own(size: tuple[int, int]):
    document = live()
    page = document["levers"]["page"]
    keys = dict.fromkeys(document["graph"]["keys"], 1.0)
    keys |= document["keys"] | {"page_width": size[0], "page_height": size[1]}
    found = evaluate_graph(unpacked(document["graph"], 0), keys)
    _, columns, rows = compute_view_layout(VisionWorkload(), *size)
    assert (found[f"page/{page['columns']}"], found[f"page/{page['rows']}"]) == (columns, rows)


def test_offered_grids_are_those_that_the_model_takes():
    grids = live()["levers"]["page"]["grids"]
    assert sorted(map(tuple, grids["crops"])) == sorted([(1, 1), *VisionWorkload().grids()])
    assert grids["whole"] == [[1, 1]]


def test_a_device_says_which_data_types_it_lacks():
    lacks = {device["id"]: device["lacks"] for device in live()["devices"]}
    assert (
        "float8_e4m3fn" in lacks["a100-40g"] and "has no peak for float8_e4m3fn" in lacks["a100-40g"]["float8_e4m3fn"]
    )
    assert lacks["h100-sxm"] == {}


def test_drawn_routing_keeps_sizes_as_they_are():
    question = question_of(example())
    drawn = changed(question, {"routing": "zipf:1.1"}).report()
    levers = (live_report(drawn) or {})["levers"]
    assert all(
        "zipf:1.1" in levers[name]["reason"] for name in ("batch", "text_tokens", "decode_steps", "pages", "page")
    )
    assert levers["device"]["reason"] == ""


def test_a_device_says_that_it_cannot_share_layers():
    documents = {subject: live(subject) for subject in ("example", "shared")}
    lacks = {
        subject: {device["id"] for device in document["devices"] if "interconnect" in device["lacks"]}
        for subject, document in documents.items()
    }
    unconnected = {name for name, device in load_catalogue().items() if device.interconnect_bytes_per_s is None}
    assert lacks == {"example": set(), "shared": unconnected}
    assert all(one["needs"][-1] == "interconnect" for one in documents["shared"]["variants"])
    assert documents["shared"]["levers"]["devices"]["value"] == "8: expert parallel 4"


def test_a_traced_report_answers_for_devices_and_execution():
    levers = live("traced")["levers"]
    usable = {name for name, lever in levers.items() if not lever["reason"]}
    assert usable == {"device", "execution"}
    assert "--retrace" in levers["batch"]["reason"] and levers["batch"]["value"] == 2
    assert why_not(example("traced")) == ""


def test_a_report_without_expressions_says_why():
    assert live_report(evolve(example(), expressions=None)) is None
    assert "no expressions" in why_not(evolve(example(), expressions=None))
    assert why_not(example()) == ""


def test_pages_that_differ_keep_their_grids():
    mixed = changed(question_of(example()), {"pages": (Page(grid=(2, 1)), Page(grid=(1, 1)))}).report()
    levers = (live_report(mixed) or {})["levers"]
    assert "differ" in levers["page"]["reason"] and "differ" in levers["pages"]["reason"]
    assert levers["batch"]["reason"] == ""
