"""The inverse questions: the largest batch within limits, and the cheapest device that meets them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import evolve, frozen

from modelmeter.errors import ScenarioError
from modelmeter.planning.analysis import analyze
from modelmeter.planning.capacity import MOST_REQUESTS, largest_batch, price_per_1000_pages
from modelmeter.planning.what_if import Question
from modelmeter.schema.analysis import Analysis
from modelmeter.schema.device import Device


@frozen
class Limits:
    """What a run must not exceed, in seconds; None where there is no limit."""

    time_to_first_token_s: float | None = None
    time_per_output_token_s: float | None = None

    def met(self, analysis: Analysis) -> bool:
        """Whether the estimates stay within the limits."""
        first, each = self.time_to_first_token_s, self.time_per_output_token_s
        if first is not None and analysis.time_to_first_token.estimate > first:
            return False
        per_token = analysis.time_per_output_token
        return each is None or per_token is None or per_token.estimate <= each


def best_batch(question: Question, limits: Limits) -> int:
    """The largest batch that fits the device and meets the limits; 0 if not even one request does.

    Times grow with the batch, so the largest that meets them is found by halving.
    """
    most = largest_batch(question.family, question.config, question.scenario, question.device)
    if not most or not limits.met(_worked_out(question, 1)):
        return 0
    meeting, beyond = 1, min(most, MOST_REQUESTS) + 1
    while beyond - meeting > 1:
        middle = (meeting + beyond) // 2
        if limits.met(_worked_out(question, middle)):
            meeting = middle
        else:
            beyond = middle
    return meeting


@frozen
class Offer:
    """A device that meets the limits at some batch, and what a thousand pages cost on it."""

    device: Device
    batch: int
    price_per_1000_pages_usd: float


def offers(question: Question, limits: Limits, devices: Iterable[Device]) -> list[Offer]:
    """Devices with a price that meet the limits, the cheapest first, each at the batch where it is cheapest."""
    return sorted(
        _offers(question, limits, devices), key=lambda offer: (offer.price_per_1000_pages_usd, offer.device.id)
    )


def _offers(question: Question, limits: Limits, devices: Iterable[Device]) -> Iterator[Offer]:
    for device in devices:
        if device.hourly_price_usd is None:
            continue
        there = evolve(question, device=device, scenario=evolve(question.scenario, device=device.id))
        try:
            batch = best_batch(there, limits)
        except ScenarioError:
            continue  # the device lacks the dtype, or a figure for its connection to others
        if batch:
            analysis = _worked_out(there, batch)
            price = price_per_1000_pages(analysis, device.hourly_price_usd)
            yield Offer(device, batch, price * analysis.timed.total.seconds.estimate)


def _worked_out(question: Question, batch: int) -> Analysis:
    scenario = evolve(question.scenario, batch=batch)
    return analyze(question.family, question.config, scenario, question.device, question.efficiency)
