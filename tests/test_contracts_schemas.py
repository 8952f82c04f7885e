"""The published schemas and the OpenAPI document: made from the classes, true of real documents, no laxer than said."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from attrs import fields_dict, resolve_types
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from modelmeter.contracts import AnalyticModelReport, DeepSeekOCRAnalyticRequest, WhatIfRequest, converter
from modelmeter.contracts.json_schema import DOCUMENTS, document_schema, schema_path, schema_text
from modelmeter.contracts.openapi import document, openapi_path, openapi_text
from modelmeter.contracts.scenario_schema import MINIMA, NAMES, OPTIONAL
from modelmeter.errors import ModelMeterError
from modelmeter.schema import CallGraph, Scenario
from modelmeter.schema.measurement import Measurement
from random_reports import PLAIN, changed, places, reports

ROOT = Path(__file__).parent.parent
EXAMPLES = {"callgraph": ROOT / "examples" / "callgraph.json"}

some = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


@cache
def validator(name: str) -> Any:
    schema = document_schema(name)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_published_schemas_are_those_of_the_classes(name: str) -> None:
    assert schema_path(name).read_text(encoding="utf-8") == schema_text(name), (
        "run python -m modelmeter.contracts.json_schema"
    )
    Draft202012Validator.check_schema(json.loads(schema_text(name)))


def test_no_other_schemas_are_published() -> None:
    assert {path.stem for path in schema_path("report").parent.glob("*.json")} == set(DOCUMENTS)


@some
@given(reports())
def test_valid_reports_fit_the_schema(report: AnalyticModelReport) -> None:
    validator("report").validate(converter.unstructure(report))


def test_real_documents_fit_their_schemas() -> None:
    validator("callgraph").validate(json.loads(EXAMPLES["callgraph"].read_text(encoding="utf-8")))
    for measured in (ROOT / "examples").rglob("measurements/*/*.json"):
        validator("measurement").validate(json.loads(measured.read_text(encoding="utf-8")))
        break


GRAPH = {
    "call_counts": {"R": 1, "a": 2},
    "edges": {"R->a": 2},
    "op_call_counts": {"a": 5},
    "module_children": {"R": ["a"]},
    "module_types": {"R": "Root", "a": "Linear"},
    "schema_version": 1,
    "assumptions": [{"module": "a", "operator": "b", "rule": "c", "shape": [1], "dtype": "d", "calls": 1}],
    "parameters": {"a": {"count": 1, "bytes": 2, "dtypes": ["torch.bfloat16"]}},
    "input_metadata": {"a": [{"tensors": [{"shape": [1, 2], "dtype": "x", "argument": "y"}], "calls": 2}]},
    "costs": {"a": {"own": {"matrix_flops": 1}, "total": {"matrix_flops": 1, "peak_bytes": 4}}},
    "events": [{"event": "enter", "name": "a", "parent": None, "index": 0}],
    "forwards": [{"name": "prefill", "call_counts": {"R": 1}}],
    "peak": {"forward": "prefill", "module": "a", "operator": "mm", "bytes": 4, "tensors": []},
}
TIMES = {"time_s": 1.0, "min_s": 0.5, "max_s": 2.0, "samples_s": [1.0]}
MEASURED = {
    "schema_version": 1,
    "kind": "measurement",
    "device": {"name": "cpu", "kind": "cpu", "threads": 2},
    "conditions": {
        "warmup_runs": 1, "repeats": 1, "module_repeats": 1, "clock": "c", "execution": "eager", "inputs": "i",
        "memory": "m", "notes": ["n"],
    },
    "run": TIMES,
    "forwards": [{"name": "prefill", "time": TIMES}],
    "modules": {"a": {"calls": 1, "total_time_s": 1.0, "own_time_s": 1.0}},
    "tokens": [1],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "data", "cls"), [("callgraph", GRAPH, CallGraph), ("measurement", MEASURED, Measurement)]
)
@some
@given(draw=st.data())
def test_what_a_schema_refuses_loading_refuses(
    tmp_path: Path, name: str, data: Any, cls: type[CallGraph | Measurement], draw: st.DataObject
) -> None:
    document = tmp_path / "document.json"
    document.write_text(json.dumps(data), encoding="utf-8")
    cls.load(document)
    validator(name).validate(data)
    mutated = draw.draw(mutations(data))
    if not validator(name).is_valid(mutated):
        document.write_text(json.dumps(mutated), encoding="utf-8")
        with pytest.raises(ModelMeterError):
            cls.load(document)


def test_a_measurement_of_another_kind_is_refused(tmp_path: Path) -> None:
    document = tmp_path / "document.json"
    document.write_text(json.dumps({**MEASURED, "kind": ""}), encoding="utf-8")
    with pytest.raises(ModelMeterError, match="kind is ''"):
        Measurement.load(document)


@some
@given(reports(), st.data())
def test_what_the_reports_schema_refuses_the_codec_refuses(report: AnalyticModelReport, draw: st.DataObject) -> None:
    mutated = draw.draw(mutations(converter.unstructure(report)))
    if not validator("report").is_valid(mutated):
        with pytest.raises(ModelMeterError):
            converter.structure(mutated, AnalyticModelReport)


@st.composite
def mutations(draw: st.DrawFn, data: Any) -> Any:
    """One value changed for another, a key added, or one taken away."""
    path, value = draw(st.sampled_from(list(places(data))))
    if isinstance(value, dict) and draw(st.booleans()):
        return changed(data, path, {**value, draw(st.text(max_size=5)): draw(PLAIN)})
    if isinstance(value, dict) and value and draw(st.booleans()):
        gone = draw(st.sampled_from(sorted(value)))
        return changed(data, path, {key: kept for key, kept in value.items() if key != gone})
    return changed(data, path, draw(PLAIN)) if path else {}


# -- OpenAPI -------------------------------------------------------------------------------------------


def test_openapi_is_that_of_the_classes() -> None:
    text = openapi_path().read_text(encoding="utf-8")
    assert text == openapi_text(), "run python -m modelmeter.contracts.openapi"
    assert YAML(typ="safe", pure=True).load(text) == document()


def test_openapi_has_the_endpoints_and_their_answers() -> None:
    found = {
        f"{method.upper()} {path}": sorted(entry["responses"])
        for path, entries in document()["paths"].items()
        for method, entry in entries.items()
        if method != "parameters"
    }
    base = "/analytic/deepseek-ocr"
    assert found == {
        f"POST {base}/run": ["202", "400", "413", "422", "503"],
        f"GET {base}/{{report_id}}/summary": ["200", "400", "404", "409"],
        f"GET {base}/{{report_id}}/model": ["200", "400", "404", "409"],
        f"GET {base}/{{report_id}}/page": ["200", "400", "404", "409", "503"],
        f"POST {base}/{{report_id}}/what-if": ["200", "400", "404", "409", "413", "422", "503"],
        f"GET {base}": ["200", "400"],
        "GET /devices": ["200", "400"],
        "GET /health": ["200", "400"],
    }


def references(data: Any) -> set[str]:
    if isinstance(data, dict):
        return {data["$ref"]} if isinstance(data.get("$ref"), str) else set().union(*map(references, data.values()))
    return set().union(*map(references, data)) if isinstance(data, list) else set()


def test_openapi_references_resolve_and_its_schemas_are_schemas() -> None:
    whole = document()
    for reference in references(whole):
        target = whole
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        assert target, reference
    for name, schema in whole["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert schema["description"], name
    used = {reference.rpartition("/")[2] for reference in references(whole)}
    assert used >= set(whole["components"]["schemas"])


# -- the scenario's keys -------------------------------------------------------------------------------


def takes(key: str, value: Any) -> bool:
    try:
        converter.structure({"scenario": {key: value}}, WhatIfRequest)
    except ModelMeterError:
        return False
    return True


def request_validator() -> Any:
    schemas = document()["components"]["schemas"]
    wrapped = {"$defs": schemas, "$ref": f"#/$defs/{DeepSeekOCRAnalyticRequest.__name__}"}
    return Draft202012Validator(json.loads(json.dumps(wrapped).replace("#/components/schemas/", "#/$defs/")))


def test_scenario_keys_are_those_that_the_class_takes() -> None:
    keys: Any = fields_dict(resolve_types(Scenario))
    for key in keys:
        if key in NAMES:
            assert all(takes(key, name) for name in NAMES[key])
            assert takes(key, None) == (key in OPTIONAL)
            assert not takes(key, "nothing")
        elif key in MINIMA:
            assert takes(key, MINIMA[key]) and not takes(key, MINIMA[key] - 1)
        else:
            assert key in ("pages", "crop_mode", "routing", "device"), f"{key}: say in scenario_schema what it may be"


@some
@given(st.sampled_from(sorted(fields_dict(Scenario))), PLAIN)
def test_what_the_schema_of_a_scenario_refuses_the_codec_refuses(key: str, value: Any) -> None:
    request = {"model_id": "m", "model_variant": "v", "workload_profile_id": "p", "scenario": {key: value}}
    if not request_validator().is_valid(request):
        with pytest.raises(ModelMeterError):
            converter.structure(request, DeepSeekOCRAnalyticRequest)
