"""The published configuration at full size: every grid, mode and batch, and the pages of document benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from attrs import evolve

from command import command
from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.render.terminal import MAX_WIDTH
from modelmeter.schema.scenario import RESOLUTION_MODES, Page, Scenario
from modelmeter.tracing import trace_family
from modelmeter.verify import Case, compare, crop_grids, page_battery, verify_cases
from small import SMALL_SIZES, small_config

pytestmark = pytest.mark.slow


def assert_equal(cases: Iterable[Case]) -> None:
    """Nothing differs, not even by what would be excused."""
    cases = list(cases)
    results = list(verify_cases(FAMILY, FAMILY.default_configuration(), cases))
    assert [result.name for result in results] == [case.name for case in cases]
    for result in results:
        assert result.differences == (), result.name
        assert result.closed == result.traced and result.compared > 900


def test_every_grid_with_64_steps() -> None:
    assert_equal(
        Case(f"{width}x{height}", Scenario(pages=(Page(grid=(width, height)),), decode_steps=64))
        for width, height in crop_grids()
    )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_every_mode(attention: str) -> None:
    page = (Page(1240, 1754),)
    assert_equal(
        Case(mode, Scenario(pages=page, mode=mode, attention=attention, decode_steps=1)) for mode in RESOLUTION_MODES
    )


def test_batches_and_numbers_of_steps() -> None:
    scenario = Scenario(pages=(Page(grid=(2, 1)),))
    assert_equal(Case(f"batch {batch}", evolve(scenario, batch=batch, decode_steps=64)) for batch in (1, 2, 3, 4))
    assert_equal(Case(f"{steps} steps", evolve(scenario, decode_steps=steps)) for steps in (1, 2, 3, 17, 63))


def test_other_ways_to_run_it() -> None:
    scenario = Scenario(pages=(Page(grid=(3, 3)), Page(grid=(1, 1))), decode_steps=5)
    ways: dict[str, dict[str, str]] = {
        "worst": {"routing": "worst", "head": "last"},
        "zipf": {"routing": "zipf:1.1", "kv_dtype": "float8_e4m3fn"},
        "random": {"routing": "random:1", "dtype": "float16"},
        "float32": {"dtype": "float32", "vision_attention": "eager"},
    }
    assert_equal(Case(name, evolve(scenario, **values)) for name, values in ways.items())


def test_the_standard_pages() -> None:
    outcome = command("verify", "deepseek-ocr", "--pages", "standard")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) <= MAX_WIDTH
    assert len(page_battery()) >= 35
    for page in page_battery():
        assert str(page.name).split(",")[0] in outcome.out
    assert lines[-1].startswith("Closed form and trace agree on all ")


def test_every_grid_by_the_command() -> None:
    outcome = command("verify", "deepseek-ocr", "--grid", "all", "--stage", "vision", "--json")
    cases = json.loads(outcome.out)["cases"]
    assert outcome.code == 0 and len(cases) == 23
    for case in cases:
        assert case["ok"] is True and case["differences"] == []
        assert case["trace"] == case["closed_form"]


def test_64_steps_that_are_all_traced() -> None:
    scenario = Scenario(pages=(Page(grid=(2, 1)),), decode_steps=64, batch=2, **SMALL_SIZES)
    document = trace_family(FAMILY, scenario, small_config())
    comparison = compare(FAMILY.costs(small_config(), scenario).tree(), document)
    assert len(document.forwards) == 65
    assert comparison.differences == ()
