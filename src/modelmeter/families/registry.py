"""Finds the families: every folder beside this file that defines ``FAMILY``."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any, cast

import modelmeter.families
from modelmeter.errors import UnknownNameError
from modelmeter.families.protocol import Family


@functools.cache
def families() -> dict[str, Family]:
    """All families by name."""
    found = {}
    for entry in pkgutil.iter_modules(modelmeter.families.__path__):
        if entry.ispkg:
            family = cast("Family", importlib.import_module(f"modelmeter.families.{entry.name}").FAMILY)
            found[family.name] = family
    return dict(sorted(found.items()))


def get_family(name: str) -> Family:
    """A family by name; UnknownNameError offers the nearest one."""
    try:
        return families()[name.lower()]
    except KeyError:
        raise UnknownNameError("model family", name, families()) from None


def recognise(source: Mapping[str, Any]) -> Family | None:
    """The family that a configuration file belongs to, if one claims it."""
    return next((family for family in families().values() if family.recognises(source)), None)
