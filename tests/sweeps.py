"""Sweeps for tests: specifications written down, worked out into a file, and read back."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from command import write_small
from modelmeter.families.registry import families
from modelmeter.planning.sweep_plan import SweepPlan, plan_sweep
from modelmeter.planning.sweep_spec import read_sweep
from small import SMALL_SIZES, small_config

SMALL_SPEC: dict[str, Any] = {
    "model": "small.json",
    "base": {**SMALL_SIZES, "decode_steps": 3},
    "axes": {
        "head": ["all", "last"],
        "batch": [1, 4, 10**7],
        "attention": ["sdpa", "eager"],
        "device": ["h100-sxm", "t4", "rtx-5090"],
        "text_tokens": [1, 20, 5000],
    },
}
"""Rows that are possible and fit, that do not fit, that the device lacks a dtype for, and that are too long."""


def write_spec(folder: Path, spec: dict[str, Any], name: str = "spec.yaml") -> Path:
    """A specification (JSON is YAML) beside the small configuration that it may name."""
    write_small(folder)
    path = folder / name
    path.write_text(json.dumps(spec))
    return path


def small_plan(folder: Path, spec: dict[str, Any], chunk_rows: int | None = None) -> SweepPlan:
    """A specification with the small model."""
    (family,) = families().values()
    return plan_sweep(family, small_config(), read_sweep(write_spec(folder, spec), families()), chunk_rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
