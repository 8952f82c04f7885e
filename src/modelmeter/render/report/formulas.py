"""Formulas of layers: written once by ``docs/make_formulas.py`` with SymPy, here read and filled with numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from attrs import frozen

FILE = Path(__file__).parent / "formulas.json"

AMOUNTS = {
    "matrix_flops": "matrix FLOPs",
    "vector_flops": "vector FLOPs",
    "bytes": "ideal bytes",
    "launches": "launches",
}
"""Amounts that a formula gives, in words."""

_SYMBOL = re.compile(r"\$\{(\w+)\}")


@frozen
class Formula:
    """One amount of a layer: LaTeX with places for its symbols, and the same for working it out."""

    latex: str
    tree: Any

    def with_symbols(self) -> str:
        """The formula in letters."""
        return _SYMBOL.sub(lambda match: match[1], self.latex)

    def with_numbers(self, values: Mapping[str, Fraction]) -> str:
        """The formula with numbers in place of letters."""
        return _SYMBOL.sub(lambda match: latex_number(values[match[1]]), self.latex)

    def value(self, values: Mapping[str, Fraction]) -> Fraction:
        """The formula worked out, exactly."""
        return _value(self.tree, values)


@frozen
class Layer:
    """What is known of an operator or a layer by name."""

    name: str
    text: str
    source: str
    symbols: Mapping[str, str]
    variants: Mapping[str, Mapping[str, Formula]]


@cache
def layers() -> dict[str, Layer]:
    """Every operator and layer that there is a formula of."""
    data = json.loads(FILE.read_text(encoding="utf-8"))
    return {
        name: Layer(
            name,
            entry["text"],
            entry["source"],
            entry["symbols"],
            {
                variant: {amount: Formula(one["latex"], one["tree"]) for amount, one in amounts.items()}
                for variant, amounts in entry["variants"].items()
            },
        )
        for name, entry in data.items()
    }


def latex_number(number: Fraction) -> str:
    """A number in LaTeX, in groups of three digits; two decimals where it is not whole."""
    return (f"{number.numerator:,}" if number.denominator == 1 else f"{float(number):,.2f}").replace(",", "{,}")


def _value(tree: Any, values: Mapping[str, Fraction]) -> Fraction:
    if isinstance(tree, int):
        return Fraction(tree)
    if isinstance(tree, str):
        return values[tree]
    operation, *arguments = tree
    numbers = [_value(argument, values) for argument in arguments]
    if operation == "+":
        return sum(numbers, Fraction(0))
    if operation == "*":
        product = Fraction(1)
        for number in numbers:
            product *= number
        return product
    first, second = numbers
    if operation == "/":
        return first / second
    if operation == "<":
        return Fraction(first < second)
    if operation == "=":
        return Fraction(first == second)
    return first ** int(second)
