"""The service's contract as OpenAPI 3.1, made from the classes; ``openapi.yaml`` beside this file is its text.

``python -m modelmeter.contracts.openapi`` writes it.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import modelmeter
from modelmeter.contracts.json_schema import Schema, SchemaMaker
from modelmeter.contracts.requests import (
    DeepSeekOCRAnalyticAccepted,
    DeepSeekOCRAnalyticModel,
    DeepSeekOCRAnalyticReportSummary,
    DeepSeekOCRAnalyticRequest,
)
from modelmeter.contracts.service import (
    AnalyticRunList,
    DeviceList,
    ProblemDetails,
    ServiceHealth,
    WhatIfAnswer,
    WhatIfRequest,
)
from modelmeter.contracts.yaml_text import dump_yaml

BASE = "/analytic/deepseek-ocr"
JSON, PROBLEM_JSON = "application/json", "application/problem+json"

PROBLEMS = {
    400: "The request is no HTTP request that the service reads, or its body is no JSON.",
    404: "There is no report of this id.",
    409: "The report is not there: its run is queued or running, or has failed; `run_status` and `detail` say which.",
    413: "The body is larger than the service takes.",
    422: "The body is JSON but not what the contract asks for; `errors` name the fields.",
    503: "The queue is full, or the answer took too long; ask again later.",
}
"""Status to what it means; the body is a ``ProblemDetails``."""


def document() -> dict[str, Any]:
    """The whole contract as plain data."""
    maker = SchemaMaker("#/components/schemas/")
    maker.reference(ProblemDetails)
    paths = _paths(maker)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ModelMeter",
            "version": modelmeter.__version__,
            "summary": "What a model costs on a device, worked out and not run.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(maker.definitions.items())),
            "responses": {_problem_name(status): _problem(text) for status, text in PROBLEMS.items()},
            "parameters": {"report_id": _report_id(maker)},
        },
    }


def _paths(maker: SchemaMaker) -> dict[str, Any]:
    answer = functools.partial(_answer, maker)
    by_id = {"parameters": [{"$ref": "#/components/parameters/report_id"}]}
    return {
        f"{BASE}/run": {
            "post": {
                "operationId": "run",
                "summary": "Accept an analysis; the same request again has the same id and starts nothing.",
                "requestBody": _body(maker, DeepSeekOCRAnalyticRequest),
                "responses": answer(202, DeepSeekOCRAnalyticAccepted, "Accepted.", 400, 413, 422, 503),
            }
        },
        f"{BASE}/{{report_id}}/summary": {
            **by_id,
            "get": {
                "operationId": "summary",
                "summary": "A report in short.",
                "responses": answer(200, DeepSeekOCRAnalyticReportSummary, "The summary.", 400, 404, 409),
            },
        },
        f"{BASE}/{{report_id}}/model": {
            **by_id,
            "get": {
                "operationId": "model",
                "summary": "Modules, operator categories and metrics of a report.",
                "responses": answer(200, DeepSeekOCRAnalyticModel, "The model view.", 400, 404, 409),
            },
        },
        f"{BASE}/{{report_id}}/page": {
            **by_id,
            "get": {
                "operationId": "page",
                "summary": "The report as one interactive HTML page, which asks for nothing more.",
                "responses": {
                    "200": {"description": "The page.", "content": {"text/html": {"schema": {"type": "string"}}}},
                    **_refusals(400, 404, 409, 503),
                },
            },
        },
        f"{BASE}/{{report_id}}/what-if": {
            **by_id,
            "post": {
                "operationId": "what_if",
                "summary": "Work the report out again with some keys of its scenario changed.",
                "requestBody": _body(maker, WhatIfRequest),
                "responses": answer(200, WhatIfAnswer, "Before and after.", 400, 404, 409, 413, 422, 503),
            },
        },
        BASE: {
            "get": {
                "operationId": "reports",
                "summary": "The runs of the store.",
                "responses": answer(200, AnalyticRunList, "The runs.", 400),
            }
        },
        "/devices": {
            "get": {
                "operationId": "devices",
                "summary": "The devices that a scenario may name.",
                "responses": answer(200, DeviceList, "The catalogue.", 400),
            }
        },
        "/health": {
            "get": {
                "operationId": "health",
                "summary": "Whether the service works.",
                "responses": answer(200, ServiceHealth, "It does.", 400),
            }
        },
    }


def _answer(maker: SchemaMaker, status: int, cls: type, text: str, *problems: int) -> dict[str, Any]:
    content = {JSON: {"schema": maker.reference(cls)}}
    return {str(status): {"description": text, "content": content}, **_refusals(*problems)}


def _refusals(*problems: int) -> dict[str, Any]:
    return {str(problem): {"$ref": f"#/components/responses/{_problem_name(problem)}"} for problem in problems}


def _body(maker: SchemaMaker, cls: type) -> dict[str, Any]:
    return {"required": True, "content": {JSON: {"schema": maker.reference(cls)}}}


def _problem(text: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}
    return {"description": text, "content": {PROBLEM_JSON: {"schema": schema}}}


def _problem_name(status: int) -> str:
    return f"problem_{status}"


def _report_id(maker: SchemaMaker) -> dict[str, Any]:
    maker.reference(DeepSeekOCRAnalyticAccepted)
    schema: Schema = maker.definitions[DeepSeekOCRAnalyticAccepted.__name__]["properties"]["report_id"]
    return {"name": "report_id", "in": "path", "required": True, "schema": schema}


def openapi_text() -> str:
    """The text of ``openapi.yaml``."""
    return dump_yaml(document())


def openapi_path() -> Path:
    """Where it is kept."""
    return Path(__file__).with_name("openapi.yaml")


if __name__ == "__main__":
    openapi_path().write_text(openapi_text(), encoding="utf-8")
