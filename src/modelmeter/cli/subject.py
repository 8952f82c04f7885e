"""What is traced: a family's name, a configuration file, or a function that builds a module."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import field, frozen

from modelmeter.cli.processor_file import read_processors
from modelmeter.errors import ConfigurationError, TracingError, UnknownNameError, UsageError, require_extra
from modelmeter.families.protocol import Family
from modelmeter.families.registry import families, get_family, recognise
from modelmeter.schema.measurement import KIND as MEASURED

_FUNCTION = "give package.module:function"

HUGGING_FACE = "hf:"
"""What the name of an architecture begins with."""


@frozen
class FamilySubject:
    """A family and one of its configurations."""

    family: Family
    config: Any


@frozen
class HuggingFaceSubject:
    """A configuration that transformers may know."""

    name: str
    source: Mapping[str, Any]
    processors: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    overrides: Mapping[str, Any] = field(factory=dict)
    own: Mapping[str, Any] | None = None
    experts: str | None = None
    folder: Path | None = None
    """Where the configuration lies, with code of its own beside it or not."""
    trust_remote_code: bool = False


@frozen
class FunctionSubject:
    """A function that returns a module and its inputs."""

    name: str
    build: Callable[[], Any]


@frozen
class DocumentSubject:
    """A call graph that was traced before."""

    path: Path


Subject = FamilySubject | HuggingFaceSubject | FunctionSubject | DocumentSubject


def find_subject(text: str, *, own_code: bool = False) -> Subject:
    """What the user named; UnknownNameError with the nearest family if it is nothing that is there.

    What exists is a file, even if its name looks like a function's. With ``own_code`` a snapshot that brings
    code of its own is that code, also where a family knows its configuration.
    """
    if text in families():
        family = get_family(text)
        return FamilySubject(family, family.default_configuration())
    if os.path.exists(text) or text.endswith(".json"):
        return _configured(Path(text), own_code)
    if text.startswith(HUGGING_FACE):
        return _named(text.removeprefix(HUGGING_FACE))
    if ":" in text:
        return FunctionSubject(text, _function(text))
    if os.sep in text:
        return _configured(Path(text), own_code)
    family = get_family(text)
    return FamilySubject(family, family.default_configuration())


def _configured(path: Path, own_code: bool) -> Subject:
    source = read_config_file(path)
    if "call_counts" in source:
        return DocumentSubject(path)
    owner = None if own_code and "auto_map" in source else recognise(source)
    if owner is not None:
        return FamilySubject(owner, owner.read_configuration(source))
    model = source.get("model") if source.get("kind") == MEASURED else None
    written = _written(model.get("config") if isinstance(model, Mapping) else source)
    if written is not None:
        return written
    # A folder's config.json is named after the folder: every one of them has the same file name.
    file = path / "config.json" if path.is_dir() else path
    name = file.resolve().parent.name if file.name == "config.json" else file.name
    return HuggingFaceSubject(name, source, read_processors(file.parent), folder=file.parent)


def _named(name: str) -> HuggingFaceSubject:
    """An architecture at the library's own default configuration."""
    try:
        import torch  # noqa: F401
    except ImportError:
        raise require_extra("trace", "torch") from None
    from modelmeter.tracing.hugging_face.names import source_of_name

    return HuggingFaceSubject(name, source_of_name(name))


def _written(configuration: Any) -> FamilySubject | None:
    """A family's configuration as reports and measurements hold it."""
    if isinstance(configuration, Mapping):
        for name in families():
            with suppress(ConfigurationError):
                return FamilySubject(get_family(name), get_family(name).restore_configuration(configuration))
    return None


def read_config_file(path: Path) -> dict[str, Any]:
    """A JSON configuration, from a file or the ``config.json`` of a folder."""
    path = path / "config.json" if path.is_dir() else path
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", remedy="give a config.json") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is no complete JSON document: {error}", remedy="give a config.json") from None
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path} holds no JSON object", remedy="give a config.json")
    return data


def _function(text: str) -> Callable[[], Any]:
    module_name, _, function_name = text.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), function_name)):
        raise UsageError(f"{text!r} names no function", remedy=_FUNCTION)
    # The folder stays on the path: the function may import from it when it is called.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(f"cannot import {module_name!r}: {error}", remedy=_FUNCTION) from None
    except (Exception, SystemExit) as error:
        raise TracingError(
            f"importing {module_name!r} raised {type(error).__name__}: {error}", remedy="check the module alone"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        names = [name for name, value in vars(module).items() if inspect.isfunction(value)]
        if names:
            raise UnknownNameError(f"function in {module_name}", function_name, names)
        raise UsageError(f"{module_name} has no function {function_name!r}", remedy=_FUNCTION)
    return function  # type: ignore[no-any-return]
