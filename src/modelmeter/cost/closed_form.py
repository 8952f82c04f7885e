"""A family's closed form, written once with keys instead of sizes, compiled, and evaluated in no time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.categories import COLLECTIVES
from modelmeter.cost.compiled import Function, compile_for_numbers
from modelmeter.cost.efficiency import DEFAULT, Efficiency
from modelmeter.cost.roofline import Machine
from modelmeter.cost.tape import Tape
from modelmeter.cost.timed import timed_on
from modelmeter.cost.totals import Totals, totals
from modelmeter.cost.tree import TreePlan
from modelmeter.schema.cost import CostTree
from modelmeter.schema.device import Device
from modelmeter.schema.timing import TimedTree


class ClosedForm:
    """The closed form of one structure: a configuration with attention kinds, dtypes and kinds of pages fixed.

    ``tape`` was written with keys of ``cost.expression``; ``kv_cache_bytes`` gives what a node holds
    after a forward. Keys that are sizes of a scenario have the scenario's own names for them.
    ``positions`` is what a sequence takes together with its decode steps, of ``max_positions`` at most.
    """

    def __init__(
        self,
        family: str,
        tape: Tape,
        kv_cache_bytes: Mapping[str, Mapping[str, Number]],
        *,
        positions: Number = 0,
        max_positions: int | None = None,
    ) -> None:
        self.tape = tape
        self.positions = positions
        self.max_positions = max_positions
        self.plan = TreePlan(family, tape, kv_cache_bytes)
        self.dtypes = sorted({place.dtype for place in self.plan.places if place.dtype})
        """Data types that products are taken in."""
        self.communicates = any(place.operator in COLLECTIVES for place in self.plan.places)
        """Whether devices share the layers."""
        self._function: tuple[Function, list[str]] | None = None
        self._totals: dict[Efficiency, Totals] = {}

    def machine(self, device: Device, execution: str) -> Machine:
        """A device's figures, as far as the form takes any.

        Raises ScenarioError for a dtype or a connection to other devices that the device lacks.
        """
        return Machine.of(device, self.dtypes, execution, communicates=self.communicates)

    def machine_of_keys(self) -> Machine:
        """The same figures as keys."""
        return Machine.of_keys(self.dtypes, communicates=self.communicates)

    def tree(self, values: Mapping[str, Any]) -> CostTree:
        """The cost tree for given sizes."""
        return self.plan.build(self._numbers(values))

    def timed(self, values: Mapping[str, Any], device: Device, execution: str, efficiency: Efficiency) -> TimedTree:
        """The cost tree with times on a device.

        Raises ScenarioError for a dtype that the device lacks.
        """
        machine = self.machine(device, execution)
        return timed_on(self.tree(values), machine, device.id, execution, efficiency)

    def totals(self, efficiency: Efficiency) -> Totals:
        """Totals and times as expressions of the sizes and of a machine's figures; see ``Machine.of_keys``."""
        if efficiency not in self._totals:
            self._totals[efficiency] = totals(self.tape, self.plan.totals(), self.machine_of_keys(), efficiency)
        return self._totals[efficiency]

    def _numbers(self, values: Mapping[str, Any]) -> list[Any]:
        """The plan's numbers; what works them out is compiled once."""
        if self._function is None:
            self._function = compile_for_numbers(self.plan.roots)
        function, keys = self._function
        return function(*[values[name] for name in keys])


@frozen
class Costs:
    """A closed form and the sizes of one scenario."""

    form: ClosedForm
    values: Mapping[str, Any]

    def tree(self) -> CostTree:
        """The cost tree, in exact integers."""
        return self.form.tree(self.values)

    def timed(self, device: Device, execution: str = "eager", efficiency: Efficiency = DEFAULT) -> TimedTree:
        """The cost tree with times on a device.

        Raises ScenarioError for a dtype that the device lacks.
        """
        return self.form.timed(self.values, device, execution, efficiency)
