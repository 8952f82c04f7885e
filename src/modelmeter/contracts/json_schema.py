"""JSON Schemas (draft 2020-12) of the documents, made from their classes.

``python -m modelmeter.contracts.json_schema`` writes them into ``schemas/``. They say what a schema can: what
refers to what, the module tree and sums are checked by the codec alone.
"""

from __future__ import annotations

import inspect
import json
import types
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from attrs import NOTHING, Factory, fields, fields_dict, has, resolve_types

from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.contracts.scenario_schema import scenario_key
from modelmeter.schema.callgraph import REQUIRED, CallGraph
from modelmeter.schema.constraints import AtLeast, KeysOf, OneOf, Written
from modelmeter.schema.measurement import Measurement

DIALECT = "https://json-schema.org/draft/2020-12/schema"

DOCUMENTS: dict[str, type] = {
    "callgraph": CallGraph,
    "measurement": Measurement,
    "report": AnalyticModelReport,
}
"""File name to the class of the document."""

Schema = dict[str, Any]

_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}


class SchemaMaker:
    """Makes schemas that refer to one another; ``definitions`` has those of all classes that were met."""

    def __init__(self, prefix: str = "#/$defs/") -> None:
        self.definitions: dict[str, Schema] = {}
        self._prefix = prefix

    def reference(self, cls: type) -> Schema:
        """A reference to a class's schema, which is made when it is first met."""
        if cls.__name__ not in self.definitions:
            self.definitions[cls.__name__] = {}
            self.definitions[cls.__name__] = self._of_class(cls)
        return {"$ref": f"{self._prefix}{cls.__name__}"}

    def of(self, kind: Any) -> Schema:
        """The schema of a type."""
        if kind in _PLAIN:
            return dict(_PLAIN[kind])
        if isinstance(kind, type) and has(kind):
            return self.reference(kind)
        origin, inner = get_origin(kind), get_args(kind)
        if origin is Annotated:
            return self._constrained(self.of(inner[0]), inner[1:])
        if origin in (Union, types.UnionType):
            return self._either([self.of(each) for each in inner])
        if origin is dict:
            return self._mapping(inner[0], inner[1])
        if origin is list or (origin is tuple and inner[-1] is Ellipsis):
            return {"type": "array", "items": self.of(inner[0])}
        if origin is tuple:
            items = [self.of(each) for each in inner]
            return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
        raise TypeError(f"no schema for {kind}")

    def _mapping(self, key: Any, value: Any) -> Schema:
        made: Schema = {"type": "object"}
        names = self.of(key)
        if names != _PLAIN[str]:
            made["propertyNames"] = names
        if value is not Any:
            made["additionalProperties"] = self.of(value)
        return made

    def _constrained(self, made: Schema, constraints: tuple[Any, ...]) -> Schema:
        for constraint in constraints:
            match constraint:
                case OneOf(names):
                    made["enum"] = list(names)
                case AtLeast(minimum):
                    made["minimum"] = minimum
                case Written(pattern):
                    made["pattern"] = pattern
                case KeysOf(cls):
                    made = self._some_keys(cls)
        return made

    @staticmethod
    def _either(choices: list[Schema]) -> Schema:
        plain = [choice for choice in choices if "$ref" not in choice and "enum" not in choice]
        if len(plain) == len(choices) == 2 and choices[1] == {"type": "null"} and "type" in choices[0]:
            return {**choices[0], "type": [choices[0]["type"], "null"]}
        return {"anyOf": choices}

    def _of_class(self, cls: type) -> Schema:
        properties, required = {}, []
        attributes: Any = fields(resolve_types(cls))
        for attribute in attributes:
            made = self.of(attribute.type)
            if attribute.default is NOTHING or attribute.metadata.get(REQUIRED):
                required.append(attribute.name)
                if attribute.default is not NOTHING and not isinstance(attribute.default, Factory):  # type: ignore[arg-type]
                    # A field that a document must have though it has a default says what document it is.
                    made = {"const": attribute.default}
            properties[attribute.name] = made
        return {
            "title": cls.__name__,
            "description": " ".join(inspect.cleandoc(cls.__doc__ or "").split()).replace("``", "`"),
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }

    def _some_keys(self, cls: type) -> Schema:
        name = f"{cls.__name__}Keys"
        if name not in self.definitions:
            known: Any = fields_dict(resolve_types(cls))
            properties = {key: {**self.of(known[key].type), **scenario_key(key)} for key in known}
            self.definitions[name] = {
                "title": name,
                "description": "Some keys of a scenario; what is left out keeps its value.",
                "type": "object",
                "properties": properties,
                "additionalProperties": False,
            }
        return {"$ref": f"{self._prefix}{name}"}


def document_schema(name: str) -> Schema:
    """The schema of a document, by its name in ``DOCUMENTS``."""
    maker = SchemaMaker()
    cls = DOCUMENTS[name]
    maker.reference(cls)
    root = maker.definitions.pop(cls.__name__)
    return {"$schema": DIALECT, **root, "$defs": dict(sorted(maker.definitions.items()))}


def schema_text(name: str) -> str:
    """The file's text."""
    return json.dumps(document_schema(name), indent=1, ensure_ascii=False) + "\n"


def schema_path(name: str) -> Path:
    """Where the schema is published."""
    return Path(__file__).parent / "schemas" / f"{name}.json"


def main() -> None:
    """Write all schemas."""
    for name in DOCUMENTS:
        schema_path(name).write_text(schema_text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
