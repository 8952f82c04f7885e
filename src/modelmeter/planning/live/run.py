"""The whole run as expressions: latency, rates, price, memory, positions. Names begin with ``run/``.

The same arithmetic as ``planning.capacity`` and ``cost.memory``, over keys; a test compares them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from modelmeter.cost.arithmetic import Number, less, maximum, total, where
from modelmeter.cost.efficiency import CASES, ESTIMATE
from modelmeter.cost.expression import key
from modelmeter.planning.capacity import PAGES_PER_PRICE, SECONDS_PER_HOUR
from modelmeter.planning.live.ledger import Ledger
from modelmeter.planning.live.modules import ALL, place_of_largest
from modelmeter.schema.analysis import FIRST_TOKEN_STAGES
from modelmeter.schema.callgraph import STAGES
from modelmeter.schema.cost import DECODE
from modelmeter.schema.scenario import Scenario

PRICE_KEY, CAPACITY_KEY, RESERVE_KEY = "hourly_price_usd", "memory_bytes", "reserve_bytes"
DEVICE_KEYS = (PRICE_KEY, CAPACITY_KEY, RESERVE_KEY)
"""Keys of a device besides the rates of its roofline."""

_OTHER_CASE = {"low": "high", "estimate": "estimate", "high": "low"}
"""The shortest time gives the highest rate."""


def run_roots(
    ledger: Ledger, scenario: Scenario, sized: Collection[str], modules: Mapping[str, Number]
) -> dict[str, Number]:
    """Figures of the run, from those of its modules: ``0/<stage>/<measure>`` is the whole model's.

    ``sized`` names the scenario's sizes that are keys; the others are the scenario's own. Rates and price are of
    all devices, memory is that of one.
    """

    def seconds(stage: str, case: str) -> Number:
        return modules.get(f"0/{stage}/{case}", 0)

    def size(name: str) -> Number:
        return key(name) if name in sized else getattr(scenario, name)

    steps, requests = size("decode_steps"), size("batch") * scenario.replicas
    pages = requests * _pages_of_request(sized, scenario)
    hourly = scenario.devices * key(PRICE_KEY)
    found: dict[str, Number] = {}
    for case in CASES:
        whole = seconds(ALL, case)
        found[f"run/total/{case}"] = whole
        found[f"run/first_token/{case}"] = total(seconds(stage, case) for stage in FIRST_TOKEN_STAGES)
        found[f"run/output_token/{case}"] = where(less(0, steps), seconds(DECODE, case) / maximum(steps, 1), 0)
        rate = _OTHER_CASE[case]
        found[f"run/tokens_per_s/{rate}"] = requests * (steps + 1) / whole
        if isinstance(pages, int) and not pages:
            continue
        found[f"run/pages_per_s/{rate}"] = pages / whole
        found[f"run/price/{case}"] = whole * (hourly / SECONDS_PER_HOUR * PAGES_PER_PRICE / pages)
    found["run/slowest"] = place_of_largest([seconds(stage, ESTIMATE) for stage in STAGES])
    found["run/slowest_first"] = place_of_largest(
        [seconds(stage, ESTIMATE) if stage in FIRST_TOKEN_STAGES else 0 for stage in STAGES]
    )
    found["run/pages"] = pages
    return found | _memory(modules) | _positions(ledger, steps)


def _pages_of_request(sized: Collection[str], scenario: Scenario) -> Number:
    counts = [key(name) for name in sized if name.startswith("page_count.")]
    return total(counts) if counts else scenario.num_pages


def _memory(modules: Mapping[str, Number]) -> dict[str, Number]:
    """Weights, live tensors with the cache, the runtime's reserve; what is left of the device is the headroom."""
    weights, live = modules[f"0/{ALL}/weights"], modules[f"0/{ALL}/peak"]
    need = weights + live + key(RESERVE_KEY)
    return {
        "run/headroom_bytes": key(CAPACITY_KEY) - need,
        "run/live_bytes": live,
        "run/memory_bytes": need,
        "run/weights_and_reserve_bytes": weights + key(RESERVE_KEY),
    }


def _positions(ledger: Ledger, steps: Number) -> dict[str, Number]:
    if ledger.max_positions is None:
        return {}
    prompt = ledger.positions - steps
    return {
        "run/max_positions": ledger.max_positions,
        "run/positions_left": ledger.max_positions - ledger.positions,
        "run/prompt_positions": prompt,
    }
