"""Memory tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from modelmeter.callgraph.memory import MemoryUse
from modelmeter.schema.callgraph import CallGraph, LiveTensor
from modelmeter.units import format_bytes, format_share

PEAK_ROWS = 12


def memory_view(
    graph: CallGraph,
    uses: Sequence[MemoryUse],
    stages: Sequence[tuple[str, int, int]],
    whole: MemoryUse | None,
    live: Sequence[LiveTensor],
) -> RenderableType:
    """Modules, stages, and what is live at the peak."""
    parts: list[RenderableType] = [_modules(uses, whole), Text(), _stages(stages)]
    if graph.peak is not None:
        parts += [Text(), *_peak(graph, live)]
    return Group(*parts)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, title in enumerate(columns):
        if index:
            table.add_column(title, justify="right", no_wrap=True)
        else:
            table.add_column(title, overflow="fold")
    return table


def _modules(uses: Sequence[MemoryUse], whole: MemoryUse | None) -> Table:
    table = _table("module", "calls", "activations", "results", "peak", "weights", "KV cache")
    for use in uses:
        table.add_row(Text(use.pattern), str(use.calls), *_sizes(use))
    if whole is not None and all(use.pattern != whole.pattern for use in uses):
        table.add_row("whole model", str(whole.calls), *_sizes(whole), style="bold")
    return table


def _sizes(use: MemoryUse) -> list[str]:
    sizes = (use.activation_bytes, use.result_bytes, use.peak_bytes, use.weight_bytes, use.kv_cache_bytes)
    return [format_bytes(size) if size else "-" for size in sizes]


def _stages(stages: Sequence[tuple[str, int, int]]) -> Table:
    table = _table("stage", "activations", "peak")
    for name, size, peak in stages:
        table.add_row(name, format_bytes(size), format_bytes(peak))
    return table


def _peak(graph: CallGraph, live: Sequence[LiveTensor]) -> list[RenderableType]:
    peak = graph.peak
    assert peak is not None
    title = Text.assemble(
        ("Peak ", "bold"),
        (format_bytes(peak.bytes), "bold"),
        f" in {peak.forward}, after {peak.operator} of {peak.module}; live were:",
    )
    table = _table("made by", "operator", "shape", "dtype", "count", "bytes", "share")
    for tensor in live[:PEAK_ROWS]:
        table.add_row(
            Text(tensor.module or "(inputs)"),
            tensor.operator.removeprefix("aten."),
            "×".join(map(str, tensor.shape)) or "scalar",
            tensor.dtype.removeprefix("torch."),
            str(tensor.count),
            format_bytes(tensor.bytes),
            format_share(tensor.bytes, peak.bytes),
        )
    rest = live[PEAK_ROWS:]
    if rest:
        size = sum(tensor.bytes for tensor in rest)
        count = sum(tensor.count for tensor in rest)
        table.add_row(
            f"{len(rest)} more", "", "", "", str(count), format_bytes(size), format_share(size, peak.bytes), style="dim"
        )
    return [title, table]
