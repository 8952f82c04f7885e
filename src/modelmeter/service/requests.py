"""Reads the body of a request: JSON, of the size that is allowed, and what the contract says."""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeVar

from litestar import Request

from modelmeter.contracts.converter import converter
from modelmeter.service.problems import ProblemError

T = TypeVar("T")


async def body_of(request: Request[Any, Any, Any], cls: type[T]) -> T:
    """The body as an object of the contract; a Problem of 400, 413 or 415, or DocumentError, if it is none."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # A page of another site can send a browser's form here unasked, but no JSON.
    if kind != "application/json":
        raise ProblemError(
            400, f"the body is {kind or 'of no type'!r:.60}; send it with Content-Type: application/json"
        )
    content = await request.body()
    try:
        data = json.loads(content.decode("utf-8"), parse_constant=_no_number, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ProblemError(
            400, f"the body is no complete JSON document: {str(error) or type(error).__name__}"
        ) from None
    return converter.structure(data, cls)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r:.40} stands twice in one object")
    return made


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
