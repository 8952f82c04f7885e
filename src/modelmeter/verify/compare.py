"""One cost tree beside one call graph: every number of every module, and what differs."""

from __future__ import annotations

from attrs import frozen

from modelmeter.schema.callgraph import CallGraph
from modelmeter.schema.cost import CostNode, CostTree, forward_of
from modelmeter.verify.difference import Difference
from modelmeter.verify.memory import compare_peaks
from modelmeter.verify.stages import compare_stages
from modelmeter.verify.structure import compare_structure
from modelmeter.verify.traced import Numbers, ideal_of_leaf, members, numbers_of

CLOSED_GROUPS = {
    "linear": "linear",
    "gate": "linear",
    "batched_product": "batched_product",
    "rotary_angles": "batched_product",
    "convolution": "convolution",
    "attention": "attention",
}
"""A closed form's matrix operator to its kind."""

ONE_OPERATOR = ("linear", "gate", "convolution", "layer_norm", "channel_norm", "rms_norm", "activation")
"""Operators that are a whole module's forward: their ideal bytes are the module's inputs, weights and results."""


@frozen
class Comparison:
    """What differs, and how many numbers were compared."""

    differences: tuple[Difference, ...]
    compared: int

    @property
    def unexplained(self) -> tuple[Difference, ...]:
        """Differences without a reason."""
        return tuple(difference for difference in self.differences if not difference.excused)


def compare(tree: CostTree, document: CallGraph, *, stages: tuple[str, ...] = ()) -> Comparison:
    """Compare a closed form with a trace of the same scenario, all numbers exactly.

    Calls, matrix FLOPs by dtype and by operator, vector FLOPs, launches, eager bytes, ideal bytes where a
    module is one operator, output bytes, parameters, weights, cache and live bytes of every node; what the
    modules are; modules that only one side knows; and the peak, which may differ by 5% if the same module
    holds it. ``stages`` limits the comparison to modules of these stages, and to what they count.
    """
    differences: list[Difference] = []
    compared = 0
    known: set[str] = set()
    for node in tree.nodes:
        names = members(node.id)
        known.update(names)
        if stages and node.stage not in stages:
            continue
        closed, traced = closed_numbers(node), numbers_of(document, names)
        _add_ideal(node, names, document, closed, traced)
        places = closed.keys() | traced.keys()
        compared += len(places)
        differences += [
            Difference(node.id, forward, metric, closed.get((forward, metric), 0), traced.get((forward, metric), 0))
            for forward, metric in sorted(places)
            if closed.get((forward, metric), 0) != traced.get((forward, metric), 0)
        ]
    for name in document.call_counts:
        if name not in known and (not stages or document.module_stages.get(name) in stages):
            differences.append(Difference(name, "all", "module", "not in the closed form", "called"))
    for name, info in document.parameters.items():
        if info.count and name not in known and not stages:
            differences.append(Difference(name, "all", "parameters", 0, info.count))
    results = [compare_stages(tree, document, stages)]
    if not stages:
        results += [compare_structure(tree, document), compare_peaks(tree, document)]
    for found, number in results:
        differences += found
        compared += number
    return Comparison(tuple(differences), compared)


def closed_numbers(node: CostNode) -> Numbers:
    """Everything that is compared, by the closed form."""
    result: Numbers = {}

    def count(forward: str, metric: str, number: int) -> None:
        if number:
            result[forward, metric] = result.get((forward, metric), 0) + number

    for run, calls in node.calls.items():
        count(forward_of(run), "calls", calls)
    for run, number in node.output_bytes.items():
        count(forward_of(run), "output_bytes", number)
    for forward, number in node.kv_cache_bytes.items():
        count(forward, "kv_cache_bytes", number)
    for entry in node.operators:
        forward, amount = forward_of(entry.run), entry.amount
        if amount.matrix_flops:
            count(forward, f"matrix_flops.{entry.dtype}", amount.matrix_flops)
            group = CLOSED_GROUPS[entry.operator]
            count("all", f"{group}.calls", amount.calls)
            count("all", f"{group}.matrix_flops", amount.matrix_flops)
        count(forward, "vector_flops", amount.vector_flops)
        count(forward, "eager_bytes_read", amount.eager_bytes_read)
        count(forward, "eager_bytes_written", amount.eager_bytes_written)
        count(forward, "launches", amount.launches)
    count("all", "parameters", node.parameter_count)
    count("all", "weight_bytes", node.weight_bytes)
    return result


def _add_ideal(node: CostNode, names: tuple[str, ...], document: CallGraph, closed: Numbers, traced: Numbers) -> None:
    if not node.operators or {entry.operator for entry in node.operators} - set(ONE_OPERATOR):
        return
    ideal = ideal_of_leaf(document, names)
    if ideal is not None:
        own = node.own
        closed["all", "ideal_bytes_read"], closed["all", "ideal_bytes_written"] = own.bytes_read, own.bytes_written
        traced["all", "ideal_bytes_read"], traced["all", "ideal_bytes_written"] = ideal
