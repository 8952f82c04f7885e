"""``modelmeter memory``: activations, peaks, weights and caches along a call graph."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from attrs import asdict

from modelmeter.cli.arguments import Json, Whole


def memory(call_graph: Path, /, *patterns: str, depth: Whole | None = None, as_json: Json = False) -> None:
    """Show where the memory goes: activation bytes, peak with what makes it, weights and KV cache.

    Examples:

        modelmeter memory runs/a/callgraph.json

        modelmeter memory runs/a/callgraph.json 'sam_model.blocks.[0-11].attn' 'layers.*.mlp'

    Parameters
    ----------
    call_graph
        A callgraph.json.
    patterns
        Modules to answer for, for example 'sam_model.blocks.[0-11].attn'; all families without one.
    depth
        Levels of the table of families.
    as_json
        Print the answer as JSON.
    """
    from modelmeter.callgraph.folding import fold
    from modelmeter.callgraph.memory import live_at_peak, matching, memory_by_family, memory_by_stage, memory_use
    from modelmeter.schema.callgraph import CallGraph

    graph = CallGraph.load(call_graph)
    if patterns:
        uses = [memory_use(graph, matching(graph, text), text) for text in patterns]
    else:
        uses = memory_by_family(fold(graph), depth)
    whole = memory_use(graph, [graph.root], graph.root) if graph.call_counts else None
    if as_json:
        answer = {
            "modules": [asdict(use) for use in uses],
            "stages": [
                {"stage": name, "activation_bytes": size, "peak_bytes": peak}
                for name, size, peak in memory_by_stage(graph)
            ],
            "model": asdict(whole) if whole else None,
            "peak": asdict(graph.peak) if graph.peak else None,
        }
        sys.stdout.write(json.dumps(answer, indent=1, sort_keys=True) + "\n")
        return
    from modelmeter.render.memory import memory_view
    from modelmeter.render.terminal import console

    console().print(memory_view(graph, uses, memory_by_stage(graph), whole, live_at_peak(graph)))
