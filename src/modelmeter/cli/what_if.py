"""``modelmeter what-if``: a report asked again with something changed, from the report alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from modelmeter.cli.arguments import Flag, Json
from modelmeter.cli.artifacts import write_artifacts
from modelmeter.cli.console import printing, progress, write_text
from modelmeter.cli.devices import DeviceFiles
from modelmeter.cli.scenario_options import ScenarioOptions
from modelmeter.errors import UsageError

if TYPE_CHECKING:
    from modelmeter.planning.traced import TracedQuestion
    from modelmeter.planning.what_if import Question

_DEFAULT_SCENARIO = ScenarioOptions()

Settings = Annotated[tuple[str, ...], Parameter(name="--set", negative_iterable=())]
"""KEY=VALUE, one for each time that the option is given."""


def what_if(
    report: Path,
    /,
    *pages: Path,
    scenario: ScenarioOptions = _DEFAULT_SCENARIO,
    settings: Settings = (),
    figure: Annotated[tuple[str, ...], Parameter(negative_iterable=())] = (),
    device_file: DeviceFiles = (),
    solve: Literal["batch", "device"] | None = None,
    ttft_ms: float | None = None,
    tpot_ms: float | None = None,
    retrace: Flag = False,
    out: Path | None = None,
    force: Flag = False,
    as_json: Json = False,
) -> None:
    """Ask a report again with another device, batch, page or anything else; nothing is run.

    Examples:

        modelmeter what-if report.json --device h200 --batch 8 --set decode_steps=2047

        modelmeter what-if report.json --figure memory_bytes_per_s=4.8e12 --execution graph

        modelmeter what-if report.json --solve batch --ttft-ms 500 --tpot-ms 50

        modelmeter what-if report.json --solve device --tpot-ms 20

    Parameters
    ----------
    report
        A report.json or report.yaml.
    pages
        Page images to take instead.
    settings
        A key of the scenario with its new value, KEY=VALUE; repeatable.
    figure
        A figure of the device with its new value, such as dense_flops_per_s.bfloat16=1e15; repeatable.
    device_file
        Your own device file, JSON or YAML, or a folder of them; repeatable.
    solve
        "batch": the largest batch within memory and the limits; "device": the cheapest device that meets them.
    ttft_ms
        Limit on the time to the first token, in milliseconds.
    tpot_ms
        Limit on the time per output token, in milliseconds.
    retrace
        Where the report comes from a trace, and the answer needs another one, trace the model again.
    out
        Folder for the new report with its documents.
    force
        Overwrite files that exist.
    as_json
        Print {"before", "after", "ratio"}, with whole reports; or the answer to --solve.
    """
    from modelmeter.cli.traced_run import retraced
    from modelmeter.contracts import load_report
    from modelmeter.planning.traced import TracedQuestion, needing_another_trace
    from modelmeter.planning.what_if import changed, overridden, question_of

    before = load_report(report)
    question = question_of(before)
    changes = {**scenario.values(pages), **_settings(settings)}
    device = question.device
    if "device" in changes:
        from modelmeter.cost.catalogue import find_device

        if changes["device"] != device.id:
            device = find_device(changes["device"], device_file)
    device = overridden(device, _figures(figure))
    asked: Question | TracedQuestion
    if retrace and isinstance(question, TracedQuestion) and needing_another_trace(question, changes):
        with progress("Tracing", quiet=False) as step:
            asked = retraced(question, changes, device, step)
    else:
        asked = changed(question, changes, device)
    if solve is not None:
        from modelmeter.cli.solve import print_solution

        print_solution(asked, solve, ttft_ms, tpot_ms, device_file, as_json=as_json)
        return
    if ttft_ms is not None or tpot_ms is not None:
        raise UsageError("a limit without --solve does nothing", remedy="give --solve batch or --solve device")
    if not changes and not figure:
        raise UsageError("nothing is changed", remedy="give an option, --set KEY=VALUE or --figure NAME=VALUE")
    after = asked.report()
    from modelmeter.contracts import converter
    from modelmeter.planning.comparison import ratios

    if out is not None:
        write_artifacts(after, out, force=force)
    with printing():
        if as_json:
            answer = {
                "after": converter.unstructure(after),
                "before": converter.unstructure(before),
                "ratio": ratios(before, after),
            }
            write_text(json.dumps(answer, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        else:
            from modelmeter.render.comparison import comparison_view
            from modelmeter.render.terminal import console

            console().print(comparison_view(before, after), crop=False)
            if out is not None:
                print(f"report_id {after.report_id}")
                print(f"artifacts_dir {out}")


def _settings(texts: Sequence[str]) -> dict[str, Any]:
    """``batch=8`` becomes a number, ``crop_mode=false`` a flag, ``kv_dtype=none`` nothing, other values texts."""
    from modelmeter.cli.workload import page_of

    values: dict[str, Any] = {}
    for text in texts:
        key, value = _pair(text, "--set", "decode_steps=2047")
        if key == "max_new_tokens":
            key, value = "decode_steps", str(int(value) - 1) if value.isdecimal() else value
        if key == "pages":
            values[key] = tuple(page_of(entry) for entry in value.split(","))
            continue
        words: dict[str, Any] = {"true": True, "false": False, "none": None}
        lowered = value.lower()
        values[key] = int(value) if value.lstrip("-").isdecimal() else words.get(lowered, value)
    return values


def _figures(texts: Sequence[str]) -> dict[str, float]:
    values = {}
    for text in texts:
        name, value = _pair(text, "--figure", "memory_bytes_per_s=4.8e12")
        try:
            values[name] = float(value)
        except ValueError:
            raise UsageError(f"--figure {text!r:.60} gives no number", remedy="write NAME=NUMBER") from None
    return values


def _pair(text: str, option: str, example: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise UsageError(f"{option} {text!r:.60} is no KEY=VALUE", remedy=f"write for example {option} {example}")
    return key.strip().replace("-", "_"), value.strip()
