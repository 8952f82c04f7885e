"""``modelmeter analyze``: what a scenario costs on a device, from the closed forms alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve

from modelmeter.cli.arguments import Flag, Json, Whole
from modelmeter.cli.console import printing, write_text
from modelmeter.cli.devices import DeviceFiles
from modelmeter.cli.scenario_options import ScenarioOptions
from modelmeter.cli.subject import FamilySubject, find_subject
from modelmeter.errors import MissingDependencyError, UsageError
from modelmeter.schema.scenario import Scenario

if TYPE_CHECKING:
    from modelmeter.contracts.report import AnalyticModelReport
    from modelmeter.planning.what_if import Question

_DEFAULT_SCENARIO = ScenarioOptions()

_ROWS = 12
"""Modules that are listed, those with the largest own time."""


def analyze(
    subject: str,
    /,
    *pages: Path,
    scenario: ScenarioOptions = _DEFAULT_SCENARIO,
    device_file: DeviceFiles = (),
    calibration: Path | None = None,
    model_id: str | None = None,
    model_variant: str | None = None,
    workload_profile_id: str | None = None,
    profile_run_id: str | None = None,
    measurement: Path | None = None,
    rows: Whole = _ROWS,
    tree: Flag = False,
    out: Path | None = None,
    force: Flag = False,
    as_json: Json = False,
    quiet: Flag = False,
) -> None:
    """Work out FLOPs, bytes, memory and time on a device, without running anything.

    Examples:

        modelmeter analyze deepseek-ocr --device h100-sxm

        modelmeter analyze deepseek-ocr page.png --device rtx-5090 --max-new-tokens 512

        modelmeter analyze deepseek-ocr --workload dsocr-standard-v1 --out runs/report

    Parameters
    ----------
    subject
        A family (deepseek-ocr), or a config.json of one.
    pages
        Page images of one request.
    device_file
        Your own device file, JSON or YAML, or a folder of them; repeatable.
    calibration
        Efficiencies that "modelmeter calibrate" fitted to measurements.
    model_id
        The model's name in the report.
    model_variant
        The model's variant in the report.
    workload_profile_id
        A workload profile, as --workload, whose id the report then has.
    profile_run_id
        The id of a measured run that belongs to the report.
    measurement
        A measurement of the same run: fills the measured time and the ratio.
    rows
        Modules to list, those with the largest own time first.
    tree
        List every module, in the order of the model, with what is below it.
    out
        Folder for report.json, report.yaml, summary.md with its figures, and a page for every module.
    force
        Overwrite files that exist.
    as_json
        Print the report as JSON.
    quiet
        No tables when --out is given.
    """
    if rows < 1:
        raise UsageError(f"--rows is {rows}", remedy="give a whole number of at least 1")
    labels = {
        "model_id": model_id,
        "model_variant": model_variant,
        "profile_run_id": profile_run_id,
        "measured_total_time_ms": None if measurement is None else _measured_ms(measurement),
    }
    given = _profiled(scenario, workload_profile_id).values(pages)
    profile = workload_profile_id or (str(scenario.workload) if scenario.workload is not None else None)
    question = _question(subject, given, device_file, calibration, profile, labels)
    if out is not None:
        from modelmeter.schema.files import check_writable

        check_writable(out, ("report.json", "report.yaml"), force=force)
    report = question.report() if as_json or out is not None else None
    if report is not None and out is not None:
        write_artifacts(report, out, force=force)
    with printing():
        _show(question, report, rows, tree, out, as_json=as_json, quiet=quiet)


def write_artifacts(report: AnalyticModelReport, out: Path, *, force: bool) -> None:
    """The report as JSON and YAML, the configuration that it names, and its documents where mdutils is there."""
    from modelmeter.contracts import report_files
    from modelmeter.schema.files import write_files

    files = report_files(report)
    assert report.scenario is not None
    files[report.model.config_path] = json.dumps(report.scenario["configuration"], indent=1, sort_keys=True) + "\n"
    try:
        from modelmeter.render.report import report_documents

        files |= report_documents(report)
    except MissingDependencyError as error:
        print(f"modelmeter: note: no documents: {error}", file=sys.stderr)
    write_files({out / name: text for name, text in files.items()}, force=force)


def _show(
    question: Question,
    report: AnalyticModelReport | None,
    rows: int,
    tree: bool,
    out: Path | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    if as_json:
        from modelmeter.contracts import report_json

        assert report is not None
        write_text(report_json(report))
        return
    if not quiet or out is None:
        from modelmeter.planning.analysis import analyze as work_out
        from modelmeter.render.analysis import analysis_view
        from modelmeter.render.terminal import console

        analysis = work_out(question.family, question.config, question.scenario, question.device, question.efficiency)
        described = question.family.describe(question.config, question.scenario)
        console().print(analysis_view(analysis, described, rows=rows, whole_tree=tree), crop=False)
    if out is not None and report is not None:
        print(f"report_id {report.report_id}")
        print(f"artifacts_dir {out}")


def _profiled(options: ScenarioOptions, profile_id: str | None) -> ScenarioOptions:
    if profile_id is None:
        return options
    if options.workload is not None:
        raise UsageError("--workload and --workload-profile-id both name a workload", remedy="give one of them")
    return evolve(options, workload=Path(profile_id))


def _question(
    subject: str,
    given: Mapping[str, Any],
    device_file: tuple[Path, ...],
    calibration: Path | None,
    profile: str | None,
    labels: Mapping[str, Any],
) -> Question:
    """What is asked, before anything is worked out."""
    from modelmeter.cost.catalogue import find_device
    from modelmeter.cost.efficiency import DEFAULT
    from modelmeter.planning.analysis import DEFAULT_DECODE_STEPS
    from modelmeter.planning.report import Labels
    from modelmeter.planning.what_if import Question
    from modelmeter.planning.workload_profiles import find_profile, profile_ids

    found = find_subject(subject)
    if not isinstance(found, FamilySubject):
        raise UsageError(f"{subject} has no closed form", remedy="give deepseek-ocr, or trace it")
    wanted = Scenario(**{"decode_steps": DEFAULT_DECODE_STEPS, **given})
    efficiency = DEFAULT
    if calibration is not None:
        from modelmeter.planning.calibration import load_efficiency

        efficiency = load_efficiency(calibration)
    named = {name: value for name, value in labels.items() if value is not None}
    if profile in profile_ids():
        known = find_profile(str(profile))
        named |= {
            "doc_kind": known.doc_kind,
            "profile_description": known.description,
            "profile_id": known.profile_id,
        }
    return Question(
        found.family, found.config, wanted, find_device(wanted.device, device_file), efficiency, Labels(**named)
    )


def _measured_ms(path: Path) -> float:
    from modelmeter.schema.measurement import Measurement

    return Measurement.load(path).run.time_s * 1e3
