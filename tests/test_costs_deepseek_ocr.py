"""The closed forms of DeepSeek-OCR: equal to the trace, to themselves taken otherwise, and in proportion.

Configurations and scenarios are random and small; everything that ``verify`` compares is compared.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from modelmeter.families.deepseek_ocr import DeepSeekOCRConfig
from modelmeter.families.deepseek_ocr.costs import cost_tree, written_out
from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.schema.cost import CostTree
from modelmeter.schema.scenario import Scenario
from modelmeter.tracing import trace_family
from modelmeter.verify import compare
from modelmeter.verify.result import closed_totals, traced_totals
from random_ocr import configurations, scenarios

FEW = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
MANY = settings(FEW, max_examples=400, derandomize=False)


def two_ways(config: DeepSeekOCRConfig, scenario: Scenario) -> tuple[CostTree, CostTree]:
    """The compiled closed form, and the same formulas called with plain integers."""
    resolved = FAMILY.resolve(config, scenario)
    layouts = FAMILY.layouts(config, resolved)
    return cost_tree(config, resolved, layouts), written_out(config, resolved, layouts)


def assert_closed_form_is_the_trace(config: DeepSeekOCRConfig, scenario: Scenario) -> None:
    tree, plain = two_ways(config, scenario)
    assert tree == plain
    document = trace_family(FAMILY, scenario, config)
    assert document.unknown_operators == {}
    comparison = compare(tree, document)
    assert comparison.differences == ()
    assert comparison.compared > 10 * len(tree.nodes)
    assert document.peak is not None and tree.peak.bytes == document.peak.bytes
    assert closed_totals(tree) == traced_totals(document, scenario.decode_steps)
    assert tree.kv_cache_bytes == sum(held[-1] for held in document.kv_cache.values())


@FEW
@given(config=configurations(), scenario=scenarios())
def test_closed_form_is_the_trace(config: DeepSeekOCRConfig, scenario: Scenario) -> None:
    assert_closed_form_is_the_trace(config, scenario)


@pytest.mark.slow
@MANY
@given(config=configurations(), scenario=scenarios())
def test_closed_form_is_the_trace_of_many(config: DeepSeekOCRConfig, scenario: Scenario) -> None:
    assert_closed_form_is_the_trace(config, scenario)
