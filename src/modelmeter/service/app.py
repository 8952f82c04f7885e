"""Puts the service together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from litestar import Litestar
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, Receive, Scope, Send

from modelmeter.cost.catalogue import load_catalogue
from modelmeter.errors import InternalError, ModelMeterError
from modelmeter.planning.store import ReportStore
from modelmeter.service.options import ServiceOptions
from modelmeter.service.pool import WorkerPool
from modelmeter.service.problems import ProblemError, on_http_exception, on_mistake, on_problem, on_refusal, on_timeout
from modelmeter.service.routes import ROUTES, Service
from modelmeter.service.runs import Runs
from modelmeter.service.views import Views

_OPTIONS = ServiceOptions()


def create_app(store: Path, options: ServiceOptions = _OPTIONS, device_files: Sequence[Path] = ()) -> Litestar:
    """The ASGI application that serves a store. Raises DocumentError for a device file that cannot be read."""
    load_catalogue(device_files)
    reports = ReportStore(store)
    reports.clean()
    pool = WorkerPool(store, options, device_files)
    service = Service(reports, pool, Runs(reports, pool), Views(reports), tuple(device_files))

    async def shared() -> Service:
        return service

    return Litestar(
        ROUTES,
        dependencies={"service": Provide(shared, use_cache=True)},
        exception_handlers={
            ProblemError: on_problem,
            ModelMeterError: on_refusal,
            InternalError: on_mistake,
            HTTPException: on_http_exception,
            TimeoutError: on_timeout,
            Exception: on_mistake,
        },
        middleware=[_time_limit(options.request_seconds)],
        on_shutdown=[pool.close],
        openapi_config=None,
        request_max_body_size=options.body_bytes,
        signature_types=[Service],
    )


def _time_limit(seconds: float) -> Any:
    """A middleware that ends a request which takes too long, also one whose body does not come."""

    def wrap(app: ASGIApp) -> ASGIApp:
        async def limited(scope: Scope, receive: Receive, send: Send) -> None:
            async with asyncio.timeout(seconds):
                await app(scope, receive, send)

        return limited

    return wrap
