"""``modelmeter report``: an interactive page of a report, a call graph, or both, as one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelmeter.cli.arguments import Flag
from modelmeter.cli.console import progress
from modelmeter.cli.devices import DeviceFiles
from modelmeter.cli.hugging_face_options import HuggingFaceOptions
from modelmeter.cli.scenario_options import ScenarioOptions
from modelmeter.errors import UsageError

if TYPE_CHECKING:
    from modelmeter.render.page import Subject


_DEFAULT_SCENARIO = ScenarioOptions()
_DEFAULT_MODEL = HuggingFaceOptions()


def report(
    subject: str,
    /,
    *documents: Path,
    out: Path,
    compare: Path | None = None,
    scenario: ScenarioOptions = _DEFAULT_SCENARIO,
    model: HuggingFaceOptions = _DEFAULT_MODEL,
    input_ids: str | None = None,
    device_file: DeviceFiles = (),
    force: Flag = False,
    quiet: Flag = False,
) -> None:
    """Write an interactive page: one HTML file that works offline, to look at, ask what if, and pass on.

    Examples:

        modelmeter report deepseek-ocr page.png --device h200 --out report.html

        modelmeter report hf:qwen3 --input-ids 1x512 --out report.html

        modelmeter report runs/report/report.json --out report.html

        modelmeter report runs/report/report.json runs/a/callgraph.json --out report.html

        modelmeter report before/report.json --compare after/report.json --out comparison.html

    Parameters
    ----------
    subject
        A report.json (or report.yaml) or callgraph.json; or a model, as for "modelmeter analyze", which is analyzed
        and traced.
    documents
        The other of the two; or page images for a model.
    out
        The HTML file to write.
    compare
        Another document of the same kind to show beside it.
    input_ids
        Prompt of BATCHxPOSITIONS token ids, for a Hugging Face configuration.
    device_file
        Your own device file, JSON or YAML, or a folder of them, for the page's choice of devices; repeatable.
    force
        Overwrite a file that exists.
    quiet
        No progress, and do not say what was written.
    """
    from modelmeter.cli.page_subject import is_model, report_and_graph
    from modelmeter.render.page import Subject
    from modelmeter.schema.files import write_file

    check_page(out, force=force)
    if is_model(subject):
        given = scenario.values(documents)
        profile = str(scenario.workload) if scenario.workload is not None else None
        with progress(f"Tracing {subject}", quiet=quiet) as step:
            shown = report_and_graph(subject, given, profile, input_ids, model, device_file, step)
    else:
        if scenario != _DEFAULT_SCENARIO or model != _DEFAULT_MODEL or input_ids is not None:
            raise UsageError(
                f"{subject} was made before: options of a scenario or model change nothing in it",
                remedy="leave them out, or give the model",
            )
        shown = _loaded([Path(subject), *documents])
    page = subject_of(**shown, device_file=device_file)
    other = None if compare is None else Subject(**_loaded([compare]))
    if other is not None and (other.report is None) != (page.report is None):
        raise UsageError(
            f"--compare {compare} is no {'report' if page.report else 'call graph'}",
            remedy="compare documents of one kind",
        )
    write_file(out, html_of(page, other), force=force)
    if not quiet:
        print(f"Wrote {out}")


def check_page(out: Path, option: str = "--out", *, force: bool) -> None:
    """Refuse early what could not be written later, and a name that no browser would open.

    Raises UsageError and OutputError.
    """
    from modelmeter.schema.files import check_writable

    if out.suffix.lower() not in (".html", ".htm"):
        named = out.with_suffix(".html").name if out.name else "page.html"
        raise UsageError(f"{option} {out} is no HTML file", remedy=f"name it {named}")
    check_writable(out.parent, [out.name], force=force)


def html_of(subject: Subject, other: Subject | None = None) -> str:
    """The page as text."""
    from modelmeter.render.page import page_data, page_html

    return page_html(page_data(subject, other))


def subject_of(report: Any = None, graph: Any = None, device_file: DeviceFiles = ()) -> Subject:
    """A report and a call graph with what a page needs to ask the report again."""
    from modelmeter.render.page import Subject

    if report is None:
        return Subject(graph=graph, why_not_live="a call graph alone holds no closed form: give a report.json as well")
    from modelmeter.cost.catalogue import load_catalogue
    from modelmeter.planning.live import live_report, why_not

    live = live_report(report, load_catalogue(device_file).values())
    return Subject(report, graph, live, why_not(report))


def _loaded(documents: Sequence[Path]) -> dict[str, Any]:
    """``report`` and ``graph``, told apart by their content; one of each kind at most."""
    from modelmeter.contracts import load_report
    from modelmeter.schema.callgraph import CallGraph

    found: dict[str, Any] = {}
    for path in documents:
        kind = "graph" if _is_call_graph(path) else "report"
        if kind in found:
            name = "call graphs" if kind == "graph" else "reports"
            raise UsageError(f"{path.name} makes two {name}", remedy="give one, and the other with --compare")
        found[kind] = CallGraph.load(path) if kind == "graph" else load_report(path)
    return found


def _is_call_graph(path: Path) -> bool:
    """By what the file says it is; reading it strictly comes after."""
    if path.suffix.lower() in (".yaml", ".yml"):
        return False
    from modelmeter.schema.codec import read_json

    data = read_json(path)
    return isinstance(data, dict) and "module_types" in data
