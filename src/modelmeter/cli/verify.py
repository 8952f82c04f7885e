"""``modelmeter verify``: the closed forms beside a trace, number by number."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from attrs import evolve
from cyclopts import Parameter

from modelmeter.cli.arguments import Flag, Json
from modelmeter.cli.console import printing, progress, write_text
from modelmeter.cli.scenario_options import ScenarioOptions
from modelmeter.cli.subject import FamilySubject, find_subject
from modelmeter.errors import UsageError, require_extra
from modelmeter.schema.scenario import Page, Scenario

DIFFERENT = 1
"""Exit code where something is unexplained."""

_DEFAULT_SCENARIO = ScenarioOptions()


def verify(
    subject: str,
    /,
    *pages: Path,
    scenario: ScenarioOptions = _DEFAULT_SCENARIO,
    battery: Annotated[Literal["standard"] | None, Parameter(name="--pages")] = None,
    together: Flag = False,
    stage: Literal["vision"] | None = None,
    full: Flag = False,
    as_json: Json = False,
    quiet: Flag = False,
) -> int:
    """Compare the closed forms with a weightless trace, per module and operator; leaves with 1 if they differ.

    Examples:

        modelmeter verify deepseek-ocr

        modelmeter verify deepseek-ocr --grid 1x1 --grid 3x2 --decode-steps 100

        modelmeter verify deepseek-ocr --grid all --stage vision --json

        modelmeter verify deepseek-ocr --pages standard

    Parameters
    ----------
    subject
        A family (deepseek-ocr), or a config.json of one.
    pages
        Page images. Each page, --page or --grid is a case of its own; "--grid all" stands for every crop grid.
    battery
        "standard": page sizes as document benchmarks have them, instead of pages of your own.
    together
        All pages as one request, one case.
    stage
        "vision": the vision towers and the projector alone.
    full
        Also run a small configuration for real, and compare with torch's FlopCounterMode.
    as_json
        Print both sides' totals and all differences as JSON.
    quiet
        No progress, and only what differs.
    """
    from modelmeter.verify.cases import Case

    found = find_subject(subject)
    if not isinstance(found, FamilySubject):
        raise UsageError(f"{subject} has no closed form to verify", remedy="give deepseek-ocr, or trace it")
    cases = [Case(name, wanted) for name, wanted in _cases(scenario, pages, battery, together)]
    try:
        import torch  # noqa: F401
    except ImportError:
        raise require_extra("trace", "torch") from None
    from modelmeter.verify import verify_cases
    from modelmeter.verify.real import verify_real

    with progress(f"Verifying {subject}", quiet=quiet or as_json) as step:
        results = list(verify_cases(found.family, found.config, cases, stage=stage, report=step))
        real = verify_real(found.family) if full else None
    ok = all(result.ok for result in results) and (real is None or real.ok)
    with printing():
        if as_json:
            answer: dict[str, Any] = {"cases": [result.to_dict() for result in results], "ok": ok}
            if real is not None:
                answer["real"] = real.to_dict()
            write_text(json.dumps(answer, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        else:
            from modelmeter.render.terminal import console
            from modelmeter.render.verification import verification_view

            if not (quiet and ok):
                console().print(verification_view(results, real, stage), crop=False)
    return 0 if ok else DIFFERENT


def _cases(
    options: ScenarioOptions, files: Sequence[Path], battery: str | None, together: bool
) -> list[tuple[str, Scenario]]:
    """Names and scenarios of what is verified."""
    from modelmeter.verify.cases import crop_grids, page_battery

    options.check_device()
    every = "all" in options.grid
    grids = tuple(grid for grid in options.grid if grid != "all")
    given = evolve(options, grid=grids).values(files)
    found: list[Page] = list(given.pop("pages", ()))
    own = bool(files or options.page or grids)
    if battery is not None and (own or every or together):
        raise UsageError("--pages standard has pages of its own", remedy="leave out other pages, or --pages")
    if every:
        found = [*(found if own else ()), *(Page(grid=grid) for grid in crop_grids())]
    if battery is not None:
        found = page_battery()
    base = Scenario(**given)
    if not found:
        return [("default page", base)]
    if together or (options.workload is not None and not own and not every and battery is None):
        return [(f"{len(found)} pages together", evolve(base, pages=tuple(found)))]
    return [(_name(page), evolve(base, pages=(page,))) for page in found]


def _name(page: Page) -> str:
    if page.grid is not None:
        return f"grid {page.grid[0]}x{page.grid[1]}"
    size = f"{page.width}x{page.height}"
    return f"{page.name} ({size})" if page.name else f"page {size}"
