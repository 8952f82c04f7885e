"""The report's contract: what is written is read back, and what breaks it is refused with its place."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, fields
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from modelmeter.contracts import (
    AnalyticModelReport,
    AnalyticModuleNode,
    DeepSeekOCRAnalyticAccepted,
    DeepSeekOCRAnalyticModel,
    DeepSeekOCRAnalyticReportSummary,
    DeepSeekOCRAnalyticRequest,
    DeepSeekOCRModelSpec,
    ExactCosts,
    Interval,
    ModuleMetricsSnapshot,
    OCRWorkloadProfile,
    OperatorCategory,
    OperatorMetrics,
    WhatIfRequest,
    converter,
    load_report,
    report_files,
    report_flags,
    report_json,
    report_yaml,
    save_report,
)
from modelmeter.contracts.summary import own_times_ms
from modelmeter.contracts.yaml_reader import read_own_yaml
from modelmeter.contracts.yaml_text import dump_yaml
from modelmeter.errors import DocumentError, OutputError
from random_reports import KEYED, TEXT, changed, places, reports, shown, wrong_values

some = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def node(name: str, parent: str | None = None, *children: str) -> AnalyticModuleNode:
    return AnalyticModuleNode(
        module_id=name, name=name, qualified_class_name="C", stage="prefill", parent_id=parent, children=children
    )


def metrics(name: str, time_ms: float, share: float = 0.5) -> ModuleMetricsSnapshot:
    return ModuleMetricsSnapshot(
        module_id=name,
        profile_id="p",
        calls=1,
        total_time_ms=time_ms,
        total_flops_tflops=time_ms / 10,
        total_io_tb=0.0,
        memory_weights_gb=0.0,
        memory_activations_gb=2.0,
        memory_kvcache_gb=0.0,
        share_of_model_time=share,
        operator_breakdown=(
            OperatorMetrics(category_id="linear", calls=1, flops_tflops=1.0, io_tb=1.0, share_of_module_flops=1.0),
        ),
    )


REPORT = AnalyticModelReport(
    report_id="r1",
    model=DeepSeekOCRModelSpec(
        model_id="deepseek-ai/DeepSeek-OCR",
        model_variant="3b",
        config_path="config.json",
        hidden_size=1280,
        intermediate_size=6848,
        num_layers=12,
        num_attention_heads=10,
        vision_backbone="clip_vit_l",
        uses_moe=True,
    ),
    workload=OCRWorkloadProfile(
        profile_id="p",
        description="",
        seq_len=493,
        base_size=1024,
        image_size=640,
        crop_mode=True,
        max_new_tokens=256,
        doc_kind="synthetic",
        num_pages=1,
    ),
    modules=(node("root", None, "a", "b"), node("a", "root", "c"), node("b", "root"), node("c", "a")),
    operator_categories=(OperatorCategory(category_id="linear", display_name="", description=""),),
    module_metrics=(metrics("root", 100.0, 1.0), metrics("a", 70.0, 0.7), metrics("b", 30.0, 0.3), metrics("c", 45.0)),
    predicted_total_time_ms=100.0,
    layer_docs_dir="layers",
)
DATA = converter.unstructure(REPORT)


def refusal(data: Any, kind: type = AnalyticModelReport) -> str:
    with pytest.raises(DocumentError) as caught:
        converter.structure(data, kind)
    return str(caught.value)


# -- round trips ---------------------------------------------------------------------------------------


@some
@given(reports())
def test_reports_round_trip(report: AnalyticModelReport) -> None:
    text = report_json(report)
    read = converter.structure(json.loads(text), AnalyticModelReport)
    assert read == report
    assert report_json(read) == text
    yaml = report_yaml(report)
    again = converter.structure(YAML(typ="safe", pure=True).load(yaml), AnalyticModelReport)
    assert again == report
    assert report_yaml(again) == yaml
    assert report_files(report) == {"report.json": text, "report.yaml": yaml}


@some
@given(reports())
def test_views_round_trip(report: AnalyticModelReport) -> None:
    for kind in (DeepSeekOCRAnalyticReportSummary, DeepSeekOCRAnalyticModel):
        data = converter.unstructure(report, unstructure_as=kind)
        view = converter.structure(json.loads(json.dumps(data)), kind)
        assert converter.unstructure(view) == data
        assert data["report_id"] == report.report_id


@pytest.mark.parametrize("name", ["report.json", "report.yaml", "report.yml"])
def test_files_round_trip(name: str, tmp_path: Path) -> None:
    path = save_report(REPORT, tmp_path / name)
    assert load_report(path) == REPORT
    assert save_report(load_report(path), tmp_path / f"again-{name}").read_bytes() == path.read_bytes()
    with pytest.raises(OutputError, match="exists"):
        save_report(REPORT, path)


WORDS = "null No on 1e5 0x10 1:30 2020-01-01 - ? = << ~ a:b # .5 +1 0o7 1_000 --- ... y é & * ! | > % @ `".split()
ODD = ["\x85", "\u2028", "\ufeff", " a", "a ", "a\n", "\t", "a: b", "a #b", "\U0001f600", "\xa0", "a\\b", '"', "'"]
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
# Text that a reader of YAML may take for something else.
SCALARS = st.none() | st.booleans() | NUMBERS | TEXT | st.sampled_from(WORDS + ODD)
KEYS = TEXT | st.sampled_from(WORDS + ODD)
DATA_OF_ANY_KIND = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)


@settings(max_examples=100, deadline=None)
@given(DATA_OF_ANY_KIND)
def test_yaml_is_what_others_read(data: Any) -> None:
    read = YAML(typ="safe", pure=True).load(dump_yaml(data))
    assert read == data
    assert json.dumps(read, sort_keys=True) == json.dumps(data, sort_keys=True)
    own = read_own_yaml(dump_yaml(data))
    assert json.dumps(own, sort_keys=True) == json.dumps(data, sort_keys=True)


@pytest.mark.parametrize(
    "text", ["a: 1 # one\n", "{a: 1}\n", "a:\n- 1\n", "b: 1\na: 1\n", "a: 1", "", "a: 01\n", "a: yes\n"]
)
def test_yaml_of_others_is_left_to_the_library(text: str) -> None:
    with pytest.raises(ValueError, match="another program"):
        read_own_yaml(text)


def test_a_report_that_was_edited_is_read(tmp_path: Path) -> None:
    edited = "# mine\n" + report_yaml(REPORT).replace('notes: ""', "notes: 'it''s mine'", 1)
    (tmp_path / "r.yaml").write_text(edited)
    assert load_report(tmp_path / "r.yaml") in (
        evolve(REPORT, notes="it's mine"),
        evolve(REPORT, model=evolve(REPORT.model, notes="it's mine")),
    )


def test_yaml_refuses_what_is_not_plain() -> None:
    for wrong, error in ((math.nan, ValueError), ([math.inf], ValueError), ({1: 2}, TypeError), ((1,), TypeError)):
        with pytest.raises(error):
            dump_yaml(wrong)


# -- what breaks the contract --------------------------------------------------------------------------


@some
@given(reports(), st.data())
def test_wrong_values_are_refused_with_their_place(report: AnalyticModelReport, draw: st.DataObject) -> None:
    data = converter.unstructure(report)
    path, value = draw.draw(st.sampled_from([place for place in places(data) if place[0]]))
    wrong = draw.draw(st.sampled_from(wrong_values(value)))
    assert f" @ {shown(path)}" in refusal(changed(data, path, wrong))


def test_every_field_refuses_wrong_values() -> None:
    for path, value in places(DATA):
        if path:
            for wrong in wrong_values(value):
                assert f" @ {shown(path)}" in refusal(changed(DATA, path, wrong)), (path, wrong)


@some
@given(reports(), st.data())
def test_unknown_and_missing_keys_are_refused(report: AnalyticModelReport, draw: st.DataObject) -> None:
    data = converter.unstructure(report)
    objects = [p for p in places(data) if isinstance(p[1], dict) and (not p[0] or p[0][-1] not in KEYED)]
    path, value = draw.draw(st.sampled_from(objects))
    text = refusal(changed(data, path, {**value, "surprise": 1}))
    assert "surprise" in text and f" @ {shown(path)}" in text


@pytest.mark.parametrize("key", [key for key in DATA if key not in ("notes",)])
def test_missing_fields_are_refused(key: str) -> None:
    text = refusal({name: value for name, value in DATA.items() if name != key})
    assert key in text


NODES = DATA["modules"]
COSTS = dict.fromkeys([field.name for field in fields(ExactCosts)], 1)
STAGE = {"costs": COSTS, "time_s": {"low": 1.0, "estimate": 1.0, "high": 1.0}, "bound": "memory"}
SIZES = dict.fromkeys(["parameters", "weight_bytes", "kv_cache_bytes", "peak_live_bytes"], 1)
TOTALS = {"costs": COSTS, "stages": {"other": STAGE}, "matrix_flops_by_dtype": {}, "peak_module": "", **SIZES}
ORPHAN = {key: value for key, value in NODES[1].items() if key != "parent_id"}
OUTSIDE = ["/a", "~/a", "../a", "a/../b", "a\\b", "C:/a", "file://a", "", "a//b", ".", "./a", "a\n"]


@pytest.mark.parametrize(
    ("path", "value", "place", "words"),
    [
        (("modules", 1, "parent_id"), "gone", "modules[1].parent_id", "no module"),
        (("modules", 1, "children", 0), "gone", "modules[1].children[0]", "no module"),
        (("modules", 1, "children"), [], "modules[3].parent_id", "among its children"),
        (("modules", 2, "children"), ["c"], "modules[2].children[0]", "has the parent 'a'"),
        (("modules", 1, "children"), ["c", "c"], "modules[1].children[1]", "twice"),
        (("modules", 1, "module_id"), "b", "modules[2].module_id", "twice"),
        (
            ("modules", 1),
            {k: v for k, v in NODES[1].items() if k != "parent_id"},
            "modules[1].parent_id",
            "second root",
        ),
        (("modules",), [], "modules", "at least one"),
        (("modules", 0, "stage"), "decoding", "modules[0].stage", "expected one of vision"),
        (("modules", 0, "repetition"), "while", "modules[0].repetition", "expected one of none"),
        (("module_metrics", 3, "module_id"), "gone", "module_metrics[3].module_id", "no module"),
        (("module_metrics", 3, "module_id"), "a", "module_metrics[3].module_id", "twice"),
        (("module_metrics", 3, "calls"), "8", "module_metrics[3].calls", "expected int, got str"),
        (("module_metrics", 3, "profile_id"), "q", "module_metrics[3].profile_id", "the workload is 'p'"),
        (
            ("module_metrics", 0, "operator_breakdown", 0, "category_id"),
            "gone",
            "module_metrics[0].operator_breakdown[0].category_id",
            "no operator category",
        ),
        (("operator_categories",), DATA["operator_categories"] * 2, "operator_categories[1].category_id", "twice"),
        (("model", "vision_backbone"), "vit", "model.vision_backbone", "expected one of"),
        (("workload", "doc_kind"), "page", "workload.doc_kind", "expected one of"),
        (("report_id",), "../r1", "report_id", "an id of letters"),
        (("report_id",), "r1\n", "report_id", "an id of letters"),
        (("scenario",), {"a": [1, {"b": math.nan}]}, "scenario['a'][1]['b']", "finite"),
        (("scenario",), {"a": (1,)}, "scenario['a']", "plain data"),
        (("scenario",), {1: 1}, "scenario[1]", "expected str"),
        (("scenario",), {"a": "\ud800"}, "scenario['a']", "surrogate"),
        (("modules", 0, "constructor_params"), {"a": math.inf}, "modules[0].constructor_params['a']", "finite"),
        (("predicted_total_time_ms",), 10**400, "predicted_total_time_ms", "finite number"),
        (("totals",), {**TOTALS, "stages": {"page": STAGE}}, "totals.stages['page']", "expected one of vision"),
        (("totals",), {**TOTALS, "stages": {"other": {**STAGE, "bound": "io"}}}, "totals.stages['other'].bound", "io"),
    ],
)
def test_broken_references_are_refused(path: tuple[str | int, ...], value: Any, place: str, words: str) -> None:
    data = {**DATA, path[0]: DATA.get(str(path[0]))}
    text = refusal(changed(data, path, value))
    assert f" @ $.{place}" in text
    assert words in text


def test_cycles_are_refused() -> None:
    loop = [{**NODES[1], "parent_id": "c"}, {**NODES[3], "children": ["a"]}]
    text = refusal({**DATA, "modules": [{**NODES[0], "children": ["b"]}, loop[0], NODES[2], loop[1]]})
    assert "'a' is below itself @ $.modules[1].parent_id" in text
    itself = {**NODES[0], "parent_id": "root", "children": ["root", "a", "b"]}
    assert "'root' is below itself" in refusal({**DATA, "modules": [itself, *NODES[1:]]})


@pytest.mark.parametrize(
    "path", ["/a", "~/a", "../a", "a/../b", "a\\b", "C:/a", "file://a", "", "a//b", ".", "./a", "a\n"]
)
def test_paths_that_leave_the_report_are_refused(path: str) -> None:
    assert "relative to the report" in refusal({**DATA, "layer_docs_dir": path})
    assert "$.model.config_path" in refusal({**DATA, "model": {**DATA["model"], "config_path": path}})


@pytest.mark.parametrize("path", ["layers", "a/b.c/d", "layers/", ".hidden", "a..b", "...", "Übung 1/x"])
def test_paths_below_the_report_are_taken(path: str) -> None:
    assert converter.structure({**DATA, "layer_docs_dir": path}, AnalyticModelReport).layer_docs_dir == path


@some
@given(reports(), st.data())
def test_intervals_out_of_order_are_refused(report: AnalyticModelReport, draw: st.DataObject) -> None:
    assume(report.capacity is not None and report.capacity.total_time_s.high > 0)
    assert report.capacity is not None
    high = report.capacity.total_time_s.high
    turned = evolve(report.capacity, total_time_s=Interval(low=high, estimate=high / 2, high=high))
    assert "low <= estimate <= high" in refusal(converter.unstructure(evolve(report, capacity=turned)))


def test_a_report_that_breaks_the_contract_is_not_written(tmp_path: Path) -> None:
    broken = evolve(REPORT, predicted_total_time_ms=math.nan)
    with pytest.raises(DocumentError, match=r"finite number.*\$\.predicted_total_time_ms"):
        save_report(broken, tmp_path / "report.json")
    with pytest.raises(DocumentError, match=r"\$\.modules\[0\]\.children\[1\]"):
        report_yaml(evolve(REPORT, modules=REPORT.modules[:2]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("r.json", "{", "no complete JSON"),
        ("r.json", "[]", "expected an object"),
        ("r.json", '{"report_id": NaN}', "NaN is no JSON number"),
        ("r.yaml", "a: [", "no YAML document"),
        ("r.yaml", "a: 1\na: 2", "no YAML document"),
        ("r.yaml", "a: !!python/object/apply:os.system [ls]", "no YAML document"),
        ("r.yaml", "a: .nan", "unknown|missing|required|extra"),
        ("r.yaml", "", "expected an object"),
        ("r.yaml", "[" * 600, "no YAML document"),
    ],
)
def test_broken_files_are_refused_by_name(name: str, content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DocumentError, match=words) as caught:
        load_report(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_broken_field_of_a_file_is_named(tmp_path: Path) -> None:
    for name, text in (("r.json", json.dumps), ("r.yaml", dump_yaml)):
        (tmp_path / name).write_text(text(changed(DATA, ("module_metrics", 3, "calls"), "8")))
        with pytest.raises(DocumentError) as caught:
            load_report(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "$.module_metrics[3].calls" in str(caught.value)
    with pytest.raises(DocumentError, match="cannot read"):
        load_report(tmp_path / "missing.yaml")


def test_shares_over_one_are_flagged_not_refused() -> None:
    assert report_flags(REPORT) == []
    data = changed(DATA, ("module_metrics", 1, "share_of_model_time"), 1.5)
    data = changed(data, ("module_metrics", 2, "operator_breakdown", 0, "share_of_module_flops"), 2)
    assert report_flags(converter.structure(data, AnalyticModelReport)) == [
        "module_metrics[1].share_of_model_time is 1.5, a share over 1",
        "module_metrics[2].operator_breakdown[0].share_of_module_flops is 2, a share over 1",
    ]


# -- views and requests --------------------------------------------------------------------------------


def test_the_summary_lists_modules_by_their_own_time() -> None:
    assert own_times_ms(REPORT) == {"root": 0.0, "a": 25.0, "b": 30.0, "c": 45.0}
    summary = converter.unstructure(REPORT, unstructure_as=DeepSeekOCRAnalyticReportSummary)
    assert list(summary) == [
        "report_id", "model_variant", "workload_profile_id", "predicted_total_time_ms", "top_modules", "notes"
    ]  # fmt: skip
    assert [module["module_id"] for module in summary["top_modules"]] == ["c", "b", "a"]
    a = summary["top_modules"][2]
    # a's own part: without c, which is listed as well.
    assert a["total_time_ms"] == 25.0 and a["total_flops_tflops"] == 2.5 and a["memory_activations_gb"] == 2.0
    assert a["share_of_model_time"] == pytest.approx(0.2)
    assert set(a) == {
        "module_id", "name", "stage", "share_of_model_time", "total_time_ms", "total_flops_tflops",
        "memory_activations_gb",
    }  # fmt: skip


def test_own_time_looks_below_modules_without_metrics_and_ignores_noise() -> None:
    without_a = evolve(REPORT, module_metrics=(metrics("root", 100.0), metrics("b", 30.0), metrics("c", 70.0 + 1e-12)))
    assert own_times_ms(without_a) == {"root": 0.0, "b": 30.0, "c": 70.0 + 1e-12}


@some
@given(reports())
def test_own_times_are_not_negative_and_the_summary_is_ordered(report: AnalyticModelReport) -> None:
    own = own_times_ms(report)
    assert all(0 <= time < math.inf for time in own.values())
    top = converter.unstructure(report, unstructure_as=DeepSeekOCRAnalyticReportSummary)["top_modules"]
    times = [module["total_time_ms"] for module in top]
    assert times == sorted(times, reverse=True) and all(times) and len(times) <= 10


def test_the_model_view_has_what_the_contract_says() -> None:
    model = converter.unstructure(evolve(REPORT, profile_run_id="x"), unstructure_as=DeepSeekOCRAnalyticModel)
    assert list(model) == [
        "report_id", "model", "workload", "modules", "operator_categories", "module_metrics", "profile_run_id"
    ]  # fmt: skip
    assert "no module @ $.module_metrics[0].module_id" in refusal(
        changed(model, ("module_metrics", 0, "module_id"), "x"), DeepSeekOCRAnalyticModel
    )


REQUEST = {"model_id": "deepseek-ai/DeepSeek-OCR", "model_variant": "3b", "workload_profile_id": "dsocr-standard-v1"}


def test_requests() -> None:
    plain = converter.structure(REQUEST, DeepSeekOCRAnalyticRequest)
    assert plain.force_rebuild is False and plain.scenario is None and plain.profile_run_id is None
    scenario = {"batch": 8, "pages": [{"grid": [2, 1]}], "device": "h200", "kv_dtype": None}
    asked = converter.structure({**REQUEST, "scenario": scenario}, DeepSeekOCRAnalyticRequest)
    assert asked.scenario == scenario
    assert converter.unstructure(asked) == {**REQUEST, "force_rebuild": False, "scenario": scenario}
    assert converter.structure({"report_id": "a", "status": "queued"}, DeepSeekOCRAnalyticAccepted).status == "queued"
    assert "$.status" in refusal({"report_id": "a", "status": "done"}, DeepSeekOCRAnalyticAccepted)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"force_rebuild": 1}, "$.force_rebuild"),
        ({"workload_profile_id": "../../etc/passwd"}, "$.workload_profile_id"),
        ({"profile_run_id": "a/b"}, "$.profile_run_id"),
        ({"model_id": ""}, "$.model_id"),
        ({"model_id": "a\x1b[0m"}, "$.model_id"),
        ({"scenario": []}, "$.scenario"),
        ({"scenario": {"batch": "8"}}, "$.scenario.batch"),
        ({"scenario": {"batch": 0}}, "$.scenario.batch"),
        ({"scenario": {"batch": 10**400}, "surprise": 1}, "surprise"),
        ({"scenario": {"batches": 8}}, "$.scenario.batches"),
        ({"scenario": {"mode": "huge"}}, "$.scenario.mode"),
        ({"scenario": {"dtype": None}}, "$.scenario.dtype"),
        ({"scenario": {"pages": [{"width": 5}]}}, "$.scenario.pages[0]"),
        ({"scenario": {"pages": [{"grid": [2]}]}}, "$.scenario.pages[0].grid"),
        ({"scenario": {"pages": [{"grid": "21"}]}}, "$.scenario.pages[0].grid"),
    ],
)
def test_wrong_requests_are_refused(change: dict[str, Any], place: str) -> None:
    assert place in refusal({**REQUEST, **change}, DeepSeekOCRAnalyticRequest)


def test_what_if_requests_name_the_key() -> None:
    assert converter.structure({}, WhatIfRequest).scenario == {}
    assert "$.scenario.batch" in refusal({"scenario": {"batch": -1}}, WhatIfRequest)
    assert "$.peak_tflops_per_s" in refusal({"peak_tflops_per_s": -1}, WhatIfRequest)
