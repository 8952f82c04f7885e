"""What is written down during one module call, kept apart so that it can be added again elsewhere.

A recorder always writes into a journal: that of the trace, or that of the innermost call that is being
recorded. When such a call ends, its journal is added to the one around it. A replay adds it once more,
under the names of other modules and with other bytes live: the same code makes both documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from attrs import define, evolve, field, frozen

from modelmeter.schema.callgraph import Event, MemoryTimeline
from modelmeter.tracing.accounts import CostList, ForwardAccount, ModuleAccount, add_costs, add_flops
from modelmeter.tracing.memory_series import MemorySeries, SampleTape
from modelmeter.tracing.signatures import SignatureKey
from modelmeter.tracing.storages import Birth

AssumptionKey = tuple[str, str, str, tuple[int, ...], str]
"""Module, operator, rule, shape and dtype of a value that was supplied."""

Names = Mapping[str, str]
"""Ids of the modules that were recorded to those of the modules that stand in their place."""


@frozen
class Moment:
    """When most storage was live: the clock, the forward, and the operation of a module after which it was.

    ``born`` are storages that lived then within a replayed call and have no entry of their own; ``gone`` are
    serial numbers of others that had died within it.
    """

    clock: int = 0
    forward: str = ""
    module: str = ""
    operator: str = ""
    born: tuple[Birth, ...] = ()
    gone: frozenset[int] = frozenset()


@define(eq=False)
class Journal:
    """Running sums and lists of a trace, or of one call in it."""

    series: MemorySeries | SampleTape = field(factory=MemorySeries)
    unknown: Counter[str] = field(factory=Counter)
    assumptions: Counter[AssumptionKey] = field(factory=Counter)
    module_stages: dict[str, str] = field(factory=dict)
    events: list[Event] = field(factory=list)
    peak_bytes: int = 0
    peak_moment: Moment = field(factory=Moment)

    @property
    def is_of_call(self) -> bool:
        """Whether this is the journal of one call, not of the trace."""
        return isinstance(self.series, SampleTape)

    def timeline(self) -> MemoryTimeline | None:
        """Live bytes over the trace; None where nothing ran."""
        return self.series.as_timeline() if isinstance(self.series, MemorySeries) else None

    def own_peak(self, born: tuple[Birth, ...]) -> None:
        """These storages of the call's own were live at its peak."""
        self.peak_moment = evolve(self.peak_moment, born=born, gone=frozenset())

    @classmethod
    def of_call(cls) -> Journal:
        """An empty journal of one call: any live bytes are more than it has seen."""
        return cls(series=SampleTape(), peak_bytes=-1)


def add_journal(
    into: Journal,
    call: Journal,
    names: Names | None = None,
    shift: int = 0,
    clock: int = 0,
    forward: str = "",
    gone: frozenset[int] = frozenset(),
) -> None:
    """Add a call's journal to the one around it, all but events.

    ``names`` None: the call has just run. Else it is replayed ``shift`` bytes higher at this clock and in
    this forward, and these storages had died when most was live in it.
    """
    into.unknown.update(call.unknown)
    tape = call.series
    assert isinstance(tape, SampleTape)
    if names is None:
        into.assumptions.update(call.assumptions)
        into.series.extend(tape.samples)
    else:
        for (module, *rest), count in call.assumptions.items():
            into.assumptions[names[module], *rest] += count  # type: ignore[index]
        into.series.extend([(live + shift, names[module], op, stage) for live, module, op, stage in tape.samples])
    for module, stage in call.module_stages.items():
        into.module_stages.setdefault(module if names is None else names[module], stage)
    if call.peak_bytes >= 0 and call.peak_bytes + shift > into.peak_bytes:
        into.peak_bytes = call.peak_bytes + shift
        moment = call.peak_moment
        if names is not None:
            born = renamed(moment.born, names)
            moment = Moment(clock, forward, names[moment.module], moment.operator, born, gone)
        into.peak_moment = moment


def renamed(births: Sequence[Birth], names: Names) -> tuple[Birth, ...]:
    """The same births in the modules that stand in the recorded ones' place."""
    return tuple(evolve(birth, module=names.get(birth.module, birth.module)) for birth in births)


def add_forward(into: ForwardAccount, call: ForwardAccount, names: Names | None, shift: int) -> None:
    """Add what one call did to the account of the forward, or call, around it."""
    for name, account in call.modules.items():
        _add_account(into.modules[name if names is None else names[name]], account, shift)
    if names is None:
        into.edges.update(call.edges)
        into.data_edges.update(call.data_edges)
    else:
        _add_edges(into.edges, call.edges, names)
        _add_edges(into.data_edges, call.data_edges, names)
    for stage, (costs, by_dtype) in call.stages.items():
        known_costs, known_flops = into.stage(stage)
        add_costs(known_costs, costs)
        add_flops(known_flops, by_dtype)
        peak = call.stage_peaks[stage]
        if peak >= 0 and peak + shift > into.stage_peaks[stage]:
            into.stage_peaks[stage] = peak + shift


def _add_edges(into: Counter[str], edges: Counter[str], names: Names) -> None:
    for edge, count in edges.items():
        caller, _, callee = edge.partition("->")
        into[f"{names[caller]}->{names[callee]}"] += count


def _add_account(into: ModuleAccount, account: ModuleAccount, shift: int) -> None:
    if account.calls:
        into.calls += account.calls
        into.result_bytes += account.result_bytes
        into.peak = max(into.peak, account.peak + shift)
        add_costs(into.total, account.total)
        add_flops(into.total_by_dtype, account.total_by_dtype)
        _add_counts(into.inputs, account.inputs)
        _add_counts(into.outputs, account.outputs)
    _add_costs(into.operators, account.operators)
    add_flops(into.own_by_dtype, account.own_by_dtype)
    for operator, flops in account.product_dtypes.items():
        add_flops(into.product_dtypes.setdefault(operator, {}), flops)


def _add_counts(into: Counter[SignatureKey], counts: Counter[SignatureKey]) -> None:
    for key, count in counts.items():
        into[key] += count


def _add_costs(into: dict[str, CostList], costs: dict[str, CostList]) -> None:
    for operator, spent in costs.items():
        known = into.get(operator)
        if known is None:
            into[operator] = spent.copy()
        else:
            add_costs(known, spent)
