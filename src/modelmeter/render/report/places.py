"""Where documents lie beside the report, and how they name each other."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from urllib.parse import quote

SUMMARY = "summary.md"
FIGURES = "figures"

MOST_IN_FILE_NAME = 100

_UNSAFE = re.compile(r"[^A-Za-z0-9._]+")


def page_names(modules: Iterable[str]) -> dict[str, str]:
    """A file name for every module: ``layers.0-11.self_attn.md``.

    Of letters, digits, ``.``, ``_`` and ``-``, so that any file system and any link takes them as they
    are; two modules whose names differ in other characters or in case alone are numbered.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for module in modules:
        stem = ".".join(part for part in (p.strip("-") for p in _UNSAFE.sub("-", module).split(".")) if part)
        stem = stem[:MOST_IN_FILE_NAME].strip(".-") or "module"
        unique, number = stem, 1
        while unique.casefold() in taken:
            number += 1
            unique = f"{stem}-{number}"
        taken.add(unique.casefold())
        found[module] = f"{unique}.md"
    return found


def between(source: str, target: str) -> str:
    """The path of one document as a link in another."""
    return quote(posixpath.relpath(target, posixpath.dirname(source) or "."))
