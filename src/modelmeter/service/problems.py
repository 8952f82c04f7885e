"""What goes wrong, as problem details (RFC 9457): one shape for every status."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import cattrs
from litestar import Request, Response
from litestar.exceptions import HTTPException

from modelmeter.contracts.converter import converter
from modelmeter.contracts.service import FieldProblem, ProblemDetails
from modelmeter.errors import ModelMeterError
from modelmeter.schema.codec import explanations

PROBLEM_JSON = "application/problem+json"

RETRY_AFTER_SECONDS = 1


class ProblemError(Exception):
    """A request that is not answered with what it asked for."""

    def __init__(
        self, status: int, detail: str, *, run_status: str | None = None, errors: tuple[FieldProblem, ...] = ()
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.run_status = run_status
        self.errors = errors


def refused(error: ModelMeterError) -> ProblemError:
    """What the contract, the scenario or the model does not allow: 422, with the fields where they are known."""
    return ProblemError(422, str(error), errors=tuple(_fields(error.__cause__)))


def _fields(error: BaseException | None) -> list[FieldProblem]:
    if not isinstance(error, cattrs.BaseValidationError):
        return []
    found = []
    for line in explanations(error):
        message, _, path = line.rpartition(" @ ")
        found.append(FieldProblem(path=path.removeprefix("$").removeprefix(".") or "$", message=message))
    return found


def answer(problem: ProblemError, path: str, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    """The response that tells a problem."""
    details = ProblemDetails(
        title=HTTPStatus(problem.status).phrase,
        status=problem.status,
        detail=problem.detail,
        instance=path,
        run_status=problem.run_status,
        errors=problem.errors,
    )
    sent = dict(headers or {})
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE or problem.run_status in ("queued", "running"):
        sent["Retry-After"] = str(RETRY_AFTER_SECONDS)
    content = json.dumps(converter.unstructure(details)).encode()
    return Response(content, status_code=problem.status, media_type=PROBLEM_JSON, headers=sent)


def on_problem(request: Request[Any, Any, Any], problem: ProblemError) -> Response[bytes]:
    """A problem of our own."""
    return answer(problem, _path(request))


def on_refusal(request: Request[Any, Any, Any], error: ModelMeterError) -> Response[bytes]:
    """What ModelMeter refuses."""
    return answer(refused(error), _path(request))


def on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """What the framework refuses: unknown paths, methods, bodies that are too large."""
    return answer(ProblemError(error.status_code, error.detail), _path(request), error.headers)


def on_timeout(request: Request[Any, Any, Any], _: TimeoutError) -> Response[bytes]:
    """A request that took too long."""
    return answer(ProblemError(503, "the answer took too long; ask again later"), _path(request))


def on_mistake(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """What nobody foresaw: the log has it, the client only learns that it happened."""
    traceback.print_exception(error, file=sys.stderr)
    return answer(ProblemError(500, "a mistake in modelmeter; the log of the service says where"), _path(request))


def _path(request: Request[Any, Any, Any]) -> str:
    # As it was sent: what is decoded may hold anything.
    raw: bytes = request.scope.get("raw_path") or b""
    return raw.decode("ascii", "replace") or "/"
