"""Writes the formulas of all operators and layers: ``python docs/make_formulas.py [folder]``.

The closed forms themselves are called with SymPy symbols, so what is written is what is computed. Makes
``formulas.json``, which documents of a report read, and ``formulas.md``, which explains them. Without a
folder both go where the repository keeps them.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sympy
from sympy.printing.latex import LatexPrinter

sys.path.insert(0, str(Path(__file__).parent))

from formula_table import LAYERS, OPERATORS, Caller, Entry

from modelmeter.cost.records import Amounts
from modelmeter.cost.tape import Tape

ROOT = Path(__file__).parent.parent
JSON = ROOT / "src" / "modelmeter" / "render" / "report" / "formulas.json"
PAGE = ROOT / "docs" / "formulas.md"

WIDTHS = {
    "a": "bytes of an element of activations",
    "w": "bytes of an element of weights",
    "c": "bytes of an element of the cache",
}

AMOUNTS = {
    "matrix_flops": "matrix FLOPs",
    "vector_flops": "vector FLOPs",
    "bytes": "ideal bytes",
    "launches": "launches",
    "launches_float32": "launches in float32",
    "wire_bytes": "bytes sent",
    "wire_steps": "steps",
}


class Below(sympy.Function):  # type: ignore[misc]
    """1 where the first is less than the second, else 0."""

    is_integer = True
    is_nonnegative = True


class Same(sympy.Function):  # type: ignore[misc]
    """1 where both are equal, else 0."""

    is_integer = True
    is_nonnegative = True


class Several(sympy.Symbol):  # type: ignore[misc]
    """A number of heads, tokens, experts, …: code that asks whether there is more than one is told yes."""

    def __gt__(self, other: object) -> bool:
        return True

    def __index__(self) -> int:
        # Experts are numbered for their names alone.
        return 2


class Width(sympy.Symbol):  # type: ignore[misc]
    """Bytes of an element; what asks for the larger of it and 4 concerns no ideal bytes and is given 4."""

    def __gt__(self, other: object) -> bool:
        return False

    def __lt__(self, other: object) -> bool:
        return True


class Printer(LatexPrinter):  # type: ignore[misc]
    """LaTeX in which a condition is written in brackets, as Iverson does."""

    def _print_Below(self, expression: Any) -> str:  # noqa: N802
        return rf"\left[{self._print(expression.args[0])} < {self._print(expression.args[1])}\right]"

    def _print_Same(self, expression: Any) -> str:  # noqa: N802
        return rf"\left[{self._print(expression.args[0])} = {self._print(expression.args[1])}\right]"


def symbol(letter: str) -> Any:
    """A positive whole number; channels are even, since rotary angles turn them in pairs."""
    if letter in WIDTHS:
        return Width(letter, integer=True, positive=True)
    even = {"even": True} if letter in "CS" else {}
    return Several(letter, integer=True, positive=True, **even)


def widths(dtype: str) -> Any:
    """Data types whose widths are symbols, and which are converted as this one is."""
    return SimpleNamespace(
        weights=dtype,
        activations=dtype,
        kv=dtype,
        weight_bytes=symbol("w"),
        activation_bytes=symbol("a"),
        kv_bytes=symbol("a"),
        widens=dtype != "float32",
    )


def amounts_of(call: Caller, letters: dict[str, str]) -> dict[str, Any]:
    """All costs that a call puts on a tape, as expressions."""
    narrow, wide = (costs_of(call, letters, dtype) for dtype in ("bfloat16", "float32"))
    found = {
        "matrix_flops": tidy(narrow.matrix_flops),
        "vector_flops": tidy(narrow.vector_flops),
        "bytes": by_width(narrow.bytes_read + narrow.bytes_written),
        "launches": tidy(narrow.launches),
        "launches_float32": tidy(wide.launches),
    }
    if found["launches_float32"] == found["launches"]:
        del found["launches_float32"]
    if narrow.wire_bytes:
        found |= {"wire_bytes": by_width(narrow.wire_bytes), "wire_steps": tidy(narrow.wire_steps)}
    return found


def costs_of(call: Caller, letters: dict[str, str], dtype: str) -> Amounts:
    """The sum of all costs of a call."""
    tape = Tape()
    with tape.module("Layer", "Layer"):
        call(tape, SimpleNamespace(**{letter: symbol(letter) for letter in letters}), widths(dtype))
    whole = Amounts()
    for amounts in tape.record.costs.values():
        whole.add(amounts)
    return whole


def bracketed(expression: Any) -> Any:
    """The same with conditions as functions, which expand and collect like numbers."""
    expression = sympy.sympify(expression)
    found = {}
    for piece in expression.atoms(sympy.Piecewise):
        (one, condition), (nought, _) = piece.args
        assert (one, nought) == (1, 0), piece
        if isinstance(condition, sympy.Eq):
            found[piece] = Same(*condition.args)
        else:
            assert isinstance(condition, (sympy.StrictLessThan, sympy.StrictGreaterThan)), condition
            found[piece] = Below(condition.lts, condition.gts)
    return expression.subs(found)


def tidy(expression: Any) -> Any:
    """Expanded, with what all terms share in front."""
    return sympy.factor_terms(sympy.expand(bracketed(expression)))


def by_width(expression: Any) -> Any:
    """Bytes by the type of their elements: weights, activations, the rest."""
    expression = sympy.expand(bracketed(expression))
    parts = sympy.collect(expression, [symbol("w"), symbol("a")], evaluate=False)
    return sum((factor * sympy.factor_terms(rest) for factor, rest in parts.items()), sympy.Integer(0))


def latex(expression: Any) -> str:
    """LaTeX with ``${T}`` for the symbol T: what reads it puts letters or numbers there."""
    names = {one: f"${{{one.name}}}" for one in expression.free_symbols}
    return str(Printer({"mul_symbol": "dot", "symbol_names": names}).doprint(expression))


NODES = {sympy.Add: "+", sympy.Mul: "*", sympy.Pow: "^", Below: "<", Same: "="}


def tree(expression: Any) -> Any:
    """The expression for programs: a number, a symbol's name, or an operation with its arguments."""
    if expression.is_Integer:
        return int(expression)
    if expression.is_Rational:
        return ["/", int(expression.p), int(expression.q)]
    if expression.is_Symbol:
        return expression.name
    return (
        [NODES[expression.func], *(tree(part) for part in sorted(expression.args, key=sympy.default_sort_key))]
        if (expression.is_Add or expression.is_Mul)
        else [NODES[expression.func], *(tree(part) for part in expression.args)]
    )


def words(entry: Entry) -> tuple[str, str]:
    """What the function says of itself, and its source."""
    text = inspect.getdoc(entry.function) or ""
    place = re.search(r"Sources?: ", text)
    body, source = (text[: place.start()], text[place.end() :]) if place else (text, "")
    return entry.text or " ".join(body.split()), " ".join(source.split())


def written(entry: Entry) -> dict[str, Any]:
    """An entry as data."""
    text, source = words(entry)
    variants: dict[str, Any] = {}
    letters = dict(entry.symbols)
    used: set[str] = set()
    for name, call in entry.variants.items():
        variants[name] = {}
        for amount, expression in amounts_of(call, letters).items():
            variants[name][amount] = {"latex": latex(expression), "tree": tree(expression)}
            used |= {one.name for one in expression.free_symbols}
    return {
        "function": f"{entry.function.__module__}.{entry.function.__name__}",
        "source": source,
        "symbols": {letter: meaning for letter, meaning in {**letters, **WIDTHS}.items() if letter in used},
        "text": text,
        "variants": variants,
    }


def page(formulas: dict[str, dict[str, Any]]) -> str:
    """The formulas as Markdown."""
    lines = [
        "# Formulas",
        "",
        "Every operator and layer of the closed forms. This page is written by `python docs/make_formulas.py`, which",
        "calls the closed forms with symbols: what stands here is what is computed. How the numbers are meant is in",
        "[numbers.md](numbers.md), how layers are put together in [costs.md](costs.md).",
        "",
        "A multiply-add is 2 FLOPs. Bytes are ideal ones: an operator reads its inputs and weights once and writes its",
        "results once. Launches are those of a 16-bit type, and besides those of float32 where they differ, since",
        "nothing is converted then. $[x < y]$ is 1 where it holds, else 0.",
        "Letters are explained at each formula; everywhere "
        + ", ".join(f"${letter}$ is {meaning}" for letter, meaning in WIDTHS.items() if letter != "c")
        + ".",
    ]
    for title, table in (("Operators", OPERATORS), ("Layers", LAYERS)):
        lines += ["", f"## {title}"]
        for name in table:
            lines += ["", *section(name, formulas[name])]
    return "\n".join(lines) + "\n"


def section(name: str, formula: dict[str, Any]) -> list[str]:
    """One formula."""
    text = formula["text"].replace("``", "`")
    # Outside of code, stars would set words slanted.
    text = "".join(
        part if place % 2 else part.replace("*", r"\*").replace("_", r"\_").replace("[", r"\[")
        for place, part in enumerate(re.split(r"(`[^`]*`)", text))
    )
    lines = [f"### `{name}`", "", text]
    if formula["source"]:
        lines += ["", f"Source: {formula['source'].replace('``', '`')}"]
    shown = [f"${letter}$ {meaning}" for letter, meaning in formula["symbols"].items() if letter not in WIDTHS]
    lines += ["", f"Symbols: {', '.join(shown)}."]
    for variant, amounts in formula["variants"].items():
        if variant:
            lines += ["", f"{variant[0].upper()}{variant[1:]}:"]
        rows = [
            rf"\text{{{title}}} &= " + re.sub(r"[$][{](.)[}]", r"\1", amounts[amount]["latex"])
            for amount, title in AMOUNTS.items()
            if amount in amounts and amounts[amount]["tree"] != 0
        ]
        lines += ["", "$$", r"\begin{aligned}", " \\\\\n".join(rows), r"\end{aligned}", "$$"]
    return lines


def main(folder: Path | None) -> None:
    """Write both files."""
    formulas = {name: written(entry) for name, entry in {**OPERATORS, **LAYERS}.items()}
    text = json.dumps(formulas, indent=1, sort_keys=True, ensure_ascii=False)
    # A tree on one line each: it is read by programs alone.
    text = re.sub(
        r'"tree": \[(.*?)\]\n +\}', lambda m: f'"tree": [{" ".join(m[1].split())}]\n    }}', text, flags=re.DOTALL
    )
    json_path, page_path = (folder / JSON.name, folder / PAGE.name) if folder else (JSON, PAGE)
    json_path.write_text(text + "\n", encoding="utf-8")
    page_path.write_text(page(formulas), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
