"""What a scenario costs on a device: by stage, module and category, with the memory that it takes."""

from __future__ import annotations

from typing import Any

from modelmeter.cost.categories import by_category
from modelmeter.cost.efficiency import DEFAULT, Efficiency
from modelmeter.cost.memory import RUNTIME_RESERVE_BYTES, check_fits
from modelmeter.errors import UsageError
from modelmeter.families.protocol import Family
from modelmeter.schema.analysis import Analysis
from modelmeter.schema.device import Device
from modelmeter.schema.scenario import Scenario
from modelmeter.units import format_bytes

DEFAULT_DECODE_STEPS = 255
"""Steps of a plan, where none are given: 256 tokens with the prefill's."""


def analyze(
    family: Family, config: Any, scenario: Scenario, device: Device, efficiency: Efficiency = DEFAULT
) -> Analysis:
    """Work out a scenario on a device, from the closed forms alone.

    Raises ScenarioError for what the model cannot have, a dtype that the device lacks, and a run that
    does not fit its memory.
    """
    if scenario.devices > 1:
        raise UsageError(f"--devices {scenario.devices}: a plan is for one device so far", remedy="leave --devices out")
    timed = family.costs(config, scenario).timed(device, scenario.execution, efficiency)
    memory = check_fits(timed.tree, device)
    categories = by_category(timed)
    return Analysis(scenario, device, timed, memory, categories, _assumptions(scenario, device, efficiency))


def _assumptions(scenario: Scenario, device: Device, efficiency: Efficiency) -> tuple[str, ...]:
    found = [
        f"Efficiencies: {efficiency.origin}.",
        "Bytes: the estimate counts an operator's inputs, weights and results once; the longest time counts "
        "what each kernel moves.",
        f"Routing: {scenario.routing}; its experts' sizes are taken as equal.",
    ]
    if scenario.execution == "eager":
        overhead = device.launch_overhead_s * 1e6
        found.append(
            f"Launches: {overhead:g} µs each, issued while the device works; the host waits in every layer "
            "with experts."
        )
    else:
        found.append("Launches: captured in a graph, they cost nothing.")
    if scenario.decode_steps:
        found.append("Decode: every step takes as long as the mean step.")
    if device.kind != "cpu":
        found.append(f"Memory: {format_bytes(RUNTIME_RESERVE_BYTES)} for the runtime itself.")
    return tuple(found)
