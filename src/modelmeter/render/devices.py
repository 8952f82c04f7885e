"""The device catalogue and one device, for the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from modelmeter.schema.device import GIBIBYTE, Device, Figure

_UNITS = {
    "dense_flops_per_s": (1e12, "TFLOP/s"),
    "sparse_flops_per_s": (1e12, "TFLOP/s"),
    "vector_flops_per_s": (1e12, "TFLOP/s"),
    "memory_bytes": (GIBIBYTE, "GiB"),
    "memory_bytes_per_s": (1e9, "GB/s"),
    "interconnect_bytes_per_s": (1e9, "GB/s"),
    "link_latency_s": (1e-6, "µs"),
    "power_w": (1, "W"),
    "launch_overhead_s": (1e-6, "µs"),
    "hourly_price_usd": (1, "$/h"),
}
"""How a figure is written: what it is divided by, and the unit that it then has."""


def catalogue_view(devices: Iterable[Device]) -> RenderableType:
    """One line a device."""
    table = _table()
    table.add_column("id", no_wrap=True)
    table.add_column("name", no_wrap=True, overflow="ellipsis", max_width=24)
    for title in ("GiB", "TB/s", "bf16", "fp16", "fp8", "fp32", "W", "$/h", "read"):
        table.add_column(title, justify="right", no_wrap=True)
    for device in devices:
        dense = device.dense_flops_per_s
        figures = [figure for _, figure in device.figures.named()]
        table.add_row(
            Text(device.id),
            Text(device.name),
            f"{device.memory_bytes / GIBIBYTE:.0f}",
            f"{device.memory_bytes_per_s / 1e12:.2f}",
            _tera(dense.get("bfloat16")),
            _tera(dense.get("float16")),
            _tera(dense.get("float8_e4m3fn")),
            _tera(dense.get("float32")),
            f"{device.power_w:.0f}",
            "-" if device.hourly_price_usd is None else f"{device.hourly_price_usd:.2f}",
            f"{sum(figure.verified for figure in figures)}/{len(figures)}",
        )
    notes = (
        "bf16 to fp32: dense matrix peaks in 10¹² FLOP/s, accumulating in float32; fp32 without TF32.",
        "read: figures that were read in the source they name; 'modelmeter devices ID' shows each.",
    )
    return Group(table, *(Text(note, style="dim") for note in notes))


def device_view(device: Device) -> RenderableType:
    """Every figure with its source, then the notes and the sources; addresses may be longer than a line."""
    link = f", {device.interconnect}" if device.interconnect else ""
    title = f": {device.vendor} {device.name} ({device.kind}, {device.architecture}{link})"
    table = _table()
    table.add_column("figure", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("read", no_wrap=True)
    table.add_column("source", overflow="fold")
    table.add_column("note", justify="right", no_wrap=True)
    notes: list[str] = []
    for name, figure in device.figures.named():
        if figure.note and figure.note not in notes:
            notes.append(figure.note)
        number = str(notes.index(figure.note) + 1) if figure.note else ""
        read = "yes" if figure.verified else "no"
        table.add_row(Text(name), _value(name, figure), read, Text(figure.source), number)
    parts: list[RenderableType] = [Text.assemble((device.id, "bold"), title), table]
    if notes:
        parts += [Text("Notes", style="bold"), *map(_note, range(1, len(notes) + 1), notes), Text()]
    parts.append(Text("Sources", style="bold"))
    for key, source in device.sources.items():
        parts.append(Text(f"{key}: {source.title}"))
        if source.url:
            # Broken over two lines it could not be copied.
            parts.append(Text(f"  {source.url}", style="dim", no_wrap=True, overflow="ignore"))
    return Group(*parts)


def _note(number: int, note: str) -> Table:
    line = Table.grid(padding=(0, 1, 0, 0))
    line.add_row(f"{number:2}", Text(note))
    return line


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))


def _tera(value: float | None) -> str:
    if value is None:
        return "-"
    tera = value / 1e12
    return f"{tera:,.0f}" if tera >= 99.95 else f"{tera:.1f}"


def _value(name: str, figure: Figure) -> str:
    divisor, unit = _UNITS[name.partition(".")[0]]
    return f"{figure.value / divisor:,.6g} {unit}"
