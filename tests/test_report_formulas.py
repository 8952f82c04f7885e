"""Formulas in documents: those kept are what SymPy gives today, and with a report's numbers they give its figures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmeter.cost.catalogue import find_device
from modelmeter.cost.operators.registry import OPERATORS
from modelmeter.families.deepseek_ocr import DeepSeekOCRConfig
from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.planning.report import build_report
from modelmeter.render.report import report_documents
from modelmeter.render.report.bindings import binding_of
from modelmeter.render.report.formula_part import disagreements
from modelmeter.render.report.formulas import FILE, layers
from modelmeter.render.report.ocr_shapes import shapes_of
from modelmeter.render.report.reading import ReportView
from modelmeter.schema.scenario import Page, Scenario
from small import SMALL_SIZES, small_config

ROOT = Path(__file__).parent.parent
CONFIG = FAMILY.default_configuration()


def view_of(config: DeepSeekOCRConfig = CONFIG, **keys: Any) -> ReportView:
    scenario = Scenario(**{"pages": (Page(grid=(2, 1)),), "decode_steps": 20, **keys})
    return ReportView(build_report(FAMILY, config, scenario, find_device(scenario.device)))


def check(view: ReportView) -> int:
    """Every formula with its numbers gives the report's exact figures; how many there are."""
    shapes = shapes_of(view)
    assert shapes is not None
    found = 0
    for module in view.nodes:
        binding = binding_of(view, shapes, module)
        if binding is not None:
            assert disagreements(view, binding, module) == [], module
            found += 1
    return found


def test_the_kept_formulas_are_those_of_the_closed_forms(tmp_path: Path) -> None:
    pytest.importorskip("sympy")
    script = ROOT / "docs" / "make_formulas.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True)
    for name, kept in (("formulas.json", FILE), ("formulas.md", ROOT / "docs" / "formulas.md")):
        assert (tmp_path / name).read_text(encoding="utf-8") == kept.read_text(encoding="utf-8"), f"run {script}"


def test_every_operator_has_a_formula() -> None:
    assert set(OPERATORS) <= set(layers())
    for layer in layers().values():
        for amounts in layer.variants.values():
            for formula in amounts.values():
                letters = set(re.findall(r"\$\{(\w+)\}", formula.latex))
                assert letters <= set(layer.symbols), layer.name
                assert formula.latex.count("{") == formula.latex.count("}")


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"pages": (Page(grid=(1, 1)),), "decode_steps": 0},
        {"pages": tuple(Page(grid=grid) for grid in ((3, 2), (1, 1), (3, 2))), "batch": 3, "execution": "graph"},
        {"attention": "eager", "batch": 2, "head": "last"},
        {"dtype": "float32"},
        {"kv_dtype": "float32", "dtype": "float32", "attention": "eager"},
        {"routing": "worst", "mode": "base", "pages": (Page(grid=(1, 1)),)},
    ],
)
def test_formulas_give_the_reports_own_figures(keys: dict[str, Any]) -> None:
    assert check(view_of(**keys)) == 54


@settings(max_examples=6, deadline=None)
@given(
    st.lists(st.sampled_from([(1, 1), (2, 1), (3, 3)]), min_size=1, max_size=3),
    st.integers(1, 4),
    st.integers(0, 9),
    st.sampled_from(["sdpa", "eager"]),
    st.sampled_from(["balanced", "worst", "zipf:1.3", "random:5"]),
    st.sampled_from(["all", "last"]),
)
def test_formulas_of_a_small_model(grids, batch: int, steps: int, attention: str, routing: str, head: str) -> None:
    keys = {"batch": batch, "decode_steps": steps, "attention": attention, "routing": routing, "head": head}
    # Looking for the largest batch takes long where routing is drawn, and no formula depends on it.
    with patch("modelmeter.planning.capacity.largest_batch", return_value=1):
        view = view_of(small_config(), pages=tuple(Page(grid=g) for g in grids), **keys, **SMALL_SIZES)
    assert check(view) == 54


def test_a_formula_that_does_not_hold_says_so() -> None:
    found = view_of(kv_dtype="float8_e4m3fn")
    text = report_documents(found.report)["layers/layers.0-11.self_attn.md"]
    assert "The report has" in text and "the formula" in text
    assert "The report has" not in report_documents(view_of().report)["layers/layers.0-11.self_attn.md"]


def test_numbers_stand_in_the_formulas() -> None:
    text = report_documents(view_of().report)["layers/layers.1-11.mlp.shared_experts.md"]
    assert r"6 \cdot D \cdot F \cdot T" in text
    assert r"6 \cdot 1{,}280 \cdot 1{,}792 \cdot 493 = 6{,}784{,}942{,}080,\quad \times 11" in text


def test_a_report_without_its_scenario_has_pages_without_numbers() -> None:
    bare = evolve(view_of().report, scenario=None)
    assert shapes_of(ReportView(bare)) is None
    text = report_documents(bare)["layers/lm_head.md"]
    assert "The sum of its operators" in text
    odd = evolve(view_of().report, scenario={"family": "deepseek-ocr", "configuration": {"sam": 3}})
    assert shapes_of(ReportView(odd)) is None
    assert report_documents(odd)
