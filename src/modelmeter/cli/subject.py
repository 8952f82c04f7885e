"""What is traced: a family's name, a configuration file, or a function that builds a module."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from modelmeter.errors import UsageError
from modelmeter.families.protocol import Family
from modelmeter.families.registry import families, get_family, recognise


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


@frozen
class FunctionSubject:
    """A function that returns a module and its inputs."""

    name: str
    build: Callable[[], Any]


Subject = FamilySubject | HuggingFaceSubject | FunctionSubject


def find_subject(text: str) -> Subject:
    """What the user named; UnknownNameError with the nearest family if it is nothing that is there."""
    if text in families():
        family = get_family(text)
        return FamilySubject(family, family.default_configuration())
    path = Path(text)
    if path.exists() or path.suffix == ".json" or os.sep in text:
        from modelmeter.tracing.hugging_face import read_config_file

        source = read_config_file(path)
        owner = recognise(source)
        if owner is not None:
            return FamilySubject(owner, owner.read_configuration(source))
        return HuggingFaceSubject(path.name if path.is_file() else path.resolve().name, source)
    if ":" in text:
        return FunctionSubject(text, _function(text))
    family = get_family(text)
    return FamilySubject(family, family.default_configuration())


def _function(text: str) -> Callable[[], Any]:
    module_name, _, function_name = text.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(f"cannot import {module_name!r}: {error}", remedy="give package.module:function") from None
    finally:
        sys.path.pop(0)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UsageError(f"{module_name} has no function {function_name!r}", remedy="give package.module:function")
    return function  # type: ignore[no-any-return]
