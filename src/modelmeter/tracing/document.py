"""From a recorder to the call graph document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

import modelmeter
from modelmeter.schema.callgraph import (
    STAGES,
    Assumption,
    CallGraph,
    Cost,
    Forward,
    LiveTensor,
    ModuleCost,
    OperatorCost,
    PeakMoment,
    Signature,
)
from modelmeter.tracing.accounts import as_cost
from modelmeter.tracing.modules import ModuleIds, constructor_params, module_children, parameter_infos
from modelmeter.tracing.recorder import Recorder


def call_graph(
    recorder: Recorder,
    ids: ModuleIds,
    *,
    model: Mapping[str, Any],
    scenario: Mapping[str, Any],
    runtime_events: list[dict[str, Any]],
    backend: str,
    forward_operators: bool = False,
) -> CallGraph:
    """The document of everything recorded."""
    forwards = [account.as_forward(with_operators=forward_operators) for account in recorder.forwards]
    shaping: dict[str, dict[str, Any]] = {}
    bookkeeping: dict[str, dict[str, Any]] = {}
    for name, module in ids.modules.items():
        of_module, of_place = constructor_params(module)
        if of_module:
            shaping[name] = of_module
        if of_place:
            bookkeeping[name] = of_place
    parameters = parameter_infos(ids)
    graph = CallGraph(
        tool={
            "name": "modelmeter",
            "version": modelmeter.__version__,
            "backend": backend,
            "torch": torch.__version__,
        },
        model={
            **model,
            "class": ids.root,
            "parameter_count": sum(info.count for info in parameters.values()),
            "parameter_bytes": sum(info.bytes for info in parameters.values()),
        },
        scenario=dict(scenario),
        assumptions=[
            Assumption(module, operator, rule, shape, dtype, calls)
            for (module, operator, rule, shape, dtype), calls in sorted(recorder.journal.assumptions.items())
        ],
        unknown_operators=dict(recorder.journal.unknown),
        module_children=module_children(ids),
        module_types={name: type(module).__name__ for name, module in ids.modules.items()},
        module_classes={
            name: f"{type(module).__module__}.{type(module).__qualname__}" for name, module in ids.modules.items()
        },
        module_stages=recorder.journal.module_stages,
        parameters=parameters,
        constructor_params=shaping,
        bookkeeping_params=bookkeeping,
        events=recorder.journal.events,
        events_dropped=recorder.events_dropped,
        runtime_events=runtime_events,
        data_edges=dict(_sum_counts(account.data_edges for account in recorder.forwards)),
        operators=_sum_operators([account.operators() for account in recorder.forwards]),
        kv_cache=recorder.kv_cache,
        stages=_stages(recorder),
        peak=_peak(recorder),
        memory_timeline=recorder.journal.timeline(),
        forwards=forwards,
    )
    sum_forwards(graph, forwards)
    return graph


def sum_forwards(graph: CallGraph, forwards: list[Forward]) -> None:
    """Fill the document's own keys with the sum over its forwards; peaks are the maximum."""
    graph.call_counts = dict(_sum_counts(forward.call_counts for forward in forwards))
    graph.edges = dict(_sum_counts(forward.edges for forward in forwards))
    graph.op_call_counts = dict(_sum_counts(forward.op_call_counts for forward in forwards))
    graph.input_metadata = _sum_signatures([forward.input_metadata for forward in forwards])
    graph.output_metadata = _sum_signatures([forward.output_metadata for forward in forwards])
    costs: dict[str, ModuleCost] = {}
    for forward in forwards:
        for name, cost in forward.costs.items():
            into = costs.setdefault(name, ModuleCost())
            into.own.add(cost.own)
            into.total.add(cost.total)
    graph.costs = costs


def _sum_counts(parts: Any) -> Counter[str]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return total


def _sum_signatures(parts: list[dict[str, list[Signature]]]) -> dict[str, list[Signature]]:
    total: dict[str, list[Signature]] = {}
    for part in parts:
        for name, signatures in part.items():
            known = total.setdefault(name, [])
            for signature in signatures:
                same = next(
                    (k for k in known if k.tensors == signature.tensors and k.non_tensor == signature.non_tensor),
                    None,
                )
                if same is None:
                    known.append(Signature(signature.tensors, signature.non_tensor, signature.calls))
                else:
                    same.calls += signature.calls
    return total


def _sum_operators(parts: list[dict[str, dict[str, OperatorCost]]]) -> dict[str, dict[str, OperatorCost]]:
    total: dict[str, dict[str, OperatorCost]] = {}
    for part in parts:
        for name, operators in part.items():
            known = total.setdefault(name, {})
            for operator, cost in operators.items():
                into = known.setdefault(operator, OperatorCost())
                into.calls += cost.calls
                into.matrix_flops += cost.matrix_flops
                into.vector_flops += cost.vector_flops
                into.bytes_read += cost.bytes_read
                into.bytes_written += cost.bytes_written
    return total


def _peak(recorder: Recorder) -> PeakMoment | None:
    """The moment of the peak, with equal storages of one origin taken together."""
    journal = recorder.journal
    if not journal.peak_bytes:
        return None
    moment = journal.peak_moment
    together: dict[tuple[str, str, tuple[int, ...], str], list[int]] = {}
    for birth in recorder.live_at_peak():
        together.setdefault((birth.module, birth.operator, birth.shape, birth.dtype), []).append(birth.size)
    tensors = [LiveTensor(*key, len(sizes), sum(sizes)) for key, sizes in together.items()]
    largest_first = tuple(sorted(tensors, key=lambda tensor: -tensor.bytes))
    return PeakMoment(moment.forward, moment.module, moment.operator, journal.peak_bytes, largest_first)


def _stages(recorder: Recorder) -> dict[str, Cost]:
    stages = {name: Cost(peak_bytes=0) for name in STAGES}
    for account in recorder.forwards:
        for name, (costs, by_dtype) in account.stages.items():
            stages.setdefault(name, Cost(peak_bytes=0)).add(as_cost(costs, by_dtype, account.stage_peaks[name]))
    return stages
