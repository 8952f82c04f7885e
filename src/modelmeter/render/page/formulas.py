"""Formulas of a report's modules as LaTeX: in letters, with the report's own numbers, and what they come to."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.render.report.bindings import Binding, Filled, binding_of
from modelmeter.render.report.formula_part import formula_of
from modelmeter.render.report.formulas import AMOUNTS, Formula, latex_number, layers
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
    ran = [(part, variant) for part, variant in zip(binding.parts, binding.variants, strict=True) if part.calls]
    formulas = []
    for amount, title in AMOUNTS.items():
        for variant in dict.fromkeys(variant for _, variant in ran):
            formula = formula_of(binding, variant, amount)
            if formula.tree:
                parts = [part for part, its in ran if its == variant]
                formulas.append(
                    {
                        "letters": formula.with_symbols(),
                        "parts": [_filled(formula, part) for part in parts],
                        "title": ", ".join(text for text in (title, variant) if text),
                    }
                )
    return {
        "formulas": formulas,
        "source": layer.source.replace("``", ""),
        "symbols": [
            [
                letter,
                meaning,
                list(dict.fromkeys(_number(part.values[letter]) for part, _ in ran if letter in part.values)),
            ]
            for letter, meaning in layer.symbols.items()
        ],
        "text": layer.text.replace("``", ""),
    }


def _filled(formula: Formula, part: Filled) -> dict[str, str]:
    """The numbers of one call as LaTeX, unless the formula is one; its value, the calls, and both multiplied."""
    value = formula.value(part.values)
    numbers = formula.with_numbers(part.values)
    return {
        "calls": _number(part.calls),
        "label": part.label,
        "numbers": "" if numbers == latex_number(value) else numbers,
        "total": _number(value * part.calls),
        "value": _number(value),
    }


def _number(number: Fraction) -> str:
    return latex_number(number).replace("{,}", ",")
