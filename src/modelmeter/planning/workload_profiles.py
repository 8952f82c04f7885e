"""Workload profiles: named workloads that requests refer to, as data files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from attrs import frozen

from modelmeter.errors import UnknownNameError
from modelmeter.schema.scenario import Page, parse_size

_PACKAGE = "modelmeter.planning.profiles"


@frozen
class WorkloadProfile:
    """A workload that has a name: its description, the kind of its documents, and keys of the scenario."""

    profile_id: str
    description: str
    doc_kind: str
    scenario: Mapping[str, Any]


@cache
def profile_ids() -> tuple[str, ...]:
    """The profiles that there are."""
    names = (entry.name for entry in files(_PACKAGE).iterdir())
    return tuple(sorted(name.removesuffix(".json") for name in names if name.endswith(".json")))


def find_profile(profile_id: str) -> WorkloadProfile:
    """A profile by its id; UnknownNameError offers the nearest."""
    if profile_id not in profile_ids():
        raise UnknownNameError("workload profile", profile_id, profile_ids())
    data = json.loads(files(_PACKAGE).joinpath(f"{profile_id}.json").read_text(encoding="utf-8"))
    scenario = dict(data["scenario"])
    scenario["pages"] = tuple(Page(*parse_size(size, "page", "1240x1754")) for size in scenario["pages"])
    return WorkloadProfile(data["profile_id"], data["description"], data["doc_kind"], scenario)
