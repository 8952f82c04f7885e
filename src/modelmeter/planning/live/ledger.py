"""What a run's modules cost and hold, from a closed form over keys or from a traced run in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from modelmeter.cost.arithmetic import Number, largest, maximum
from modelmeter.cost.closed_form import ClosedForm
from modelmeter.cost.records import Amounts, Place
from modelmeter.cost.roofline import Machine
from modelmeter.planning.expressions import amounts_by_place
from modelmeter.schema.cost import CostTree


@frozen
class Holding:
    """A module's own parameters and weights, its caller, and what it holds and runs with."""

    caller: str
    parameters: Number
    weight_bytes: Number
    cache: Mapping[str, Number]
    """Bytes held after a forward: ``prefill``, and the last ``decode``."""
    peak: Number
    """The most live bytes at any moment of its own forward."""


@frozen
class Ledger:
    """Costs by place, calls by module and run, and what modules hold, callers before their callees."""

    modules: Mapping[str, Holding]
    costs: Mapping[Place, Amounts]
    calls: Mapping[tuple[str, str], Number]
    dtypes: Sequence[str]
    """Data types that products are taken in."""
    communicates: bool = False
    """Whether devices share the layers."""
    positions: Number = 0
    """What a sequence takes together with its decode steps; of ``max_positions`` at most."""
    max_positions: int | None = None

    @classmethod
    def of_form(cls, form: ClosedForm) -> Ledger:
        """Of a closed form: numbers are expressions over its keys."""
        tape = form.tape
        peaks: dict[str, Number] = {}
        for (run, name), moments in tape.moments.items():
            peaks[name] = maximum(peaks.get(name, 0), largest(moments) * tape.present.get(run, 1))
        modules = {
            name: Holding(
                module.caller, module.parameter_count, module.weight_bytes, form.plan.held(name), peaks.get(name, 0)
            )
            for name, module in tape.modules.items()
        }
        record = tape.record
        return cls(
            modules, record.costs, record.calls, form.dtypes, form.communicates, form.positions, form.max_positions
        )

    @classmethod
    def of_tree(cls, tree: CostTree) -> Ledger:
        """Of a run that was traced."""
        modules = {
            node.id: Holding(
                node.caller,
                node.parameter_count,
                node.weight_bytes,
                node.kv_cache_bytes,
                max(node.own_peak_bytes.values(), default=0),
            )
            for node in tree.nodes
        }
        costs = amounts_by_place(tree)
        calls = {(node.id, run): number for node in tree.nodes for run, number in node.calls.items()}
        return cls(modules, costs, calls, sorted({place.dtype for place in costs if place.dtype}))

    def machine(self) -> Machine:
        """The device, by keys."""
        return Machine.of_keys(self.dtypes, communicates=self.communicates)
