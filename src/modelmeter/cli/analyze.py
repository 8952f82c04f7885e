"""``modelmeter analyze``: what a scenario costs on a device, from closed forms, or from a weightless trace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from attrs import evolve
from cyclopts import Parameter

from modelmeter.cli.arguments import Flag, Json, Whole
from modelmeter.cli.artifacts import check_artifacts, run_folder, stored, write_artifacts
from modelmeter.cli.console import printing, progress, write_text
from modelmeter.cli.devices import DeviceFiles
from modelmeter.cli.hugging_face_options import HuggingFaceOptions
from modelmeter.cli.questions import asked
from modelmeter.cli.report import check_page, html_of, subject_of
from modelmeter.cli.scenario_options import ScenarioOptions
from modelmeter.errors import UsageError
from modelmeter.schema.files import write_file

if TYPE_CHECKING:
    from modelmeter.planning.traced import TracedQuestion
    from modelmeter.planning.what_if import Question
    from modelmeter.schema.analysis import Analysis
    from modelmeter.schema.callgraph import CallGraph

_DEFAULT_SCENARIO = ScenarioOptions()
_DEFAULT_MODEL = HuggingFaceOptions()

_ROWS = 12
"""Modules that are listed, those with the largest own time."""


def analyze(
    subject: str,
    /,
    *pages: Path,
    scenario: ScenarioOptions = _DEFAULT_SCENARIO,
    model: HuggingFaceOptions = _DEFAULT_MODEL,
    device_file: DeviceFiles = (),
    calibration: Path | None = None,
    model_id: str | None = None,
    model_variant: str | None = None,
    workload_profile_id: str | None = None,
    profile_run_id: str | None = None,
    measurement: Path | None = None,
    traced: Annotated[Flag, Parameter(name="--trace")] = False,
    input_ids: str | None = None,
    rows: Whole = _ROWS,
    tree: Flag = False,
    out: Path | None = None,
    html: Path | None = None,
    store: Path | None = None,
    run_id: str | None = None,
    force_rebuild: Flag = False,
    force: Flag = False,
    as_json: Json = False,
    quiet: Flag = False,
) -> None:
    """Work out FLOPs, bytes, memory and time on a device, without weights and without a GPU.

    DeepSeek-OCR has closed forms and nothing is run. Any other model is traced without its weights.

    Examples:

        modelmeter analyze deepseek-ocr --device h100-sxm

        modelmeter analyze deepseek-ocr page.png --device rtx-5090 --max-new-tokens 512

        modelmeter analyze deepseek-ocr --workload dsocr-standard-v1 --out runs/report --html report.html

        modelmeter analyze path/to/config.json --input-ids 1x512 --device h200

    Parameters
    ----------
    subject
        A family (deepseek-ocr), a config.json, an architecture by name (hf:qwen3_moe), package.module:function,
        or a callgraph.json that was traced with --forward-operators.
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
    traced
        Take the costs from a weightless trace, also where there are closed forms.
    input_ids
        Prompt of BATCHxPOSITIONS token ids, for a Hugging Face configuration; BATCHx512 if not given.
    rows
        Modules to list, those with the largest own time first.
    tree
        List every module, in the order of the model, with what is below it.
    out
        Folder for report.json, report.yaml, summary.md with its figures, and a page for every module.
    html
        An interactive page of the report, one HTML file that works offline.
    store
        Folder of reports, as that of "modelmeter serve": the report goes there under its id, and one that is there
        already is taken from there.
    run_id
        Name of the run: the report goes into a folder of this name below --out, or below runs.
    force_rebuild
        Work a stored report out again.
    force
        Overwrite files that exist.
    as_json
        Print the report as JSON.
    quiet
        No progress, and no tables when the report is written.
    """
    if rows < 1:
        raise UsageError(f"--rows is {rows}", remedy="give a whole number of at least 1")
    if store is not None and out is not None:
        raise UsageError("--store and --out both say where the report goes", remedy="give one of them")
    if force_rebuild and store is None:
        raise UsageError("--force-rebuild without --store does nothing", remedy="give --store DIR")
    folder = run_folder(out, run_id, store)
    if folder is not None:
        check_artifacts(folder, force=force)
    if html is not None:
        check_page(html, "--html", force=force)
    labels = {
        "model_id": model_id,
        "model_variant": model_variant,
        "profile_run_id": profile_run_id,
    }
    given = _profiled(scenario, workload_profile_id).values(pages)
    profile = workload_profile_id or (str(scenario.workload) if scenario.workload is not None else None)
    graphs: list[CallGraph] = []
    with progress(f"Tracing {subject}", quiet=quiet) as step:
        question = asked(
            subject,
            given,
            device_file,
            calibration,
            profile,
            labels,
            input_ids,
            step,
            traced=traced,
            model=model,
            keep=graphs.append,
        )
    if measurement is not None:
        from modelmeter.cli.measured_time import with_measurement

        question = with_measurement(question, measurement)
    report = analysis = None
    if store is not None:
        report, folder = stored(question, store, force_rebuild=force_rebuild)
    elif as_json or html is not None or folder is not None:
        analysis = question.analysis()
        report = question.report(analysis)
        if folder is not None:
            write_artifacts(report, folder, force=force)
    if html is not None:
        write_file(
            html, html_of(subject_of(report, graphs[0] if graphs else None, device_file=device_file)), force=force
        )
    with printing():
        if as_json:
            from modelmeter.contracts import report_json

            assert report is not None
            write_text(report_json(report))
            return
        if not quiet or (folder is None and html is None):
            _show(question, analysis or question.analysis(), rows, tree)
        if folder is not None and report is not None:
            print(f"report_id {report.report_id}")
            print(f"artifacts_dir {folder}")
        if html is not None:
            print(f"page {html}")


def _show(question: Question | TracedQuestion, analysis: Analysis, rows: int, tree: bool) -> None:
    from modelmeter.render.analysis import analysis_view
    from modelmeter.render.terminal import console

    view = analysis_view(analysis, question.described(), rows=rows, whole_tree=tree)
    console().print(view, crop=False)


def _profiled(options: ScenarioOptions, profile_id: str | None) -> ScenarioOptions:
    if profile_id is None:
        return options
    if options.workload is not None:
        raise UsageError("--workload and --workload-profile-id both name a workload", remedy="give one of them")
    return evolve(options, workload=Path(profile_id))
