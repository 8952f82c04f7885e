"""Time from costs: the roofline of every operator, and launches beside it.

An operator's time on the device is the largest of matrix FLOPs over the matrix peak of its dtype,
vector FLOPs over the vector peak, and bytes over bandwidth, each peak times an efficiency (Williams,
Waterman and Patterson, Roofline, 2009). In eager execution the host issues one launch after another,
each taking the launch overhead, while the device works through them: a segment, which is what the host
issues without waiting, lasts as long as the longer of the two. Captured in a graph launches cost nothing.

A collective takes as long as it takes to send (``cost.network``), if that is longer, and nothing else runs
meanwhile.

The shortest time and the estimate take ideal bytes: an operator (a norm, a softmax) reads what it needs
once and writes its result once. The longest takes what its kernels move one by one.

A segment's time is shared out among its operators: by their launches where it waits for these, else by
their time on the device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from attrs import frozen

from modelmeter.cost.arithmetic import Number, less, maximum
from modelmeter.cost.categories import COLLECTIVES
from modelmeter.cost.compiled import Function, compile_for_numbers
from modelmeter.cost.efficiency import CASES, ESTIMATE, HIGH, Efficiency
from modelmeter.cost.expression import key
from modelmeter.cost.network import Link, network_seconds
from modelmeter.cost.records import AMOUNTS, Amounts
from modelmeter.schema.cost import Amount, OperatorCosts
from modelmeter.schema.device import Device
from modelmeter.schema.timing import COMPUTE, LAUNCH, MEMORY, NETWORK, OperatorTime, Seconds


@frozen
class Machine:
    """A device's figures as numbers or keys: peaks in FLOPs and bytes per second, overhead in seconds."""

    peaks: Mapping[str, Number]
    """Dense matrix peak by dtype."""
    vector: Number
    bandwidth: Number
    overhead: Number
    eager: Number
    """1 where the host issues every launch, 0 where they are captured in a graph."""
    link: Link | None = None
    """The connection to other devices, where there are any that share the layers."""

    @classmethod
    def of(cls, device: Device, dtypes: Iterable[str], execution: str, *, communicates: bool = False) -> Machine:
        """A device that is to multiply in some dtypes, and perhaps to send something to others.

        Raises ScenarioError for a dtype that the device lacks, and for one whose connection is not known.
        """
        return cls(
            {dtype: device.peak_flops_per_s(dtype) for dtype in dtypes},
            device.vector_flops_per_s,
            device.memory_bytes_per_s,
            device.launch_overhead_s,
            int(execution == "eager"),
            Link.of(device) if communicates else None,
        )

    @classmethod
    def of_keys(cls, dtypes: Iterable[str], *, communicates: bool = False) -> Machine:
        """A machine whose figures are keys: ``peak.`` with a dtype, and the others by their names."""
        peaks = {dtype: key(f"peak.{dtype}") for dtype in dtypes}
        link = Link(key("link"), key("latency")) if communicates else None
        return cls(peaks, key("vector"), key("bandwidth"), key("overhead"), key("eager"), link)

    def named(self) -> dict[str, Number]:
        """The figures by the names of their keys."""
        peaks = {f"peak.{dtype}": peak for dtype, peak in self.peaks.items()}
        figures = {"vector": self.vector, "bandwidth": self.bandwidth, "overhead": self.overhead, "eager": self.eager}
        if self.link is not None:
            figures |= {"link": self.link.bandwidth, "latency": self.link.latency}
        return {**peaks, **figures}

    def launch_seconds(self, efficiency: Efficiency, case: str) -> Number:
        """What the host takes to issue one launch."""
        return self.overhead * efficiency.launch.share(case) * self.eager


def device_seconds(
    amounts: Amounts, dtype: str, machine: Machine, efficiency: Efficiency, case: str
) -> tuple[Number, Number]:
    """Seconds that computing takes, and that moving bytes takes; ``dtype`` is that of products, if there are any."""
    if case == HIGH:
        moved, kernels = amounts.eager_bytes_read + amounts.eager_bytes_written, amounts.launches
    else:
        moved, kernels = amounts.bytes_read + amounts.bytes_written, amounts.calls
    calls = amounts.calls
    # Shares first: what does not depend on the machine is worked out once for all of them.
    memory = moved / efficiency.factor("memory", moved, kernels, case) / machine.bandwidth
    vector = amounts.vector_flops / efficiency.factor("vector", amounts.vector_flops, calls, case) / machine.vector
    if not dtype:
        return vector, memory
    matrix = amounts.matrix_flops / efficiency.factor("matrix", amounts.matrix_flops, calls, case)
    return maximum(matrix / machine.peaks[dtype], vector), memory


def collective_seconds(amounts: Amounts | Amount, machine: Machine, case: str) -> Number:
    """Seconds that a collective takes to bring everything where it belongs."""
    assert machine.link is not None
    return network_seconds(amounts, machine.link, case)


def operator_times(entries: Sequence[OperatorCosts], machine: Machine, efficiency: Efficiency) -> list[OperatorTime]:
    """The time of every operator, in the same order; those of a segment add up to the segment's time."""
    multiplying, plain = _compiled(efficiency, True), _compiled(efficiency, False)
    peaks, vector, bandwidth = machine.peaks, machine.vector, machine.bandwidth
    on_device: list[list[float]] = []
    segments: dict[tuple[str, str], list[int]] = {}
    for number, (_, _, stage, dtype, amount, segment) in enumerate(entries):
        segments.setdefault((stage, segment), []).append(number)
        on_device.append(
            multiplying(*amount, peaks[dtype], vector, bandwidth) if dtype else plain(*amount, 0, vector, bandwidth)
        )
    times: list[OperatorTime] = [None] * len(entries)  # type: ignore[list-item]
    networked = {number for number, entry in enumerate(entries) if entry.operator in COLLECTIVES}
    for number in networked:
        on_device[number] = _with_network(entries[number].amount, on_device[number], machine)
    for numbers in segments.values():
        launches = [entries[number].amount.launches for number in numbers]
        issued = sum(launches)
        # Seconds that a launch stands for, where the segment waits for launches.
        each = [0.0] * len(CASES)
        for place, case in enumerate(CASES):
            overhead = machine.launch_seconds(efficiency, case)
            if sum([on_device[number][place] for number in numbers]) < issued * overhead:
                each[place] = overhead
        for number, own in zip(numbers, launches, strict=True):
            low, estimate, high, memory_bound = on_device[number]
            seconds = Seconds(
                own * each[0] if each[0] else low,
                own * each[1] if each[1] else estimate,
                own * each[2] if each[2] else high,
            )
            on_time = NETWORK if number in networked else MEMORY if memory_bound else COMPUTE
            bound = LAUNCH if each[1] else on_time
            times[number] = OperatorTime(entries[number], seconds, bound)
    return times


def _with_network(amount: Amount, seconds: Sequence[float], machine: Machine) -> list[float]:
    """The same seconds of an operator where sending is slower than what it does on the device."""
    sent = [collective_seconds(amount, machine, case) for case in CASES]
    return [*map(max, seconds[: len(CASES)], sent), seconds[-1]]


@lru_cache(maxsize=64)
def _compiled(efficiency: Efficiency, multiplies: bool) -> Function:
    """Seconds on the device in the three cases, and whether moving bytes bounds the estimate.

    A function of an operator's amounts, the matrix peak, the vector peak and the bandwidth.
    """
    machine = Machine({"any": key("peak")}, key("vector"), key("bandwidth"), 0, 0)
    amounts = Amounts(*map(key, AMOUNTS))
    pairs = [device_seconds(amounts, "any" if multiplies else "", machine, efficiency, case) for case in CASES]
    roots = [*(maximum(*pair) for pair in pairs), less(*pairs[CASES.index(ESTIMATE)])]
    return compile_for_numbers(roots, [*AMOUNTS, "peak", "vector", "bandwidth"])[0]
