"""Mutants of formulas: one number or one arithmetic sign changed, in memory, in a fresh set of modules.

Nothing is written to disk, and the modules that other tests have imported stay as they are.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs import frozen

import modelmeter
from modelmeter.cost.expression import Expression

COSTS = "modelmeter.families.deepseek_ocr.costs"
ENTRY = f"{COSTS}.scenario"
FORMULAS = ("modelmeter.cost.operators", "modelmeter.cost.layers", "modelmeter.cost.precision", COSTS)
"""What is imported anew for a mutant of a formula: everything that it may be bound in."""

EVERYTHING = ("modelmeter.cost.", COSTS)
"""What is imported anew for a mutant of what formulas are written with."""

SWAPPED: dict[type[ast.operator], type[ast.operator]] = {ast.Mult: ast.Add, ast.Add: ast.Sub, ast.Sub: ast.Add}
"""A sign to the one it is mistaken for. A quotient is made 1 larger."""

Place = tuple[tuple[str, int | None], ...]


@frozen
class Mutant:
    """One change: ``key`` names file, function and the expression before and after."""

    module: str
    function: str
    key: str
    place: Place
    """Fields and indexes that lead to the changed node."""


def formula_modules() -> list[str]:
    """Modules that hold formulas of DeepSeek-OCR, or numbers that these take."""
    root = Path(modelmeter.__file__).parent
    operators = sorted(path.stem for path in (root / "cost" / "operators").glob("*.py") if path.stem != "__init__")
    return [
        "modelmeter.cost.arithmetic",
        "modelmeter.cost.precision",
        "modelmeter.cost.tape",
        *(f"modelmeter.cost.operators.{name}" for name in operators),
        "modelmeter.cost.layers.decoder",
        "modelmeter.cost.layers.feed_forward",
        "modelmeter.cost.layers.expert_load",
        *(f"{COSTS}.{name}" for name in ("sam", "clip", "model", "scenario", "expert_peak")),
    ]


def mutants_of(module: str) -> list[Mutant]:
    """All mutants of a module, in the order of its source."""
    tree = _parsed(module)
    file = module.removeprefix("modelmeter.").replace(".", "/")
    found: list[Mutant] = []
    seen: Counter[str] = Counter()
    for place, function in _sites(tree):
        shown = _shown(tree, place)
        before, take_back = _text(tree, shown), _put(tree, place, _changed(_at(tree, place)))
        key = f"{file}.py:{function}: {before} -> {_text(tree, shown)}"
        take_back()
        seen[key] += 1
        found.append(Mutant(module, function, key if seen[key] == 1 else f"{key} (no. {seen[key]})", place))
    return found


@contextmanager
def imported(mutant: Mutant | None) -> Iterator[ModuleType]:
    """The closed forms of DeepSeek-OCR with a mutant in them, while the context lasts."""
    anew = FORMULAS if mutant is None or mutant.module.startswith(FORMULAS) else EVERYTHING
    names = [name for name in sys.modules if name.startswith(anew)]
    kept = {name: sys.modules.pop(name) for name in names}
    parents = {name: (sys.modules.get(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in names}
    finder = _Finder(mutant)
    sys.meta_path.insert(0, finder)
    known, Expression._known = Expression._known, {}
    try:
        yield importlib.import_module(ENTRY)
    finally:
        sys.meta_path.remove(finder)
        Expression._known = known
        for name in [name for name in sys.modules if name.startswith(anew)]:
            del sys.modules[name]
        sys.modules.update(kept)
        for name, (parent, attribute) in parents.items():
            if parent is not None:
                setattr(parent, attribute, kept[name])


def functions_run(call: Callable[[], object]) -> set[tuple[str, str]]:
    """(file, qualified name) of every function that a call enters."""
    entered: set[tuple[str, str]] = set()

    def note(frame: Any, event: str, _: object) -> None:
        if event == "call":
            entered.add((frame.f_code.co_filename, frame.f_code.co_qualname))

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return entered


class _Finder:
    """Gives one module another code than its file has."""

    def __init__(self, mutant: Mutant | None) -> None:
        self.mutant = mutant

    def find_spec(self, name: str, path: Any = None, target: object = None) -> Any:
        if self.mutant is None or name != self.mutant.module:
            return None
        spec = importlib.util.spec_from_file_location(name, file_of(name))
        assert spec is not None
        spec.loader = _Loader(self.mutant)
        return spec


class _Loader:
    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def create_module(self, spec: object) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        tree = _parsed(self.mutant.module)
        _put(tree, self.mutant.place, _changed(_at(tree, self.mutant.place)))
        exec(compile(ast.fix_missing_locations(tree), file_of(self.mutant.module), "exec"), module.__dict__)


def file_of(module: str) -> str:
    """The source file of a module, without importing anything."""
    root = Path(modelmeter.__file__).parent.parent
    return str(root / (module.replace(".", "/") + ".py"))


def _parsed(module: str) -> ast.Module:
    return ast.parse(Path(file_of(module)).read_text(encoding="utf-8"))


def _sites(tree: ast.Module) -> Iterator[tuple[Place, str]]:
    """Where numbers and arithmetic signs are, and in which function, by its qualified name."""

    def walk(node: ast.AST, place: Place, function: str, inside: str) -> Iterator[tuple[Place, str]]:
        if _changes(node) or _is_looked_up(tree, place):
            yield place, function or "<module>"
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            function = f"{inside}{node.name}"
            inside = f"{function}." if isinstance(node, ast.ClassDef) else f"{function}.<locals>."
        for name, child, index in _children(node):
            if name not in ("decorator_list", "annotation", "returns"):
                yield from walk(child, (*place, (name, index)), function, inside)

    return walk(tree, (), "", "")


def _children(node: ast.AST) -> Iterable[tuple[str, ast.AST, int | None]]:
    for name, value in ast.iter_fields(node):
        if isinstance(value, ast.AST):
            yield name, value, None
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, ast.AST):
                    yield name, item, index


def _is_looked_up(tree: ast.Module, place: Place) -> bool:
    """Whether a node is a constant of the module that is no literal: ``WIDE_BYTES = DTYPE_BYTES[WIDE]``."""
    if len(place) != 2 or place[1][0] != "value":
        return False
    return isinstance(_at(tree, place[:1]), ast.Assign) and isinstance(_at(tree, place), ast.Subscript)


def _changes(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, float)
    return isinstance(node, ast.BinOp) and isinstance(node.op, (*SWAPPED, ast.FloorDiv))


def _changed(node: ast.AST) -> ast.expr:
    if isinstance(node, ast.Constant):
        return ast.Constant(node.value + 1)
    if isinstance(node, ast.Subscript):
        return ast.BinOp(node, ast.Add(), ast.Constant(1))
    assert isinstance(node, ast.BinOp)
    if isinstance(node.op, ast.FloorDiv):
        return ast.BinOp(node, ast.Add(), ast.Constant(1))
    return ast.BinOp(node.left, SWAPPED[type(node.op)](), node.right)


def _at(tree: ast.AST, place: Place) -> Any:
    for name, index in place:
        value = getattr(tree, name)
        tree = value if index is None else value[index]
    return tree


def _put(tree: ast.AST, place: Place, node: ast.AST) -> Callable[[], None]:
    """Put a node in its place; gives what takes it back."""
    parent = _at(tree, place[:-1])
    name, index = place[-1]
    before = _at(tree, place)

    def put(value: ast.AST) -> None:
        if index is None:
            setattr(parent, name, value)
        else:
            getattr(parent, name)[index] = value

    put(node)
    return lambda: put(before)


def _shown(tree: ast.Module, place: Place) -> Place:
    """The place of what says best where a change is: an operation itself, around a number what it stands in."""
    if isinstance(_at(tree, place), ast.BinOp):
        return place
    while isinstance(_at(tree, place[:-1]), (ast.expr, ast.keyword, ast.Assign, ast.AnnAssign)):
        place = place[:-1]
        if not isinstance(_at(tree, place), ast.UnaryOp):
            break
    return place


def _text(tree: ast.Module, place: Place) -> str:
    parent, (name, index) = _at(tree, place[:-1]), place[-1]
    text = ast.unparse(_at(tree, place))
    if isinstance(parent, ast.arguments) and index is not None:
        of = parent.kwonlyargs if name == "kw_defaults" else parent.args[len(parent.args) - len(parent.defaults) :]
        text = f"{of[index].arg}={text}"
    return " ".join(text.split())
