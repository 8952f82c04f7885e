"""The small call graph that the drawn views are tested on, which is also the example of the documentation."""

from __future__ import annotations

from attrs import evolve

import modelmeter
from modelmeter import CallGraph, Page, Scenario
from modelmeter.families.deepseek_ocr import read_configuration
from modelmeter.schema.callgraph import Forward, ModuleCost
from small import SMALL_SIZES, small_source


def example_graph() -> CallGraph:
    """The small DeepSeek-OCR with two layers and two experts, on a page of two crops, one token generated.

    Without what no view shows, so that it stays small: costs by operator and by dtype, and
    signatures by forward but those of experts, which are compared with what the run said.
    """
    scenario = Scenario(pages=(Page(grid=(2, 1)),), decode_steps=1, **SMALL_SIZES)
    source = small_source(num_hidden_layers=2, n_routed_experts=2, num_experts_per_tok=2)
    source["vision_config"]["width"]["clip-l-14-224"]["layers"] = 1
    config = read_configuration(source)
    graph = modelmeter.trace("deepseek-ocr", scenario, config=config)
    return evolve(
        graph,
        operators={},
        assumptions=[],
        module_classes={},
        costs=_costs(graph.costs),
        forwards=[_forward(forward) for forward in graph.forwards],
    )


def _forward(forward: Forward) -> Forward:
    of_experts = {name: found for name, found in forward.input_metadata.items() if ".experts." in name}
    return evolve(forward, input_metadata=of_experts, output_metadata={}, costs=_costs(forward.costs))


def _costs(costs: dict[str, ModuleCost]) -> dict[str, ModuleCost]:
    return {
        name: ModuleCost(
            own=evolve(cost.own, matrix_flops_by_dtype={}), total=evolve(cost.total, matrix_flops_by_dtype={})
        )
        for name, cost in costs.items()
    }
