"""Views of a call graph with fewer modules: the heavy ones, one stage, or what lies under a module."""

from __future__ import annotations

import re
from collections.abc import Callable

from modelmeter.callgraph.contract import keep_modules, of_forwards
from modelmeter.errors import UnknownNameError, UsageError
from modelmeter.schema.callgraph import BACKWARD, STAGES, CallGraph

HEAVY_CLASSES = re.compile(
    r"Norm|BatchNorm|GELU|SiLU|ReLU|Sigmoid|Tanh|Softmax|Swish|Mish|GLU|Activation|Hardtanh|Softplus|PReLU",
    re.IGNORECASE,
)
"""Class names of normalisations and activations, which start kernels without owning a weight or a product."""


def is_heavy(graph: CallGraph, name: str) -> bool:
    """Whether a module matters on a GPU: it owns parameters, multiplies matrices, or is a norm or activation."""
    parameters = graph.parameters.get(name)
    if parameters is not None and (parameters.count or parameters.shared):
        return True
    cost = graph.costs.get(name)
    return bool(cost and cost.own.matrix_flops) or bool(HEAVY_CLASSES.search(graph.module_types.get(name, "")))


def only_heavy(graph: CallGraph) -> CallGraph:
    """The graph of heavy modules and the root; calls through the others go to the nearest heavy caller."""
    return keep_modules(graph, {name for name in graph.call_counts if name == graph.root or is_heavy(graph, name)})


def only_stage(graph: CallGraph, stage: str, stage_of: Callable[[str], str | None]) -> CallGraph:
    """The graph of one stage: its modules and the root, over the forwards that run it.

    Raises UnknownNameError for what is no stage, UsageError where no module ran in it.
    """
    if stage not in STAGES:
        raise UnknownNameError("stage", stage, STAGES)
    inference = [forward for forward in graph.forwards if not forward.name.startswith(BACKWARD)]
    forwards = [forward for forward in inference if forward.name.startswith("decode") == (stage == "decode")]
    names = {name for forward in forwards for name in forward.call_counts}
    if stage != "decode":
        names = {name for name in names if (stage_of(name) or "prefill") == stage}
    if not names:
        raise UsageError(f"no module ran in stage {stage!r}", remedy="choose another --stage, or add --decode-steps")
    return keep_modules(of_forwards(graph, forwards), names | {graph.root})


def only_prefix(graph: CallGraph, prefix: str) -> CallGraph:
    """The graph of a module, everything below it, and the root.

    Raises UnknownNameError, with the nearest name, where nothing of that name ran.
    """
    prefix = prefix.rstrip(".")
    below = {prefix}
    waiting = [prefix]
    while waiting:
        children = [child for child in graph.module_children.get(waiting.pop(), ()) if child not in below]
        below.update(children)
        waiting += children
    names = {name for name in graph.call_counts if name in below or name.startswith(f"{prefix}.")}
    if not names:
        raise UnknownNameError("module", prefix, graph.call_counts)
    return keep_modules(graph, names | {graph.root})
