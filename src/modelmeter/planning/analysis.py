"""What a scenario costs on a device: by stage, module and category, with the memory that it takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelmeter.cost.categories import by_category
from modelmeter.cost.efficiency import DEFAULT, Efficiency
from modelmeter.cost.memory import RUNTIME_RESERVE_BYTES, check_fits
from modelmeter.cost.network import Link, describe_link
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

    Raises ScenarioError for what the model cannot have, a dtype or connection that the device lacks, and a run
    that does not fit its memory.
    """
    timed = family.costs(config, scenario).timed(device, scenario.execution, efficiency)
    memory = check_fits(timed.tree, device)
    categories = by_category(timed)
    return Analysis(scenario, device, timed, memory, categories, _assumptions(scenario, device, efficiency))


def _assumptions(scenario: Scenario, device: Device, efficiency: Efficiency) -> tuple[str, ...]:
    first, *others = common_assumptions(scenario, device, efficiency)
    return (
        first,
        "Bytes: the estimate counts an operator's inputs, weights and results once; the longest time counts "
        "what each kernel moves.",
        f"Routing: {scenario.routing}; its experts' sizes are taken as equal.",
        *_on_several(scenario, device),
        *others,
    )


def _on_several(scenario: Scenario, device: Device) -> Iterator[str]:
    """What is assumed of devices that work together."""
    if scenario.devices == 1:
        return
    tensor, experts = scenario.tensor_parallel, scenario.expert_parallel
    yield (
        f"Devices: {scenario.devices} in {scenario.replicas} "
        f"{'replica' if scenario.replicas == 1 else 'replicas'}; FLOPs, bytes, memory and times are those of one "
        "device, the busiest; rates and prices count all."
    )
    if tensor > 1:
        yield (
            f"Tensor parallelism: {tensor} devices share heads, inner widths and vocabulary of the decoder, and of "
            "CLIP where they divide; SAM, projector, norms and router are on every device."
        )
    if experts > 1:
        rest = "sent to them" if tensor == 1 else "taken out of all tokens, which every device has"
        yield f"Expert parallelism: {experts} devices hold the routed experts, expert e on device e mod {experts}; " + (
            f"their tokens are {rest}; of every layer's devices the one with the most tokens decides."
        )
    if experts > 1 and tensor == 1:
        yield "Everything else is on every device, for its own part of the batch."
    if max(tensor, experts) > 1:
        yield describe_link(Link.of(device))


def common_assumptions(
    scenario: Scenario, device: Device, efficiency: Efficiency, waits: str = "in every layer with experts"
) -> tuple[str, ...]:
    """What every estimate assumes, from closed forms or from a trace; the efficiencies first.

    ``waits`` says where the host waits for the device.
    """
    found = [f"Efficiencies: {efficiency.origin}."]
    if scenario.execution == "eager":
        overhead = device.launch_overhead_s * 1e6
        found.append(f"Launches: {overhead:g} µs each, issued while the device works; the host waits {waits}.")
    else:
        found.append("Launches: captured in a graph, they cost nothing.")
    if scenario.decode_steps:
        found.append("Decode: every step takes as long as the mean step.")
    if device.kind != "cpu":
        found.append(f"Memory: {format_bytes(RUNTIME_RESERVE_BYTES)} for the runtime itself.")
    return tuple(found)
