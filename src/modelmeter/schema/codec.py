"""JSON for the schema classes: strict when reading, byte-identical when writing."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, get_args, get_origin

import cattrs
from attrs import fields, fields_dict, has
from cattrs.errors import IterableValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from modelmeter.errors import DocumentError, ModelMeterError
from modelmeter.schema.callgraph import REQUIRED, SCHEMA_VERSION
from modelmeter.schema.constraints import CONSTRAINTS, WrongTypeError, constrained

T = TypeVar("T")
C = TypeVar("C", bound=cattrs.Converter)


def _exactly(kind: type) -> Any:
    """A hook that refuses what cattrs would convert, such as ``"8"`` for 8 and True for 1."""

    def structure(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise WrongTypeError(kind.__name__, value)
        return value

    return structure


def _number(value: Any, _: Any) -> float:
    try:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    except OverflowError:
        # An integer beyond all floats.
        pass
    raise WrongTypeError("a finite number", value)


def _is_sequence(cls: Any) -> bool:
    return get_origin(cls) is list or (get_origin(cls) is tuple and get_args(cls)[-1] is Ellipsis)


def _sequence(cls: Any, made: cattrs.Converter) -> Callable[[Any, Any], Any]:
    """A hook for lists and tuples that takes lists only: cattrs would take ``"ab"`` for ["a", "b"]."""
    of = get_args(cls)[0]
    structure_item = made.get_structure_hook(of)
    is_list = get_origin(cls) is list
    if not made.detailed_validation:

        def structure_quickly(value: Any, _: Any) -> Any:
            if type(value) is not list:
                raise WrongTypeError("a list", value)
            items = [structure_item(item, of) for item in value]
            return items if is_list else tuple(items)

        return structure_quickly

    def structure(value: Any, _: Any) -> Any:
        if type(value) is not list:
            raise WrongTypeError("a list", value)
        items, errors = [], []
        for index, item in enumerate(value):
            try:
                items.append(structure_item(item, of))
            except Exception as error:
                error.add_note(IterableValidationNote(f"at index {index}", index, of))
                errors.append(error)
        if errors:
            raise IterableValidationError(f"while structuring {cls}", errors, cls)
        return items if is_list else tuple(items)

    return structure


def _finite(value: float) -> float | str:
    """JSON has no infinity and no NaN; models' own configurations hold them."""
    return value if math.isfinite(value) else str(value)


def _is_constrained(cls: Any) -> bool:
    return get_origin(cls) is Annotated and any(isinstance(extra, CONSTRAINTS) for extra in cls.__metadata__)


@functools.cache
def converter(*, detailed: bool = True) -> cattrs.Converter:
    """The strict converter: unknown keys are refused, fields that are None are left out.

    Without ``detailed`` it is quicker and just as strict, but does not say where a document is wrong.
    """
    return make_strict(cattrs.Converter(forbid_extra_keys=True, detailed_validation=detailed))


def make_strict(made: C) -> C:
    """Give a converter the strict hooks."""
    for kind in (int, str, bool):
        made.register_structure_hook(kind, _exactly(kind))
    made.register_structure_hook(float, _number)
    made.register_structure_hook_factory(_is_sequence, _sequence)

    @made.register_structure_hook_factory(_is_constrained)
    def _constrained(cls: Any) -> Any:
        of = cls.__origin__
        constraints = [extra for extra in cls.__metadata__ if isinstance(extra, CONSTRAINTS)]
        return constrained(made.get_structure_hook(of), of, constraints, made)

    made.register_unstructure_hook(float, _finite)

    made.register_structure_hook_factory(has)(lambda cls: strict_class(cls, made))
    made.register_unstructure_hook_factory(has)(lambda cls: sparse_class(cls, made))
    return made


def strict_class(cls: type, made: cattrs.Converter) -> Callable[[Any, Any], Any]:
    """A hook that makes an object of a class from an object of JSON, and from nothing else."""
    plain: Callable[[Any, Any], Any] = make_dict_structure_fn(cls, made, _cattrs_forbid_extra_keys=True)

    def structure(value: Any, of: Any) -> Any:
        if type(value) is not dict:
            raise WrongTypeError("an object", value)
        return plain(value, of)

    return structure


def sparse_class(cls: type, made: cattrs.Converter) -> Callable[[Any], dict[str, Any]]:
    """A hook that leaves out fields that are None where None is what they are without a value."""
    optional = {
        name: override(omit_if_default=True)
        for name, attribute in fields_dict(cls).items()
        if attribute.default is None
    }
    return make_dict_unstructure_fn(cls, made, **optional)  # type: ignore[arg-type]


def dump_json(document: Any) -> str:
    """JSON text of a schema object: keys sorted, one line per top-level key, a newline at the end."""
    data = converter().unstructure(document)
    write = functools.partial(json.dumps, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    lines = [f"{json.dumps(key)}: {write(value)}" for key, value in sorted(data.items())]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def load_json(path: Path, cls: type[T]) -> T:
    """Read a schema object from a file.

    Raises DocumentError if the file is missing, no JSON, of another schema version, or does not have
    the class's fields; the message names the offending field.
    """
    return structure_document(read_json(path), cls, str(path))


def read_json(path: Path) -> Any:
    """Parsed JSON of a file. Raises DocumentError if it is missing, no text, or no JSON."""
    text = read_text(path)
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path} is no complete JSON document: {error}", remedy="write it again") from None


def read_text(path: Path) -> str:
    """The text of a document's file. Raises DocumentError if it is missing or no text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DocumentError(f"{path} is no text file", remedy="give a file that ModelMeter wrote") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DocumentError(f"cannot read {path}: {reason}", remedy="give the path of a file that exists") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def structure_document(data: Any, cls: type[T], where: str) -> T:
    """Turn parsed JSON into a schema object, or raise DocumentError naming the offending field."""
    if not isinstance(data, dict):
        raise DocumentError(
            f"{where} holds a {type(data).__name__}, not an object", remedy="give a ModelMeter document"
        )
    attributes: Any = fields(cls)  # type: ignore[arg-type]
    known = next((a.default for a in attributes if a.name == "schema_version"), SCHEMA_VERSION)
    version = data.get("schema_version", known)
    if version != known:
        raise DocumentError(
            f"{where} has schema version {version!r}, this ModelMeter reads version {known}",
            remedy="write it again with this version, or install the version that wrote it",
        )
    missing = [a.name for a in attributes if a.metadata.get(REQUIRED) and a.name not in data]
    if missing:
        raise DocumentError(
            f"{where} is no {cls.__name__} document: it lacks {', '.join(missing)}",
            remedy="give a file that ModelMeter wrote",
        )
    try:
        return converter(detailed=False).structure(data, cls)
    except Exception:
        return _structure_explained(data, cls, where)


def _structure_explained(data: Any, cls: type[T], where: str) -> T:
    """The same once more, slowly, for the place of what is wrong."""
    try:
        return converter().structure(data, cls)
    except (cattrs.BaseValidationError, ValueError) as error:
        raise DocumentError(
            f"{where} is no {cls.__name__} document: {explain(error)}", remedy="give a file that ModelMeter wrote"
        ) from None


def explain(error: BaseException) -> str:
    """What a converter found wrong, as one line: each with its place, as in ``… @ $.modules[3].stage``."""
    lines = explanations(error)
    shown = "; ".join(lines[:3])
    return shown if len(lines) <= 3 else f"{shown}; and {len(lines) - 3} more"


def explanations(error: BaseException) -> list[str]:
    """Everything that a converter found wrong, each with its place after `` @ ``."""
    return cattrs.transform_error(error, format_exception=_describe)


def _describe(error: BaseException, kind: type | None) -> str:
    if isinstance(error, ModelMeterError):
        return error.problem
    own = isinstance(error, ValueError) and not isinstance(error, UnicodeError)
    return str(error) if own else cattrs.v.format_exception(error, kind)
