"""What the service answers, path by path."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from attrs import frozen
from litestar import Request, Response, get, post

import modelmeter
from modelmeter.contracts.converter import converter
from modelmeter.contracts.openapi import openapi_path
from modelmeter.contracts.requests import DeepSeekOCRAnalyticAccepted, DeepSeekOCRAnalyticRequest
from modelmeter.contracts.service import (
    AnalyticRun,
    AnalyticRunList,
    DeviceEntry,
    DeviceList,
    ServiceHealth,
    WhatIfRequest,
)
from modelmeter.cost.catalogue import load_catalogue
from modelmeter.errors import DocumentError, InternalError, UnknownNameError
from modelmeter.families.protocol import Family
from modelmeter.families.registry import get_family
from modelmeter.planning.store import ReportStore, is_report_id
from modelmeter.schema.device import Device
from modelmeter.service.page import contract_page
from modelmeter.service.pool import BrokenJobError, MistakeError, QueueFullError, RefusedError, WorkerPool
from modelmeter.service.problems import ProblemError
from modelmeter.service.questions import question_asked
from modelmeter.service.requests import body_of
from modelmeter.service.runs import DONE, FAILED, QUEUED, RUNNING, Runs, RunStatus
from modelmeter.service.views import MODEL, PAGE, SUMMARY, Views
from modelmeter.service.worker import PAGE as PAGE_JOB
from modelmeter.service.worker import WHAT_IF

AnyRequest = Request[Any, Any, Any]


@frozen
class Service:
    """What the paths share."""

    store: ReportStore
    pool: WorkerPool
    runs: Runs
    views: Views
    device_files: tuple[Path, ...]


@post("/analytic/{family:str}/run")
async def run(request: AnyRequest, family: str, service: Service) -> Response[bytes]:
    """Accept an analysis."""
    known = _family(family)
    asked = await body_of(request, DeepSeekOCRAnalyticRequest)

    def start() -> tuple[str, RunStatus]:
        question = question_asked(known, asked, service.device_files)
        return service.runs.start(question, rebuild=asked.force_rebuild)

    try:
        report_id, status = await asyncio.to_thread(start)
    except QueueFullError:
        raise _queue_full() from None
    # The contract knows two words; a report that is there already is no longer in the queue.
    state = QUEUED if status.state == QUEUED else RUNNING
    return _json(converter.unstructure(DeepSeekOCRAnalyticAccepted(report_id=report_id, status=state)), 202)


@get("/analytic/{family:str}/{report_id:str}/summary")
async def summary(family: str, report_id: str, service: Service) -> Response[bytes]:
    """A report in short."""
    return await _view(service, family, report_id, SUMMARY)


@get("/analytic/{family:str}/{report_id:str}/model")
async def model(family: str, report_id: str, service: Service) -> Response[bytes]:
    """A report's modules and metrics."""
    return await _view(service, family, report_id, MODEL)


@post("/analytic/{family:str}/{report_id:str}/what-if", status_code=200)
async def what_if(request: AnyRequest, family: str, report_id: str, service: Service) -> Response[bytes]:
    """A report worked out again with something changed."""
    _family(family)
    asked = await body_of(request, WhatIfRequest)
    _done(service, report_id)
    job = {"kind": WHAT_IF, "report_id": report_id, "request": converter.unstructure(asked)}
    return _sent(await _worked_out(service, job))


@get("/analytic/{family:str}/{report_id:str}/page")
async def page(family: str, report_id: str, service: Service) -> Response[bytes]:
    """A report as an interactive page, which asks for nothing more."""
    _family(family)
    found = service.views.kept(report_id, PAGE) if is_report_id(report_id) else None
    if found is None:
        _done(service, report_id)
        stamp = service.views.stamp(report_id)
        found = await _worked_out(service, {"kind": PAGE_JOB, "report_id": report_id})
        service.views.keep(report_id, PAGE, stamp, found)
    return Response(found, media_type="text/html", headers={"Content-Security-Policy": _OWN_CONTENT_ONLY})


@get("/analytic/{family:str}")
async def reports(family: str, service: Service) -> Response[bytes]:
    """The runs, those of the store and those under way."""
    _family(family)
    found = await asyncio.to_thread(lambda: [_run(service, *entry) for entry in service.runs.all().items()])
    return _json(converter.unstructure(AnalyticRunList(reports=tuple(found))))


@get("/devices")
async def devices(service: Service) -> Response[bytes]:
    """The catalogue."""
    catalogue = await asyncio.to_thread(load_catalogue, service.device_files)
    return _json(converter.unstructure(DeviceList(devices=tuple(map(_device, catalogue.values())))))


@get("/health")
async def health(service: Service) -> Response[bytes]:
    """Whether the service works."""
    states = [status.state for status in service.runs.under_way()]
    reports = await asyncio.to_thread(service.store.report_ids)
    found = ServiceHealth(
        version=modelmeter.__version__,
        queued=states.count(QUEUED),
        running=states.count(RUNNING),
        reports=len(reports),
    )
    return _json(converter.unstructure(found))


@get("/openapi.yaml")
async def contract() -> Response[bytes]:
    """The contract as it is kept."""
    return Response(await asyncio.to_thread(openapi_path().read_bytes), media_type="application/yaml")


@get("/docs")
async def docs() -> Response[bytes]:
    """The contract as a page to read."""
    return Response(await asyncio.to_thread(contract_page), media_type="text/html")


_OWN_CONTENT_ONLY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""What a page may load: what it holds itself."""

ROUTES = (run, summary, model, what_if, page, reports, devices, health, contract, docs)


async def _worked_out(service: Service, job: dict[str, Any]) -> bytes:
    """A worker's answer; Problems where it refuses, fails, or cannot take the job."""
    try:
        answer: str = await asyncio.wrap_future(service.pool.submit(job))
    except QueueFullError:
        raise _queue_full() from None
    except RefusedError as error:
        raise ProblemError(422, str(error)) from None
    except BrokenJobError as error:
        raise ProblemError(503, str(error)) from None
    except MistakeError as error:
        raise ProblemError(500, str(error)) from None
    return answer.encode()


async def _view(service: Service, family: str, report_id: str, view: str) -> Response[bytes]:
    _family(family)
    found = service.views.kept(report_id, view) if is_report_id(report_id) else None
    if found is None:
        _done(service, report_id)
        try:
            found = await asyncio.to_thread(service.views.get, report_id, view)
        except DocumentError as error:  # spoilt by hand; the message names the file, which is no client's business
            raise InternalError(str(error)) from error
    return _sent(found)


def _done(service: Service, report_id: str) -> None:
    """A Problem of 404 or 409 unless there is such a report."""
    status = service.runs.status(report_id) if is_report_id(report_id) else None
    if status is None:
        raise ProblemError(404, f"there is no report {report_id!r:.60}")
    if status.state == FAILED:
        raise ProblemError(409, f"the run failed: {status.reason}", run_status=FAILED)
    if status.state != DONE:
        raise ProblemError(409, f"the run is {status.state}", run_status=status.state)


def _run(service: Service, report_id: str, status: RunStatus) -> AnalyticRun:
    found: dict[str, Any] = {}
    if status.state == DONE:
        try:
            short = json.loads(service.views.get(report_id, SUMMARY))
        except DocumentError:  # removed meanwhile, or spoilt by hand: the others are listed all the same
            short = {}
        names = ("model_variant", "workload_profile_id", "predicted_total_time_ms")
        found = {name: short[name] for name in names if name in short}
    return AnalyticRun(report_id=report_id, status=status.state, reason=status.reason, **found)


def _device(device: Device) -> DeviceEntry:
    figures = device.figures
    return DeviceEntry(
        id=device.id,
        name=device.name,
        vendor=device.vendor,
        kind=device.kind,
        dense_flops_per_s={name: figure.value for name, figure in figures.dense_flops_per_s.items()},
        memory_bytes=int(figures.memory_bytes.value),
        memory_bytes_per_s=figures.memory_bytes_per_s.value,
        hourly_price_usd=device.hourly_price_usd,
    )


def _family(name: str) -> Family:
    try:
        return get_family(name)
    except UnknownNameError as error:
        raise ProblemError(404, str(error)) from None


def _queue_full() -> ProblemError:
    return ProblemError(503, "the queue is full; ask again later")


def _json(data: Any, status: int = 200) -> Response[bytes]:
    return _sent(json.dumps(data, ensure_ascii=False, sort_keys=True).encode(), status)


def _sent(content: bytes, status: int = 200) -> Response[bytes]:
    return Response(content, status_code=status, media_type="application/json")
