"""What a run means for service: latency, rates, prices, memory, and the largest batch that fits."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from modelmeter.contracts.report import Capacity, Interval
from modelmeter.cost.memory import memory_need
from modelmeter.errors import ScenarioError
from modelmeter.families.protocol import Family
from modelmeter.planning.metrics import interval
from modelmeter.schema.analysis import FIRST_TOKEN_STAGES, Analysis
from modelmeter.schema.device import Device
from modelmeter.schema.scenario import Scenario
from modelmeter.schema.timing import Seconds

SECONDS_PER_HOUR, PAGES_PER_PRICE = 3600, 1000

MOST_REQUESTS = 1 << 20
"""Larger batches are not looked for."""


REGULAR_ROUTING = ("balanced", "worst")
"""Policies whose loads need no table."""


def capacity_of(family: Family, config: Any, analysis: Analysis) -> Capacity:
    """What a run that has a closed form means for service, with the largest batch that fits."""
    return rates_of(analysis, largest_batch(family, config, analysis.scenario, analysis.device))


def rates_of(analysis: Analysis, largest_batch: int | None) -> Capacity:
    """Rates are of the whole run: a request batch from its pages to its last token.

    A run without pages has no rate and no price of pages. Rates and price count all devices, memory and the largest
    batch one replica's.
    """
    scenario, device = analysis.scenario, analysis.device
    total = analysis.timed.total.seconds
    stages = analysis.timed.stages
    slowest = max(stages, key=lambda stage: stages[stage].seconds.estimate)
    first = max(FIRST_TOKEN_STAGES, key=lambda stage: stages[stage].seconds.estimate)
    per_token = analysis.time_per_output_token
    requests = scenario.batch * scenario.replicas
    pages, tokens = requests * scenario.num_pages, requests * (scenario.decode_steps + 1)
    price = None
    if pages and device.hourly_price_usd is not None:
        each = price_per_1000_pages(analysis, device.hourly_price_usd)
        price = Interval(low=total.low * each, estimate=total.estimate * each, high=total.high * each, bound_by=slowest)
    return Capacity(
        time_to_first_token_s=interval(analysis.time_to_first_token, first),
        time_per_output_token_s=None if per_token is None else interval(per_token, "decode"),
        total_time_s=interval(total, slowest),
        tokens_per_s=_rate(tokens, total, slowest),
        pages_per_s=_rate(pages, total, slowest) if pages else None,
        pages_per_s_and_device=_rate(pages / scenario.devices, total, slowest) if pages else None,
        price_per_1000_pages_usd=price,
        memory_bytes=analysis.memory.total_bytes,
        memory_capacity_bytes=analysis.memory.capacity_bytes,
        headroom_bytes=analysis.memory.headroom_bytes,
        largest_batch=largest_batch,
        devices=scenario.devices if scenario.devices > 1 else None,
        replicas=scenario.replicas if scenario.devices > 1 else None,
    )


def price_per_1000_pages(analysis: Analysis, hourly_price_usd: float) -> float:
    """Dollars for 1,000 pages for each second that the run takes, on all devices."""
    scenario = analysis.scenario
    pages = scenario.batch * scenario.replicas * scenario.num_pages
    return scenario.devices * hourly_price_usd / SECONDS_PER_HOUR * PAGES_PER_PRICE / pages


def _rate(number: float, seconds: Seconds, bound_by: str) -> Interval:
    low, estimate, high = (number / time for time in (seconds.high, seconds.estimate, seconds.low))
    return Interval(low=low, estimate=estimate, high=high, bound_by=bound_by)


def largest_batch(family: Family, config: Any, scenario: Scenario, device: Device) -> int:
    """The most requests that fit the device's memory together; 0 if not even one does.

    Routing that is drawn is taken as balanced here: counting the tables of ever larger batches takes long, and
    the peak hardly depends on it.
    """
    if scenario.routing not in REGULAR_ROUTING:
        scenario = evolve(scenario, routing=REGULAR_ROUTING[0])

    def fits(batch: int) -> bool:
        try:
            tree = family.costs(config, evolve(scenario, batch=batch)).tree()
        except ScenarioError:
            return False
        return memory_need(tree, device).fits

    if not fits(1):
        return 0
    fitting, beyond = 1, 2
    while beyond <= MOST_REQUESTS and fits(beyond):
        fitting, beyond = beyond, beyond * 2
    while beyond - fitting > 1:
        middle = (fitting + beyond) // 2
        if fits(middle):
            fitting = middle
        else:
            beyond = middle
    return fitting
