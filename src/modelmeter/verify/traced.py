"""The traced side: a call graph's numbers, added up over the modules that a node of the cost tree stands for."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from modelmeter.callgraph.leaf_bytes import leaf_bytes
from modelmeter.patterns import expand
from modelmeter.schema.callgraph import CallGraph, Forward
from modelmeter.schema.cost import DECODE, PREFILL

GROUPS = {
    "linear": ("mm", "addmm", "linear", "addmv", "mv"),
    "batched_product": ("bmm", "baddbmm", "matmul"),
    "convolution": ("convolution", "conv2d", "_convolution"),
}
"""Kind of a matrix operator to the names that torch has for it; what has attention in its name is one."""

Numbers = dict[tuple[str, str], int]
"""(forward or ``all``, metric) to a number."""


@lru_cache(maxsize=4096)
def members(pattern: str) -> tuple[str, ...]:
    """The modules that a node stands for."""
    return tuple(expand(pattern))


def group_of(operator: str) -> str:
    """The kind of a matrix operator by torch's name."""
    name = operator.removeprefix("aten.")
    if "attention" in name:
        return "attention"
    return next((group for group, names in GROUPS.items() if name in names), name)


def numbers_of(document: CallGraph, names: Iterable[str]) -> Numbers:
    """Everything that is compared, of some modules together."""
    result: Numbers = {}

    def count(forward: str, metric: str, number: int) -> None:
        if number:
            result[forward, metric] = result.get((forward, metric), 0) + number

    names = tuple(names)
    for forward in document.forwards:
        for place, number in numbers_of_forward(forward, names).items():
            count(*place, number)
    for name in names:
        info = document.parameters.get(name)
        if info is not None:
            count("all", "parameters", info.count)
            count("all", "weight_bytes", info.bytes)
        for operator, cost in document.operators.get(name, {}).items():
            if cost.matrix_flops:
                group = group_of(operator)
                count("all", f"{group}.calls", cost.calls)
                count("all", f"{group}.matrix_flops", cost.matrix_flops)
        held = document.kv_cache.get(name, ())
        if held:
            count(PREFILL, "kv_cache_bytes", held[0])
        if len(held) > 1:
            count(DECODE, "kv_cache_bytes", held[-1])
    return result


def numbers_of_forward(forward: Forward, names: Iterable[str]) -> Numbers:
    """What is compared of one forward, of some modules together."""
    result: Numbers = {}

    def count(forward: str, metric: str, number: int) -> None:
        if number:
            result[forward, metric] = result.get((forward, metric), 0) + number

    part = DECODE if forward.name.startswith(DECODE) else PREFILL
    for name in names:
        cost = forward.costs.get(name)
        if cost is None:
            continue
        own = cost.own
        count(part, "calls", forward.call_counts.get(name, 0))
        for dtype, flops in own.matrix_flops_by_dtype.items():
            count(part, f"matrix_flops.{dtype.removeprefix('torch.')}", flops)
        count(part, "vector_flops", own.vector_flops)
        count(part, "eager_bytes_read", own.bytes_read)
        count(part, "eager_bytes_written", own.bytes_written)
        count(part, "launches", own.launches)
        count(part, "output_bytes", cost.total.output_bytes)
    return result


def ideal_of_leaf(document: CallGraph, names: Iterable[str]) -> tuple[int, int] | None:
    """Bytes of inputs and weights, and of results, of all calls of modules that call no other.

    Inputs once, weights once, results once: what an operator's ideal bytes must be where a module is
    one operator. None for modules that look rows up, where a weight is not read whole.
    """
    names = tuple(names)
    if any(document.module_types.get(name) == "Embedding" for name in names):
        return None
    return leaf_bytes(names, document.input_metadata, document.output_metadata, document.parameters)
