"""JSON for the schema classes: strict when reading, byte-identical when writing."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, TypeVar

import cattrs
from attrs import fields_dict, has
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from modelmeter.errors import DocumentError
from modelmeter.schema.callgraph import SCHEMA_VERSION

T = TypeVar("T")


def _exactly(kind: type) -> Any:
    """A hook that refuses what cattrs would convert, such as ``"8"`` for 8 and True for 1."""

    def structure(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"expected {kind.__name__}, got {type(value).__name__} {value!r:.40}")
        return value

    return structure


@functools.cache
def converter() -> cattrs.Converter:
    """The strict converter: unknown keys are refused, fields that are None are left out."""
    made = cattrs.Converter(forbid_extra_keys=True)
    for kind in (int, str, bool):
        made.register_structure_hook(kind, _exactly(kind))

    @made.register_structure_hook_factory(has)
    def _structure(cls: type) -> Any:
        return make_dict_structure_fn(cls, made, _cattrs_forbid_extra_keys=True)

    @made.register_unstructure_hook_factory(has)
    def _unstructure(cls: type) -> Any:
        optional = {
            name: override(omit_if_default=True)
            for name, attribute in fields_dict(cls).items()
            if attribute.default is None
        }
        return make_dict_unstructure_fn(cls, made, **optional)  # type: ignore[arg-type]

    return made


def dump_json(document: Any) -> str:
    """JSON text of a schema object: keys sorted, one line per top-level key, a newline at the end."""
    data = converter().unstructure(document)
    lines = [
        f"{json.dumps(key)}: {json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(',', ':'))}"
        for key, value in sorted(data.items())
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def load_json(path: Path, cls: type[T]) -> T:
    """Read a schema object from a file.

    Raises DocumentError if the file is missing, no JSON, of another schema version, or does not have
    the class's fields; the message names the offending field.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DocumentError(
            f"cannot read {path}: {error.strerror}", remedy="give the path of a file that exists"
        ) from None
    except UnicodeDecodeError:
        raise DocumentError(f"{path} is no text file", remedy="give a file that ModelMeter wrote") from None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path} is no complete JSON document: {error}", remedy="write it again") from None
    return structure_document(data, cls, str(path))


def structure_document(data: Any, cls: type[T], where: str) -> T:
    """Turn parsed JSON into a schema object, or raise DocumentError naming the offending field."""
    if not isinstance(data, dict):
        raise DocumentError(
            f"{where} holds a {type(data).__name__}, not an object", remedy="give a ModelMeter document"
        )
    version = data.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise DocumentError(
            f"{where} has schema version {version!r}, this ModelMeter reads version {SCHEMA_VERSION}",
            remedy="write it again with this version, or install the version that wrote it",
        )
    try:
        return converter().structure(data, cls)
    except (
        cattrs.BaseValidationError,
        cattrs.ForbiddenExtraKeysError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
    ) as error:
        problems = _explain(error)
        raise DocumentError(
            f"{where} is no {cls.__name__} document: {problems}", remedy="give a file that ModelMeter wrote"
        ) from None


def _explain(error: BaseException) -> str:
    if isinstance(error, cattrs.BaseValidationError):
        lines = cattrs.transform_error(error)
        shown = "; ".join(lines[:3])
        return shown if len(lines) <= 3 else f"{shown}; and {len(lines) - 3} more"
    return str(error) or type(error).__name__
