"""Totals of a closed form as expressions: what a sweep over many scenarios works out, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, field

from modelmeter.cost.arithmetic import Number, largest, less, maximum, where
from modelmeter.cost.categories import COLLECTIVES
from modelmeter.cost.efficiency import CASES, ESTIMATE, HIGH, LOW, Efficiency
from modelmeter.cost.linear import Sums
from modelmeter.cost.records import Amounts, Place
from modelmeter.cost.roofline import Machine, collective_seconds, device_seconds
from modelmeter.cost.tape import Tape
from modelmeter.schema.callgraph import STAGES
from modelmeter.schema.cost import DECODE, PREFILL
from modelmeter.schema.timing import BOUNDS, COMPUTE, LAUNCH, MEMORY, NETWORK

AMOUNTS: Mapping[str, tuple[str, ...]] = {
    "matrix_flops": ("matrix_flops",),
    "vector_flops": ("vector_flops",),
    "ideal_bytes": ("bytes_read", "bytes_written"),
    "eager_bytes": ("eager_bytes_read", "eager_bytes_written"),
    "launches": ("launches",),
}
"""Totals that are sums over operators, and what they sum."""


@define(eq=False)
class Totals:
    """Sums over all operators, what is held in memory, and the time of every stage."""

    amounts: dict[str, Number] = field(factory=dict)
    """Those of ``AMOUNTS``, then bytes of weights, of the cache at the end, and the most live bytes."""
    low: dict[str, Number] = field(factory=dict)
    """Seconds by stage in the shortest case."""
    high: dict[str, Number] = field(factory=dict)
    """Seconds by stage in the longest case."""
    shares: dict[str, dict[str, Number]] = field(factory=dict)
    """Seconds of the estimate by stage, and by what they are spent on; their sum is the estimate."""
    in_turn: list[Number] = field(factory=list)
    """Times as they grow, operator by operator: the order in which they take least memory."""

    @property
    def named(self) -> dict[str, Number]:
        """Everything by a name of its own."""
        named = {f"amounts/{name}": number for name, number in self.amounts.items()}
        for stage in STAGES:
            named[f"{LOW}/{stage}"], named[f"{HIGH}/{stage}"] = self.low[stage], self.high[stage]
            named |= {f"{ESTIMATE}/{stage}/{bound}": number for bound, number in self.shares[stage].items()}
        return named


def totals(tape: Tape, held: Mapping[str, Number], machine: Machine, efficiency: Efficiency) -> Totals:
    """The totals of a tape on a machine. ``held``: bytes of weights and of the cache, as a plan has them."""
    costs = tape.record.costs
    found = Totals(
        _amounts(tape, held),
        dict.fromkeys(STAGES, 0),
        dict.fromkeys(STAGES, 0),
        {stage: dict.fromkeys(BOUNDS, 0) for stage in STAGES},
    )
    segments: dict[tuple[str, str], list[Place]] = {}
    for place in costs:
        segments.setdefault((place.stage, place.segment), []).append(place)
    for (stage, _), places in segments.items():
        _add_segment(found, stage, {place: costs[place] for place in places}, machine, efficiency)
    return found


def _amounts(tape: Tape, held: Mapping[str, Number]) -> dict[str, Number]:
    summed = {
        name: [getattr(amounts, part) for amounts in tape.record.costs.values() for part in parts]
        for name, parts in AMOUNTS.items()
    }
    live: dict[str, list[Number]] = {}
    for (run, _), moments in tape.moments.items():
        live.setdefault(run, []).extend(moments)
    sums = Sums(number for numbers in (*summed.values(), *live.values()) for number in numbers)
    found = {name: sums.total(numbers) for name, numbers in summed.items()}
    # What is held after the last step, or after the prefill where there is none.
    prefill, decode = (held.get(f"kv_cache_bytes.{forward}", 0) for forward in (PREFILL, DECODE))
    found["weight_bytes"] = held["weight_bytes"]
    found["kv_cache_bytes"] = where(less(0, decode), decode, prefill)
    found["peak_bytes"] = largest(sums.largest(moments) * tape.present.get(run, 1) for run, moments in live.items())
    return found


def _add_segment(
    found: Totals, stage: str, costs: Mapping[Place, Amounts], machine: Machine, efficiency: Efficiency
) -> None:
    """Add operators that are issued together: they last as long as their launches, or as their time on the device."""
    seconds: dict[str, Number] = dict.fromkeys(CASES, 0)
    moving: Number = 0
    sending: Number = 0.0
    launches: Number = 0
    for place, amounts in costs.items():
        launches = launches + amounts.launches
        for case in CASES:
            compute, memory = device_seconds(amounts, place.dtype, machine, efficiency, case)
            if place.operator in COLLECTIVES:
                longest = maximum(maximum(compute, memory), collective_seconds(amounts, machine, case))
                seconds[case] = seconds[case] + longest
                if case == ESTIMATE:
                    sending = sending + longest
                continue
            seconds[case] = seconds[case] + maximum(compute, memory)
            if case == ESTIMATE:
                moving = moving + where(less(compute, memory), memory, 0.0)
        found.in_turn += [*seconds.values(), moving, sending, launches]
    issued = {case: launches * machine.launch_seconds(efficiency, case) for case in CASES}
    found.low[stage] = found.low[stage] + maximum(seconds[LOW], issued[LOW])
    found.high[stage] = found.high[stage] + maximum(seconds[HIGH], issued[HIGH])
    waits = less(seconds[ESTIMATE], issued[ESTIMATE])
    spent = {COMPUTE: seconds[ESTIMATE] - moving - sending, MEMORY: moving, LAUNCH: 0.0, NETWORK: sending}
    shares = found.shares[stage]
    for bound in BOUNDS:
        shares[bound] = shares[bound] + where(waits, issued[ESTIMATE] if bound == LAUNCH else 0.0, spent[bound])
    found.in_turn += [found.low[stage], found.high[stage], *shares.values()]
