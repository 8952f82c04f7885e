"""The answer of ``modelmeter verify``: both sides' totals by case, and what differs."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from modelmeter.verify.real import RealResult
from modelmeter.verify.result import CaseResult

SHOWN = 20
"""Differences of a case that are shown; --json has all."""


def verification_view(results: Sequence[CaseResult], real: RealResult | None, stage: str | None) -> RenderableType:
    """One line a case with the closed form's totals, then every difference."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    # Names give way where numbers are long.
    table.add_column("case", max_width=30, overflow="fold")
    for title in ("vision FLOPs", "prefill FLOPs", "decode FLOPs"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("compared", justify="right", no_wrap=True)
    table.add_column("differ", justify="right", no_wrap=True)
    for result in results:
        totals = result.closed
        rest = ("-", "-") if stage == "vision" else (f"{totals.prefill_flops:,}", f"{totals.decode_flops:,}")
        differ = Text(f"{len(result.differences):,}", style="" if result.ok else "bold red")
        table.add_row(Text(result.name), f"{totals.vision_flops:,}", *rest, f"{result.compared:,}", differ)
    parts: list[RenderableType] = [table]
    for result in results:
        if result.differences:
            parts += [Text(f"{result.name}:", style="bold"), _differences(result)]
    if real is not None:
        parts.append(_real(real))
    unexplained = sum(not difference.excused for result in results for difference in result.differences)
    compared = sum(result.compared for result in results)
    if unexplained:
        parts.append(Text(f"{unexplained:,} of {compared:,} numbers differ.", style="bold red"))
    else:
        parts.append(Text(f"Closed form and trace agree on all {compared:,} numbers compared.", style="bold"))
    return Group(*parts)


def _differences(result: CaseResult) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title, width in (("module", 60), ("forward", 20), ("what", 40)):
        table.add_column(title, max_width=width, overflow="fold")
    for title in ("closed form", "trace"):
        table.add_column(title, justify="right", no_wrap=True)
    for difference in result.differences[:SHOWN]:
        what = f"{difference.metric} ({difference.reason})" if difference.reason else difference.metric
        table.add_row(
            Text(difference.module),
            difference.forward,
            Text(what),
            _number(difference.closed),
            _number(difference.traced),
        )
    if len(result.differences) <= SHOWN:
        return table
    return Group(table, Text(f"{len(result.differences) - SHOWN:,} more; --json has all.", style="dim"))


def _real(real: RealResult) -> RenderableType:
    closed = real.closed.prefill_flops + real.closed.decode_flops
    traced = real.traced.prefill_flops + real.traced.decode_flops
    verdict = "agree" if real.ok else "DIFFER"
    return Text(
        f"Run for real ({real.scenario}): FlopCounterMode {real.counted:,}, closed form {closed:,}, "
        f"trace {traced:,}: they {verdict}.\n",
        style="" if real.ok else "bold red",
    )


def _number(value: int | str) -> Text:
    return Text(f"{value:,}" if isinstance(value, int) else value)
