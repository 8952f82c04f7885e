"""A cost tree: what every family of equal modules costs, operator by operator.

Both the closed forms and, later, a trace give one. Integers are exact; bytes are those of all calls
together. ``bytes_*`` are ideal ones (an operator reads its inputs and weights once and writes its
results once), ``eager_bytes_*`` those that its kernels move one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import add
from typing import NamedTuple

from attrs import field, frozen

from modelmeter.schema.callgraph import STAGES

PREFILL, DECODE = "prefill", "decode"


class Amount(NamedTuple):
    """Costs that add up."""

    calls: int = 0
    matrix_flops: int = 0
    vector_flops: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    eager_bytes_read: int = 0
    eager_bytes_written: int = 0
    launches: int = 0
    weight_bytes_read: int = 0
    """The part of ``bytes_read`` that is weights: of experts, those that are called."""
    wire_bytes: int = 0
    """What a device sends to others."""
    wire_steps: int = 0
    """Messages that follow one another in the collectives."""

    def plus(self, other: Amount) -> Amount:
        """The sum of both."""
        return Amount(*map(add, self, other))

    @property
    def flops(self) -> int:
        """Matrix and vector FLOPs."""
        return self.matrix_flops + self.vector_flops

    @property
    def ideal_bytes(self) -> int:
        """Bytes if every operator were one kernel."""
        return self.bytes_read + self.bytes_written

    @property
    def eager_bytes(self) -> int:
        """Bytes that the kernels move one by one."""
        return self.eager_bytes_read + self.eager_bytes_written


class OperatorCosts(NamedTuple):
    """One operator of one node in one part of the run. ``dtype`` is its product's, without ``torch.``."""

    operator: str
    run: str
    stage: str
    dtype: str
    amount: Amount
    segment: str = ""
    """What the host issues without waiting for the device; empty for all that is in no such part."""


@frozen
class CostNode:
    """A family of equal modules, by the id that the folded call graph gives it."""

    id: str
    class_name: str
    caller: str
    members: int
    stage: str
    configuration: dict[str, object] = field(factory=dict)
    parameter_count: int = 0
    """Own parameters of all members, called or not."""
    weight_bytes: int = 0
    calls: dict[str, int] = field(factory=dict)
    """Calls of all members, by run."""
    output_bytes: dict[str, int] = field(factory=dict)
    """Bytes of what the calls return, by run."""
    operators: tuple[OperatorCosts, ...] = ()
    """Own operators, without those of callees."""
    kv_cache_bytes: dict[str, int] = field(factory=dict)
    """Bytes of the cache that all members hold after a forward: ``prefill``, and the last ``decode``."""
    own_peak_bytes: dict[str, int] = field(factory=dict)
    """The most live bytes at any moment in its own forward, outside of its callees', by run."""
    series: bool = False
    """Whether the members follow one another, each fed by the one before it; else they run side by side."""

    @property
    def own(self) -> Amount:
        """The sum over the own operators."""
        return total(entry.amount for entry in self.operators)


@frozen
class Peak:
    """The most live bytes, weights not counted: in which part of the run, and which module held them."""

    bytes: int
    run: str
    module: str


@frozen
class CostTree:
    """Nodes in the order in which they are first run; the root is the first."""

    family: str
    nodes: tuple[CostNode, ...]
    peak: Peak

    @property
    def root(self) -> CostNode:
        """The whole model."""
        return self.nodes[0]

    @property
    def parameter_count(self) -> int:
        """Parameters of all modules."""
        return sum(node.parameter_count for node in self.nodes)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(node.weight_bytes for node in self.nodes)

    @property
    def stages(self) -> dict[str, Amount]:
        """Costs of every stage."""
        sums = {stage: Amount() for stage in STAGES}
        for node in self.nodes:
            for entry in node.operators:
                sums[entry.stage] = sums[entry.stage].plus(entry.amount)
        return sums

    @property
    def total(self) -> Amount:
        """Costs of the whole run."""
        return total(self.stages.values())

    @property
    def kv_cache_bytes(self) -> int:
        """Bytes of the cache at the end."""
        held = [node.kv_cache_bytes for node in self.nodes]
        return sum(cache.get(DECODE, cache.get(PREFILL, 0)) for cache in held)

    @property
    def peaks(self) -> dict[str, int]:
        """The most live bytes while each node runs, callees included."""
        found: dict[str, int] = {}
        for node in reversed(self.nodes):
            own = max(node.own_peak_bytes.values(), default=0)
            found[node.id] = max(found.get(node.id, 0), own)
            found[node.caller] = max(found.get(node.caller, 0), found[node.id])
        return {node.id: found[node.id] for node in self.nodes}

    def node(self, identity: str) -> CostNode:
        """A node by its id."""
        return next(node for node in self.nodes if node.id == identity)


def forward_of(run: str) -> str:
    """The forward that a part of the run belongs to: vision and prefill are one forward."""
    return DECODE if run == DECODE else PREFILL


def total(amounts: Iterable[Amount]) -> Amount:
    """The sum of some amounts."""
    result = Amount()
    for amount in amounts:
        result = result.plus(amount)
    return result
