"""Every module's costs and times as expressions, by stage and over the whole run, with what is below it.

Names are ``<place of the module>/<stage>/<measure>``; the stage ``all`` is the whole run. Places count the
modules of the report. Times are those of ``cost.roofline``: seconds, in three cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from modelmeter.cost.arithmetic import Number, less, maximum, total, where
from modelmeter.cost.categories import COLLECTIVES, category_of
from modelmeter.cost.efficiency import CASES, ESTIMATE, Efficiency
from modelmeter.cost.records import Amounts, Place
from modelmeter.cost.roofline import Machine, collective_seconds, device_seconds
from modelmeter.planning.live.ledger import Ledger
from modelmeter.schema.callgraph import STAGES
from modelmeter.schema.cost import DECODE, PREFILL
from modelmeter.schema.timing import BOUNDS, COMPUTE, LAUNCH, MEMORY, NETWORK

ALL = "all"
"""The stage that stands for the whole run."""

AMOUNTS = ("matrix_flops", "vector_flops", "flops", "bytes", "launches")
"""What is summed over a module's operators; bytes are ideal ones."""

Row = dict[str, Number]


def module_roots(ledger: Ledger, efficiency: Efficiency) -> dict[str, Number]:
    """Measures of every module: amounts, seconds by case and by what bounds them, and what it holds."""
    times = own_times(ledger.costs, ledger.machine(), efficiency)
    own = _own_rows(ledger.costs, times)
    modules = ledger.modules
    places = {name: number for number, name in enumerate(modules)}
    below: dict[str, dict[str, Row]] = {}
    for name in reversed(list(modules)):
        rows = below.setdefault(name, {})
        for stage, row in own.get(name, {}).items():
            rows[stage] = _sum([row, rows[stage]]) if stage in rows else row
        caller = modules[name].caller
        if caller:
            theirs = below.setdefault(caller, {})
            for stage, row in rows.items():
                theirs[stage] = _sum([theirs[stage], row]) if stage in theirs else row
    root = next(iter(modules))
    whole = {stage: row[ESTIMATE] for stage, row in _with_all(below[root]).items()}
    found: dict[str, Number] = {}
    for name, number in places.items():
        mine = _with_all(own.get(name, {}))
        for stage, row in _with_all(below[name]).items():
            where_to = f"{number}/{stage}"
            found |= {f"{where_to}/{measure}": value for measure, value in row.items()}
            found[f"{where_to}/bound"] = place_of_largest([row[bound] for bound in BOUNDS])
            found[f"{where_to}/share"] = ratio(row[ESTIMATE], whole[stage])
            found[f"{where_to}/calls"] = _calls(ledger, name, stage)
            alone = mine.get(stage, {})
            for measure in ("flops", "bytes", ESTIMATE):
                found[f"{where_to}/own_{measure}"] = alone.get(measure, 0)
            # Where a segment waits for launches, an operator's share of it may be shorter than it takes by itself.
            found[f"{where_to}/own_span"] = maximum(alone.get(ESTIMATE, 0), alone.get("device", 0))
    return found | _held(ledger, places) | _by_category(ledger, times, places)


def own_times(costs: Mapping[Place, Amounts], machine: Machine, efficiency: Efficiency) -> dict[Place, Row]:
    """Seconds of every operator in the three cases, those of the estimate by bound, and on the device alone."""
    segments: dict[tuple[str, str], list[Place]] = {}
    for place in costs:
        segments.setdefault((place.stage, place.segment), []).append(place)
    times: dict[Place, Row] = {place: {} for place in costs}
    for places in segments.values():
        launches = total(costs[place].launches for place in places)
        for case in CASES:
            issue = machine.launch_seconds(efficiency, case)
            parts = {place: _on_device(place, costs[place], machine, efficiency, case) for place in places}
            waits = less(total(total(part.values()) for part in parts.values()), launches * issue)
            for place, part in parts.items():
                issued = costs[place].launches * issue
                times[place][case] = where(waits, issued, total(part.values()))
                if case == ESTIMATE:
                    times[place]["device"] = total(part.values())
                    spent: Row = {bound: where(waits, 0.0, seconds) for bound, seconds in part.items()}
                    times[place] |= {**dict.fromkeys(BOUNDS, 0.0), **spent, LAUNCH: where(waits, issued, 0.0)}
    return times


def _on_device(place: Place, amounts: Amounts, machine: Machine, efficiency: Efficiency, case: str) -> Row:
    """Seconds of an operator on the device by what it waits for: one of them is not 0."""
    compute, memory = device_seconds(amounts, place.dtype, machine, efficiency, case)
    if place.operator in COLLECTIVES:
        return {NETWORK: maximum(maximum(compute, memory), collective_seconds(amounts, machine, case))}
    moves = less(compute, memory)
    return {COMPUTE: where(moves, 0.0, compute), MEMORY: where(moves, memory, 0.0)}


def place_of_largest(numbers: Sequence[Number]) -> Number:
    """The place of the largest of some numbers, the first of equal ones; -1 where none is above 0."""
    most: Number = 0
    place: Number = -1
    for number, value in enumerate(numbers):
        place = where(less(most, value), number, place)
        most = maximum(most, value)
    return place


def category_id(category: str) -> str:
    """A category as reports name it."""
    return category.replace(" ", "_")


def ratio(part: Number, whole: Number) -> Number:
    """One over the other; 0 where there is nothing to divide by."""
    some = less(0, whole)
    return where(some, part / where(some, whole, 1), 0)


def _own_rows(costs: Mapping[Place, Amounts], times: Mapping[Place, Row]) -> dict[str, dict[str, Row]]:
    rows: dict[str, dict[str, list[Row]]] = {}
    for place, amounts in costs.items():
        row = _amounts(amounts) | times[place]
        rows.setdefault(place.module, {}).setdefault(place.stage, []).append(row)
    return {name: {stage: _sum(parts) for stage, parts in stages.items()} for name, stages in rows.items()}


def _amounts(amounts: Amounts) -> Row:
    return {
        "matrix_flops": amounts.matrix_flops,
        "vector_flops": amounts.vector_flops,
        "flops": amounts.matrix_flops + amounts.vector_flops,
        "bytes": amounts.bytes_read + amounts.bytes_written,
        "launches": amounts.launches,
    }


def _sum(rows: Iterable[Row]) -> Row:
    listed = list(rows)
    return {measure: total(row[measure] for row in listed) for measure in listed[0]}


def _with_all(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Rows in the order of the stages, and their sum."""
    ordered = {stage: rows[stage] for stage in STAGES if stage in rows}
    empty: Row = dict.fromkeys((*AMOUNTS, *CASES, *BOUNDS, "device"), 0)
    return ordered | {ALL: _sum(ordered.values()) if ordered else empty}


def _calls(ledger: Ledger, name: str, stage: str) -> Number:
    """Calls in a stage; of a module that only contains modules of the stage, those that run them."""
    runs = {run: number for (module, run), number in ledger.calls.items() if module == name}
    if stage == ALL:
        return total(runs.values())
    if stage == DECODE:
        return runs.get(DECODE, 0)
    return total(number for run, number in runs.items() if run != DECODE)


def _held(ledger: Ledger, places: Mapping[str, int]) -> dict[str, Number]:
    """Weights and cache with what is below, and the most live bytes while a module runs."""
    modules = ledger.modules
    weights = {name: module.weight_bytes for name, module in modules.items()}
    parameters = {name: module.parameters for name, module in modules.items()}
    caches = {name: _last(module.cache) for name, module in modules.items()}
    peaks = {name: module.peak for name, module in modules.items()}
    for name in reversed(list(modules)):
        caller = modules[name].caller
        if caller:
            for column in (weights, parameters, caches):
                column[caller] = column[caller] + column[name]
            peaks[caller] = maximum(peaks[caller], peaks[name])
    columns = {"weights": weights, "parameters": parameters, "cache": caches, "peak": peaks}
    return {f"{places[name]}/{ALL}/{title}": column[name] for title, column in columns.items() for name in places}


def _last(cache: Mapping[str, Number]) -> Number:
    """The cache at the end: after the last decode step, or after the prefill where there is none."""
    decode = cache.get(DECODE, 0)
    return where(less(0, decode), decode, cache.get(PREFILL, 0))


def _by_category(ledger: Ledger, times: Mapping[Place, Row], places: Mapping[str, int]) -> dict[str, Number]:
    """What each category's operators cost in a module, with what is below it: ``3/all/linear/flops``."""
    modules = ledger.modules
    columns: dict[tuple[str, str], list[Row]] = {}
    for place, amounts in ledger.costs.items():
        row = {
            # An operator that starts no kernel is left out of the tree, as there.
            "calls": where(less(0, amounts.launches), amounts.calls, 0),
            "flops": amounts.matrix_flops + amounts.vector_flops,
            "bytes": amounts.bytes_read + amounts.bytes_written,
            ESTIMATE: times[place][ESTIMATE],
        }
        columns.setdefault((place.module, category_of(place.operator)), []).append(row)
    sums = {where_to: _sum(rows) for where_to, rows in columns.items()}
    for name in reversed(list(modules)):
        caller = modules[name].caller
        if not caller:
            continue
        for (module, category), row in list(sums.items()):
            if module == name:
                theirs = sums.get((caller, category))
                sums[caller, category] = _sum([theirs, row]) if theirs else row
    return {
        f"{places[module]}/{ALL}/{category_id(category)}/{measure}": value
        for (module, category), row in sums.items()
        for measure, value in row.items()
    }
