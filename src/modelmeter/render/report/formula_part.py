"""The part of a page with the formula: in letters, with this report's numbers, and against the report's own figure."""

from __future__ import annotations

from fractions import Fraction

from modelmeter.render.report.bindings import Binding, binding_of
from modelmeter.render.report.formulas import AMOUNTS, Formula, latex_number, layers
from modelmeter.render.report.ocr_shapes import Shapes
from modelmeter.render.report.page import Page, mono, name
from modelmeter.render.report.reading import ReportView
from modelmeter.units import format_count


def formula_part(page: Page, view: ReportView, shapes: Shapes | None, module: str) -> None:
    """Write it, where the module has a formula; else that it is the sum of its parts."""
    page.heading("Formula")
    binding = binding_of(view, shapes, module) if shapes is not None else None
    if binding is None:
        _sum_of_parts(page, view, module)
        return
    layer = layers()[binding.layer]
    page.paragraph(_with_code(layer.text))
    if layer.source:
        page.paragraph(f"Source: {_with_code(layer.source)}")
    shown = [f"${letter}$ {name(meaning)}" for letter, meaning in layer.symbols.items()]
    page.paragraph(f"Symbols: {', '.join(shown)}.")
    for variant in dict.fromkeys(binding.variants):
        amounts = {amount: formula_of(binding, variant, amount) for amount in AMOUNTS}
        if variant:
            page.paragraph(f"{name(variant[0].upper() + variant[1:])}:")
        rows = [rf"\text{{{AMOUNTS[amount]}}} &= {one.with_symbols()}" for amount, one in amounts.items() if one.tree]
        page.formula("\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}")
    page.paragraph("With the numbers of this report, for one call and then for all:")
    for amount in AMOUNTS:
        rows = filled_rows(binding, amount)
        if rows:
            page.formula("\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}")
    for line in disagreements(view, binding, module):
        page.paragraph(line)


def _with_code(words: str) -> str:
    """Words of a docstring, whose names of code stand in double backticks."""
    parts = words.split("``")
    return "".join(mono(part) if place % 2 else name(part, 2000) for place, part in enumerate(parts))


def filled_rows(binding: Binding, amount: str) -> list[str]:
    """A formula with numbers, a row for each part of the run that it takes place in."""
    rows = []
    for part, variant in zip(binding.parts, binding.variants, strict=True):
        formula = formula_of(binding, variant, amount)
        if not part.calls or not formula.tree:
            continue
        value = formula.value(part.values)
        numbers = formula.with_numbers(part.values)
        # A constant is its own value.
        middle = "" if numbers == latex_number(value) else f"{numbers} = "
        rows.append(
            rf"\text{{{AMOUNTS[amount]}, {part.label}}} &= {middle}{latex_number(value)}"
            rf",\quad \times {latex_number(part.calls)} = {latex_number(value * part.calls)}"
        )
    return rows


def formula_of(binding: Binding, variant: str, amount: str) -> Formula:
    """The formula of an amount; launches are others in float32, where nothing is converted."""
    amounts = layers()[binding.layer].variants[variant]
    return amounts.get(f"{amount}_float32", amounts[amount]) if binding.is_wide else amounts[amount]


def totals(binding: Binding, amount: str) -> dict[str, Fraction]:
    """What the formula gives for all calls, by stage."""
    found: dict[str, Fraction] = {}
    for part, variant in zip(binding.parts, binding.variants, strict=True):
        value = formula_of(binding, variant, amount).value(part.values) * part.calls if part.calls else Fraction(0)
        found[part.stage] = found.get(part.stage, Fraction(0)) + value
    return found


def disagreements(view: ReportView, binding: Binding, module: str) -> list[str]:
    """Where the formula gives another number than the report: what differs, so that no reader is misled."""
    found = []
    for amount, title in AMOUNTS.items():
        for stage, value in totals(binding, amount).items():
            exact = view.exact.get((module, stage))
            if exact is not None and getattr(exact, amount) != value:
                found.append(
                    f"The report has {format_count(getattr(exact, amount))} {title} in {stage}, the formula "
                    f"{format_count(float(value))}: it leaves out what depends on data types, layouts or sizes of 1."
                )
    return found


def _sum_of_parts(page: Page, view: ReportView, module: str) -> None:
    node, metrics = view.nodes[module], view.metrics.get(module)
    if metrics is None:
        page.paragraph("There is none.")
        return
    below = [child for child in node.children if child in view.metrics]
    if not below:
        page.paragraph("The sum of its operators, below.")
        return
    terms = [view.metrics[child].total_flops_tflops * 1e3 for child in below]
    own = max(0.0, metrics.total_flops_tflops * 1e3 - sum(terms))
    page.paragraph("The sum of its parts, in the order of the table of parts below, and of its own operators:")
    numbers = " + ".join(_giga(term) for term in terms)
    page.formula(
        rf"\text{{GFLOPs}} = {numbers} + \underbrace{{{_giga(own)}}}_{{\text{{own}}}} "
        rf"= {_giga(metrics.total_flops_tflops * 1e3)}"
    )


def _giga(number: float) -> str:
    return f"{number:,.3f}".replace(",", "{,}")
