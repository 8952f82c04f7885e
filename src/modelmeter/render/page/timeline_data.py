"""Live bytes over the run and who holds the most, as the page draws them."""

from __future__ import annotations

from typing import Any

from modelmeter.callgraph.memory import live_at_peak, matching
from modelmeter.errors import UnknownNameError
from modelmeter.render.labels import plain
from modelmeter.schema.callgraph import CallGraph, LiveTensor

MOST_HOLDERS = 40
"""So many holders are written, the largest; the page shows fewer."""


def timeline_data(call_graph: CallGraph) -> dict[str, Any] | None:
    """Points, peak and holders as plain data for ``TimelineData`` of the page; None for a document without them.

    ``peak`` is the index of the first of the largest points. ``holders`` are what was live at that moment, the
    largest first, like tensors of modules that differ in numbers only together; what was made before the first
    module ran has no module.
    """
    timeline = call_graph.memory_timeline
    if timeline is None or not timeline.numbers:
        return None
    columns = zip(timeline.bytes, timeline.operators, timeline.modules, timeline.stages, strict=True)
    data: dict[str, Any] = {
        "points": [
            {"bytes": live, "label": _operator(operator), "module": plain(module), "stage": plain(stage)}
            for live, operator, module, stage in columns
        ],
        "peak": max(range(len(timeline.bytes)), key=timeline.bytes.__getitem__),
        "holders": [_holder(call_graph, tensor) for tensor in live_at_peak(call_graph)[:MOST_HOLDERS]],
    }
    if len(timeline.numbers) < timeline.operations:
        data["note"] = (
            f"{len(timeline.numbers):,} of {timeline.operations:,} moments, the least and the most of every stretch"
        )
    return data


def _holder(graph: CallGraph, tensor: LiveTensor) -> dict[str, Any]:
    what = f"{plain(tensor.dtype.removeprefix('torch.'))} {list(tensor.shape)} of {_operator(tensor.operator)}"
    if tensor.count > 1:
        what = f"{tensor.count} × {what}"
    if not tensor.module:
        what += ", made before the modules ran"
    holder = {"module": plain(tensor.module), "bytes": tensor.bytes, "what": what}
    stage = _stage(graph, tensor.module)
    return holder if stage is None else {**holder, "stage": plain(stage)}


def _stage(graph: CallGraph, modules: str) -> str | None:
    """The stage in which the first of the modules that a pattern names ran first."""
    try:
        return graph.module_stages.get(matching(graph, modules)[0])
    except UnknownNameError:  # none of them is part of the document, or the holder has no module
        return None


def _operator(name: str) -> str:
    return plain(name.removeprefix("aten."))
