"""Times for a cost tree that is there already, from closed forms or from a trace."""

from __future__ import annotations

from modelmeter.cost.efficiency import Efficiency
from modelmeter.cost.roofline import Machine, operator_times
from modelmeter.schema.cost import CostTree
from modelmeter.schema.device import Device
from modelmeter.schema.timing import OperatorTime, TimedTree


def time_tree(tree: CostTree, device: Device, execution: str, efficiency: Efficiency) -> TimedTree:
    """A cost tree with times on a device.

    Raises ScenarioError for a dtype of its products that the device lacks.
    """
    entries = [entry for node in tree.nodes for entry in node.operators]
    machine = Machine.of(device, sorted({entry.dtype for entry in entries if entry.dtype}), execution)
    return timed_on(tree, machine, device.id, execution, efficiency)


def timed_on(tree: CostTree, machine: Machine, device: str, execution: str, efficiency: Efficiency) -> TimedTree:
    """The same on the figures of a device, which has this id."""
    seconds = operator_times([entry for node in tree.nodes for entry in node.operators], machine, efficiency)
    times: dict[str, list[OperatorTime]] = {}
    start = 0
    for node in tree.nodes:
        if node.operators:
            times[node.id] = seconds[start : start + len(node.operators)]
            start += len(node.operators)
    return TimedTree(tree, times, device, execution, efficiency.origin)
