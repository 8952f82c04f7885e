"""Formulas of a report's modules as LaTeX: in letters, and with the report's own numbers."""

from __future__ import annotations

from typing import Any

from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.render.report.bindings import Binding, binding_of
from modelmeter.render.report.formula_part import filled_rows, formula_of
from modelmeter.render.report.formulas import AMOUNTS, layers
from modelmeter.render.report.ocr_shapes import shapes_of
from modelmeter.render.report.reading import ReportView


def module_formulas(report: AnalyticModelReport) -> dict[str, dict[str, Any]]:
    """Module id to its formula; modules that are the sum of their parts have none."""
    view = ReportView(report)
    shapes = shapes_of(view)
    if shapes is None:
        return {}
    bindings = {module: binding_of(view, shapes, module) for module in view.depths}
    return {module: _written(binding) for module, binding in bindings.items() if binding is not None}


def _written(binding: Binding) -> dict[str, Any]:
    layer = layers()[binding.layer]
    letters, numbers = [], []
    for variant in dict.fromkeys(binding.variants):
        for amount, title in AMOUNTS.items():
            formula = formula_of(binding, variant, amount)
            if formula.tree:
                letters.append([", ".join(part for part in (title, variant) if part), formula.with_symbols()])
    for amount in AMOUNTS:
        numbers += [row.replace("&=", "=") for row in filled_rows(binding, amount)]
    return {
        "letters": letters,
        "numbers": numbers,
        "source": layer.source.replace("``", ""),
        "symbols": [[letter, meaning] for letter, meaning in layer.symbols.items()],
        "text": layer.text.replace("``", ""),
    }
