"""The terminal view of a measurement: stages, tokens per second, and the modules that took longest."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from modelmeter.schema.measurement import Measurement, Times
from modelmeter.units import format_bytes, format_count, format_share

MOST_FAMILIES = 10
"""Lines of the module table; the file has them all."""


def measurement_view(measured: Measurement) -> RenderableType:
    """What was measured on what, how long its stages and modules took, and how it was measured."""
    parts: list[RenderableType] = [*_titles(measured), _stage_table(measured), _speed(measured)]
    if measured.modules:
        parts += [Text(), _module_table(measured)]
    return Group(*parts, *_footnotes(measured))


def _titles(measured: Measurement) -> list[RenderableType]:
    device, scenario = measured.device, measured.scenario
    weights = "random weights" if measured.weights == "random" else f"weights of {measured.weights}"
    name = measured.model.get("config", {}).get("name") or measured.model.get("family", "")
    on = f"{device.name}, {device.threads} threads" if device.kind == "cpu" else device.name
    steps = len(measured.forwards) - 1
    workload = (
        f"batch {scenario.get('batch')}, {scenario.get('seq_len')} positions, {steps} decode steps, "
        f"{scenario.get('dtype')}, {scenario.get('attention')}, {measured.conditions.execution}"
    )
    count = format_count(measured.model.get("parameter_count", 0))
    return [
        Text.assemble((_plain(str(name)), "bold"), _plain(f": {count} parameters, {weights}, on {on}")),
        Text(_plain(workload), style="dim"),
    ]


def _stage_table(measured: Measurement) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("stage")
    for title in ("median ms", "min ms", "max ms", "share of run"):
        table.add_column(title, justify="right", no_wrap=True)
    whole = measured.run.time_s
    for name, times in measured.stages.items():
        table.add_row(Text(_plain(name)), *_cells(times), format_share(times.time_s, whole))
    table.add_row("run", *_cells(measured.run), format_share(whole, whole), style="bold")
    return table


def _cells(times: Times) -> list[str]:
    return [_ms(times.time_s), _ms(times.min_s), _ms(times.max_s)]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.3f}"


def _speed(measured: Measurement) -> Text:
    parts = [f"first token after {_ms(measured.first_token_s)} ms"]
    token_s = measured.token_s
    if token_s:
        parts.append(f"then {_ms(token_s)} ms a step, {measured.scenario.get('batch', 1) / token_s:,.1f} tokens/s")
    if measured.memory_peak_bytes is not None:
        parts.append(f"peak {format_bytes(measured.memory_peak_bytes)}")
    return Text("; ".join(parts) + ".")


def _module_table(measured: Measurement) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("modules", no_wrap=True, overflow="ellipsis", max_width=46)
    for title in ("calls", "own ms", "with callees ms", "own share"):
        table.add_column(title, justify="right", no_wrap=True)
    families = list(measured.module_families().items())
    whole = sum(times.own_time_s for _, times in families)
    shown, rest = families[:MOST_FAMILIES], families[MOST_FAMILIES:]
    for name, times in shown:
        cells = (f"{times.calls:,}", _ms(times.own_time_s), _ms(times.total_time_s))
        table.add_row(Text(_plain(name)), *cells, format_share(times.own_time_s, whole))
    if rest:
        own_s = sum(times.own_time_s for _, times in rest)
        calls = sum(times.calls for _, times in rest)
        table.add_row(f"{len(rest)} others", f"{calls:,}", _ms(own_s), "-", format_share(own_s, whole))
    return table


def _footnotes(measured: Measurement) -> list[RenderableType]:
    how = measured.conditions
    counted = f"{how.repeats} run{'s' if how.repeats != 1 else ''}"
    runs = f"{counted} after {how.warmup_runs} to warm up, by {how.clock}; inputs: {how.inputs}."
    notes = [runs, *(f"{note[:1].upper()}{note[1:]}." for note in how.notes), f"Peak: {how.memory}."]
    if measured.stopped == "length":
        notes.append(f"The text was cut at {len(measured.tokens or ())} tokens; --max-new-tokens allows more.")
    return [Text(_plain(note), style="dim") for note in notes]


def _plain(name: str) -> str:
    """A name on one line: a file's or a folder's may hold anything."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
