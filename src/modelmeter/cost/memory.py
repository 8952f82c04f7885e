"""Whether a run fits a device: weights, live tensors with the cache, and what the runtime takes."""

from __future__ import annotations

from modelmeter.errors import ScenarioError
from modelmeter.schema.analysis import MemoryNeed
from modelmeter.schema.cost import CostTree
from modelmeter.schema.device import Device
from modelmeter.units import format_bytes

RUNTIME_RESERVE_BYTES = 1_000_000_000
"""An assumption: a CUDA context, its libraries' workspaces and what the allocator cannot use together take
some hundred megabytes to over a gigabyte, by version and device. CPUs take none."""


def memory_need(tree: CostTree, device: Device) -> MemoryNeed:
    """What a run takes on a device."""
    return MemoryNeed(tree.weight_bytes, tree.peak.bytes, reserve_bytes(device), device.memory_bytes)


def reserve_bytes(device: Device) -> int:
    """What the runtime itself takes."""
    return 0 if device.kind == "cpu" else RUNTIME_RESERVE_BYTES


def check_fits(tree: CostTree, device: Device) -> MemoryNeed:
    """What a run takes on a device; ScenarioError where it does not fit, with how much is missing."""
    need = memory_need(tree, device)
    if need.fits:
        return need
    remedy = (
        "give --device one with more memory, or --dtype a smaller one"
        if need.weight_bytes + need.reserve_bytes > need.capacity_bytes
        else "use fewer requests, pages or decode steps, --head last, or a device with more memory"
    )
    raise ScenarioError(
        f"the run does not fit {device.id}: it takes {format_bytes(need.total_bytes)} "
        f"({format_bytes(need.weight_bytes)} weights, {format_bytes(need.live_bytes)} live tensors, "
        f"{format_bytes(need.reserve_bytes)} for the runtime) of {format_bytes(need.capacity_bytes)}: "
        f"{format_bytes(-need.headroom_bytes)} are missing",
        remedy=remedy,
    )
