"""Collectives among devices that share the layers: what one of them sends, and in how many steps.

Axes: n devices. All run as rings, or pairwise for all-to-all: each device sends to one other device at a time, so
its own link is what counts, and a tensor is sent as n equal parts, rounded up to whole bytes.
Sources: Thakur, Rabenseifner and Gropp (2005); Patarasu and Yuan, Bandwidth Optimal All-reduce Algorithms for
Clusters of Workstations (2009).
"""

from __future__ import annotations

from modelmeter.cost.arithmetic import Number, ceil_div
from modelmeter.cost.operators.registry import operator
from modelmeter.cost.tape import Part, Tape, Tensor


@operator
def all_reduce(tape: Tape, x: Tensor, width: int, ranks: Number) -> None:
    """x becomes the sum of all n devices' x, in place: 2 (n - 1) / n of it sent by each in 2 (n - 1) steps.

    A ring that first adds up one part on each device (reduce-scatter), then passes the sums round (all-gather).
    One vector FLOP for every element of the n - 1 parts that a device adds to its own.
    Source: Thakur, Rabenseifner and Gropp, Optimization of Collective Communication Operations in MPICH (2005).
    """
    with tape.operator("all_reduce", ideal_read=x.bytes, ideal_written=x.bytes) as operation:
        tape.overwrite([x], x.bytes)
        operation.amounts.vector_flops = ceil_div(x.bytes // width * (ranks - 1), ranks)
        operation.amounts.wire_bytes = ceil_div(2 * x.bytes * (ranks - 1), ranks)
        operation.amounts.wire_steps = 2 * (ranks - 1)


@operator
def all_gather(tape: Tape, x: Tensor, ranks: Number) -> Tensor:
    """All n devices' x side by side, on each of them: (n - 1) / n of the result sent by each in n - 1 steps.

    Every device passes on all parts but the one that its neighbour began with.
    Source: Thakur, Rabenseifner and Gropp, Optimization of Collective Communication Operations in MPICH (2005).
    """
    with tape.operator("all_gather") as operation:
        whole = tape.kernel([x], x.bytes * ranks, keep=True)
        operation.amounts.wire_bytes = x.bytes * (ranks - 1)
        operation.amounts.wire_steps = ranks - 1
    return whole


@operator
def all_to_all(tape: Tape, x: Tensor, rows: Number, row_bytes: Number, ranks: Number) -> Tensor:
    """Rows go to the one of n devices that needs them: (n - 1) / n of each sent in n - 1 steps.

    One n-th of the rows is where it belongs already. ``rows`` is the larger of what a device sends and receives.
    Source: Thakur, Rabenseifner and Gropp, Optimization of Collective Communication Operations in MPICH (2005).
    """
    with tape.operator("all_to_all") as operation:
        moved = tape.kernel([Part(x, rows * row_bytes)], rows * row_bytes, keep=True)
        operation.amounts.wire_bytes = ceil_div(row_bytes * (ranks - 1), ranks) * rows
        operation.amounts.wire_steps = ranks - 1
    return moved
