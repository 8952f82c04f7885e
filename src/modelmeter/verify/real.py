"""A small configuration run for real, counted by torch's own FLOP counter, beside the closed form and a trace."""

from __future__ import annotations

from typing import Any

from attrs import asdict, frozen

from modelmeter.families.protocol import Family
from modelmeter.schema.scenario import Page, Scenario
from modelmeter.verify.result import Totals, closed_totals, traced_totals


@frozen
class RealResult:
    """Matrix FLOPs of all forwards of a small configuration, by three counts."""

    scenario: str
    counted: int
    """By ``torch.utils.flop_counter.FlopCounterMode`` on a run with random weights."""
    closed: Totals
    traced: Totals

    @property
    def ok(self) -> bool:
        """Whether all three agree."""
        sums = {side.prefill_flops + side.decode_flops for side in (self.closed, self.traced)}
        return sums == {self.counted}

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "ok": self.ok}


def verify_real(family: Family) -> RealResult:
    """Run the family's small configuration with random weights under torch's counter.

    The counter is given a formula for the CPU's fused attention, which its registry lacks and would count
    as nothing.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from modelmeter.tracing import trace_family

    config = family.small_configuration()
    scenario = Scenario(pages=(Page(grid=(2, 1)),), dtype="float32", decode_steps=2)
    module = family.build(config, scenario)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    counter = FlopCounterMode(display=False, custom_mapping={attention: _attention_flops})
    forwards = family.forwards(module, config, scenario)
    with torch.no_grad(), counter:
        call = next(forwards)
        while True:
            output = module(*call.args, **call.kwargs)
            try:
                call = forwards.send(output)
            except StopIteration:
                break
    document = trace_family(family, scenario, config)
    tree = family.costs(config, scenario).tree()
    name = f"small configuration, grid 2x1, {scenario.decode_steps} decode steps, {scenario.dtype}"
    counted = counter.get_total_flops()
    return RealResult(name, counted, closed_totals(tree), traced_totals(document, scenario.decode_steps))


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """2 * batch * heads * queries * keys * (head size + value size)."""
    batch, heads, queries, size = query
    flops: int = 2 * batch * heads * queries * key[2] * (size + value[3])
    return flops
