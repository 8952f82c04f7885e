"""Reports as files: JSON and YAML, the same bytes for the same report, read strictly."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from modelmeter.contracts.converter import converter
from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.contracts.yaml_reader import read_own_yaml
from modelmeter.contracts.yaml_text import dump_yaml
from modelmeter.errors import DocumentError
from modelmeter.schema.codec import read_json, read_text
from modelmeter.schema.files import write_file

YAML_SUFFIXES = (".yaml", ".yml")


def report_data(report: AnalyticModelReport) -> dict[str, Any]:
    """Plain data of a report that has passed every check. Raises DocumentError that names the field."""
    data: dict[str, Any] = converter.unstructure(report)
    converter.structure(data, AnalyticModelReport)
    return data


def json_text(data: Any) -> str:
    """JSON text of plain data: keys sorted, one line per top-level key, a newline at the end."""
    lines = [
        f"{json.dumps(key)}: "
        + json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        for key, value in sorted(data.items())
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def report_json(report: AnalyticModelReport) -> str:
    """The report as JSON text. Raises DocumentError for a report that breaks the contract."""
    return json_text(report_data(report))


def report_yaml(report: AnalyticModelReport) -> str:
    """The report as YAML text. Raises DocumentError for a report that breaks the contract."""
    return dump_yaml(report_data(report))


def report_files(report: AnalyticModelReport) -> dict[str, str]:
    """``report.json`` and ``report.yaml`` with their texts, checked once. Raises DocumentError."""
    data = report_data(report)
    return {"report.json": json_text(data), "report.yaml": dump_yaml(data)}


def save_report(report: AnalyticModelReport, path: str | Path, *, force: bool = False) -> Path:
    """Write a report, as YAML where the name ends so and as JSON otherwise, beside the target and renamed into place.

    Raises DocumentError for a report that breaks the contract, OutputError if the file exists and ``force`` is
    not set.
    """
    target = Path(path)
    text = report_yaml(report) if target.suffix.lower() in YAML_SUFFIXES else report_json(report)
    return write_file(target, text, force=force)


def load_report(path: str | Path) -> AnalyticModelReport:
    """Read a report from JSON or YAML, strictly. Raises DocumentError that names the file and the field."""
    source = Path(path)
    data = read_yaml(source) if source.suffix.lower() in YAML_SUFFIXES else read_json(source)
    try:
        return converter.structure(data, AnalyticModelReport)
    except DocumentError as error:
        raise DocumentError(f"{source}: {error.problem}", remedy=error.remedy) from None


def read_yaml(path: Path) -> Any:
    """Plain data of a YAML file, without tags of any kind. Raises DocumentError."""
    text = read_text(path)
    with contextlib.suppress(ValueError):
        return read_own_yaml(text)
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DocumentError(f"{path} is no YAML document: {reason}", remedy="write it again") from None
