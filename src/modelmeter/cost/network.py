"""Time of a collective: a start, then steps that each take a link's latency, and bytes over the link's rate.

Source: Hockney's model of a message, as Thakur, Rabenseifner and Gropp take it for collectives, in Optimization of
Collective Communication Operations in MPICH (2005); the start beside it as in NCCL's own tuning table
(``src/graph/tuning.cc`` of github.com/NVIDIA/nccl).
"""

from __future__ import annotations

from attrs import frozen

from modelmeter.cost.arithmetic import Number, less, where
from modelmeter.cost.efficiency import CASES, Step
from modelmeter.cost.records import Amounts
from modelmeter.errors import ScenarioError
from modelmeter.schema.cost import Amount
from modelmeter.schema.device import Device

START_S = 3.6e-6
"""What a collective takes on the device before its first step: NCCL's figure for a ring with its protocol LL."""

ASSUMED_LATENCY_S = 1e-6
"""A step of a ring where a device file does not say: NCCL's figure for PCIe."""

LATENCY = Step(0, 0.5, 1.0, 3.0)
"""Factors on start and steps. Kernels of serving engines for small messages are faster than NCCL's rings; its
protocol Simple, which large messages take, is slower: 8.4 microseconds to start."""

BANDWIDTH = (
    Step(0, 0.60, 0.25, 0.10),
    Step(1_000_000, 0.85, 0.50, 0.25),
    Step(10_000_000, 0.95, 0.75, 0.50),
)
"""Shares of a link's rate by bytes sent in one collective: an assumption, not fitted to anything. NCCL's protocol for
small messages sends half of its bytes as flags and takes a quarter of the rate (the same tuning table)."""


@frozen
class Link:
    """A device's connection to others as numbers or keys: bytes per second in one direction, seconds of a step."""

    bandwidth: Number
    latency: Number

    @classmethod
    def of(cls, device: Device) -> Link:
        """A device's. Raises ScenarioError for a device without a figure."""
        bandwidth = device.interconnect_bytes_per_s
        if bandwidth is None:
            raise ScenarioError(
                f"device {device.id} ({device.name}) has no figure for its connection to others",
                remedy="use one device, another kind, or give interconnect_bytes_per_s in a file with --device-file",
            )
        latency = device.link_latency_s
        return cls(bandwidth, ASSUMED_LATENCY_S if latency is None else latency)


def network_seconds(amounts: Amounts | Amount, link: Link, case: str) -> Number:
    """Seconds of all calls of a collective."""
    share: Number = BANDWIDTH[0].share(case)
    for step in BANDWIDTH[1:]:
        share = where(less(amounts.wire_bytes, amounts.calls * step.size), share, step.share(case))
    waiting = amounts.wire_steps * link.latency + amounts.calls * START_S
    return amounts.wire_bytes / share / link.bandwidth + waiting * LATENCY.share(case)


def describe_link(link: Link) -> str:
    """What is assumed of collectives, in a sentence."""
    low, _, high = (BANDWIDTH[-1].share(case) for case in CASES)
    return (
        f"Collectives: rings at {link.bandwidth / 1e9:g} GB/s in one direction, of which {BANDWIDTH[0].estimate:.0%} "
        f"(small) to {BANDWIDTH[-1].estimate:.0%} (large) are reached, {high:.0%} to {low:.0%} of large ones in the "
        f"longest and the shortest case; {START_S * 1e6:g} µs to start and {link.latency * 1e6:g} µs a step."
    )
