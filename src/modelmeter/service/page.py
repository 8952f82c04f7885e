"""The contract as one page of HTML: paths, what they take and what they answer. It loads nothing from elsewhere."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from modelmeter.contracts.openapi import document

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
h2 { margin-top: 2.5rem; } code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { background: #f4f6f8; padding: .75rem; overflow-x: auto; } summary { cursor: pointer; }
table { border-collapse: collapse; } td { padding: .15rem 1rem .15rem 0; vertical-align: top; }
@media (prefers-color-scheme: dark) { body { background: #14171a; color: #dde3e9; } pre { background: #1f2428; }
a { color: #7db7ff; } }
"""

_METHODS = ("get", "post")


@functools.cache
def contract_page() -> bytes:
    """The page."""
    contract = document()
    info = contract["info"]
    parts = [
        "<!DOCTYPE html>",
        f'<html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}</title><style>{_STYLE}</style>',
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['summary'])}",
        '<p>For programs: <a href="openapi.yaml">openapi.yaml</a> (OpenAPI 3.1).',
        *_operations(contract),
        "<h2>Schemas</h2>",
        *(_schema(name, schema) for name, schema in contract["components"]["schemas"].items()),
        "</html>",
    ]
    return "\n".join(parts).encode()


def _operations(contract: Mapping[str, Any]) -> Iterator[str]:
    for path, operations in contract["paths"].items():
        for method in _METHODS:
            if method not in operations:
                continue
            operation = operations[method]
            yield f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation['summary'])}"
            if "requestBody" in operation:
                yield f"<p>Takes {_content(operation['requestBody'])}."
            yield "<table>"
            for status, response in operation["responses"].items():
                found = _resolved(contract, response)
                yield f"<tr><td>{status}<td>{escape(found['description'])}<td>{_content(found)}"
            yield "</table>"


def _content(holder: Mapping[str, Any]) -> str:
    """The schema of a body, as a link; the kind of text where it is no JSON."""
    ((kind, content),) = holder["content"].items()
    if "$ref" not in content["schema"]:
        return escape(kind)
    name = content["schema"]["$ref"].rpartition("/")[2]
    return f'<a href="#{escape(name)}">{escape(name)}</a>'


def _resolved(contract: Mapping[str, Any], holder: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = contract
    if "$ref" not in holder:
        return holder
    for step in holder["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    resolved: Mapping[str, Any] = found
    return resolved


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    text = escape(json.dumps(schema, indent=2, ensure_ascii=False), quote=False)
    about = escape(schema.get("description", ""))
    return f'<details id="{escape(name)}"><summary><b>{escape(name)}</b> {about}</summary><pre>{text}</pre></details>'
