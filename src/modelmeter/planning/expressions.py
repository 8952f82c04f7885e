"""A report's costs and times as expression trees, for programs that cannot run Python.

The graph is that of the closed form itself, written out with equal parts shared: a list of nodes, each
an operation and the numbers of its arguments, which stand before it. A consumer works the list out from
its beginning to its end for values of the keys, and reads the results off at the roots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelmeter.contracts.expressions import evaluate_graph as evaluate_graph
from modelmeter.cost.arithmetic import Number, less, maximum, total, where
from modelmeter.cost.categories import COLLECTIVES
from modelmeter.cost.efficiency import CASES, Efficiency
from modelmeter.cost.expression import evaluate_all, in_order, is_node, key
from modelmeter.cost.network import Link
from modelmeter.cost.records import AMOUNTS, Amounts, Place
from modelmeter.cost.roofline import Machine, collective_seconds, device_seconds
from modelmeter.families.protocol import Family
from modelmeter.schema.cost import CostTree
from modelmeter.schema.device import Device
from modelmeter.schema.scenario import Scenario

OPERATIONS = {
    "number": "a number: [number, value]",
    "key": "a key's value: [key, name]",
    "add": "a + b",
    "sub": "a - b",
    "mul": "a * b",
    "floordiv": "a / b, rounded down",
    "truediv": "a / b",
    "maximum": "the larger of a and b",
    "minimum": "the smaller of a and b",
    "equal": "1 if a equals b, else 0",
    "less": "1 if a is less than b, else 0",
    "where": "b if a is not 0, else c",
}
"""What a node can be; arguments of all but numbers and keys are places in the list of nodes."""


def report_expressions(
    family: Family, config: Any, scenario: Scenario, device: Device, efficiency: Efficiency
) -> dict[str, Any]:
    """Every family of modules by stage: exact costs and the three times; peak, cache and weights besides.

    ``keys`` gives the value that each key has in the report, so that working out the graph with them
    gives the report's own numbers. They hold for the report's configuration, dtypes, attention kinds, head
    and efficiencies, and for its degrees of parallelism; routing that is drawn holds for its scenario alone.
    """
    costs = family.costs(config, scenario)
    form = costs.form
    named = _named(form.tape.record.costs, form.plan.totals(), form.dtypes, efficiency, form.communicates)
    everything = {**costs.values, **_machine_values(device, form.dtypes, scenario.execution, form.communicates)}
    page_keys, derived = family.scenario_keys(config, scenario)
    named = dict(zip(named, _substituted(list(named.values()), everything, derived), strict=True))
    return _written(named, {name: value for name, value in everything.items() if name not in derived} | page_keys)


def traced_expressions(tree: CostTree, execution: str, device: Device, efficiency: Efficiency) -> dict[str, Any]:
    """The same of a traced run: its costs are numbers, the device's figures are keys."""
    costs = amounts_by_place(tree)
    dtypes = sorted({place.dtype for place in costs if place.dtype})
    return _written(
        _named(costs, _totals(tree), dtypes, efficiency, communicates=False),
        _machine_values(device, dtypes, execution, communicates=False),
    )


def amounts_by_place(tree: CostTree) -> dict[Place, Amounts]:
    """What a tree's operators cost, by where they are filed."""
    found: dict[Place, Amounts] = {}
    for node in tree.nodes:
        for operator, run, stage, dtype, amount, segment in node.operators:
            place = Place(node.id, run, stage, operator, dtype, segment)
            found.setdefault(place, Amounts()).add(Amounts(*amount))
    return found


def _totals(tree: CostTree) -> dict[str, Number]:
    """Sums over all modules, under the names that a closed form's have."""
    found: dict[str, Number] = {
        "parameters": tree.parameter_count,
        "peak_live_bytes": tree.peak.bytes,
        "weight_bytes": tree.weight_bytes,
    }
    for node in tree.nodes:
        for forward, number in node.kv_cache_bytes.items():
            name = f"kv_cache_bytes.{forward}"
            found[name] = found.get(name, 0) + number
    return found


def _named(
    costs: Mapping[Place, Amounts],
    totals: Mapping[str, Number],
    dtypes: Sequence[str],
    efficiency: Efficiency,
    communicates: bool,
) -> dict[str, Number]:
    """Every number of the report by its name."""
    times = _times(costs, _machine_of_keys(dtypes, communicates), efficiency)
    columns: dict[str, list[Number]] = {}
    for place, amounts in costs.items():
        where_to = f"modules/{place.module}/{place.stage}"
        for name in AMOUNTS if communicates else _ON_ONE_DEVICE:
            columns.setdefault(f"{where_to}/{name}", []).append(getattr(amounts, name))
        for case in CASES:
            columns.setdefault(f"{where_to}/time_s.{case}", []).append(times[place][case])
    named: dict[str, Number] = {name: total(parts) for name, parts in columns.items()}
    return named | {f"totals/{name}": number for name, number in totals.items()}


def _written(named: Mapping[str, Number], values: Mapping[str, Any]) -> dict[str, Any]:
    """The document, with the keys that it uses."""
    nodes, roots = write_graph(named)
    used = {node[1] for node in nodes if node[0] == "key"}
    return {
        "keys": {name: values[name] for name in sorted(used)},
        "nodes": nodes,
        "operations": OPERATIONS,
        "roots": roots,
    }


PEAK_KEY = "peak_flops_per_s."
_FIGURES = ("vector_flops_per_s", "memory_bytes_per_s", "launch_overhead_s", "eager")
_LINK = ("interconnect_bytes_per_s", "link_latency_s")
_ON_ONE_DEVICE = tuple(name for name in AMOUNTS if not name.startswith("wire_"))


def _machine_of_keys(dtypes: Sequence[str], communicates: bool) -> Machine:
    """A machine whose figures are keys."""
    peaks = {dtype: key(PEAK_KEY + dtype) for dtype in dtypes}
    vector, bandwidth, overhead, eager = map(key, _FIGURES)
    return Machine(peaks, vector, bandwidth, overhead, eager, Link(*map(key, _LINK)) if communicates else None)


def _machine_values(device: Device, dtypes: Sequence[str], execution: str, communicates: bool) -> dict[str, Any]:
    """A device's figures by key."""
    machine = Machine.of(device, dtypes, execution, communicates=communicates)
    figures = (machine.vector, machine.bandwidth, machine.overhead, machine.eager)
    values = {PEAK_KEY + dtype: peak for dtype, peak in machine.peaks.items()}
    values |= dict(zip(_FIGURES, figures, strict=True))
    if machine.link is not None:
        values |= dict(zip(_LINK, (machine.link.bandwidth, machine.link.latency), strict=True))
    return values


def _times(costs: Mapping[Place, Amounts], machine: Machine, efficiency: Efficiency) -> dict[Place, dict[str, Number]]:
    """Seconds of every operator in the three cases; a segment takes its launches or its time on the device."""
    segments: dict[tuple[str, str], list[Place]] = {}
    for place in costs:
        segments.setdefault((place.stage, place.segment), []).append(place)
    times: dict[Place, dict[str, Number]] = {place: {} for place in costs}
    for places in segments.values():
        launches = total(costs[place].launches for place in places)
        for case in CASES:
            issue = machine.launch_seconds(efficiency, case)
            seconds = {place: _on_device(place, costs[place], machine, efficiency, case) for place in places}
            waits = less(total(seconds.values()), launches * issue)
            for place in places:
                times[place][case] = where(waits, costs[place].launches * issue, seconds[place])
    return times


def _on_device(place: Place, amounts: Amounts, machine: Machine, efficiency: Efficiency, case: str) -> Number:
    """Seconds of an operator on the device, or of a collective between devices."""
    seconds = maximum(*device_seconds(amounts, place.dtype, machine, efficiency, case))
    if place.operator in COLLECTIVES:
        seconds = maximum(seconds, collective_seconds(amounts, machine, case))
    return seconds


def _substituted(roots: list[Number], keys: Mapping[str, Any], derived: Mapping[str, Number]) -> list[Number]:
    """The same with keys that follow from others replaced by what they follow from."""
    if not derived:
        return roots
    return evaluate_all(roots, {name: derived.get(name, key(name)) for name in keys})


def write_graph(roots: Mapping[str, Number]) -> tuple[list[list[Any]], dict[str, int]]:
    """The nodes below some named roots, each after its arguments, and the place of every root."""
    nodes: list[list[Any]] = []
    places: dict[Any, int] = {}

    def place_of(value: Number) -> int:
        where = id(value) if is_node(value) else (type(value), value)
        if where not in places:
            places[where] = len(nodes)
            nodes.append(["number", value])
        return places[where]

    for node in in_order(roots.values()):
        if node.operation == "key":
            written: list[Any] = ["key", node.arguments[0]]
        else:
            written = [node.operation, *(place_of(argument) for argument in node.arguments)]
        places[id(node)] = len(nodes)
        nodes.append(written)
    return nodes, {name: place_of(root) for name, root in roots.items()}
