"""Who may import whom, read off the source; and what runs without torch, tried in subprocesses."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import modelmeter

SOURCE = Path(modelmeter.__file__).parent

FLOORS = {
    "errors": 0,
    "units": 0,
    "ranking": 0,
    "routing": 0,
    "patterns": 0,
    "schema": 0,
    "contracts": 0,
    "cost": 1,
    "families": 2,
    "planning": 2,
    "tracing": 3,
    "measuring": 3,
    "callgraph": 3,
    "verify": 3,
    "render": 4,
    "cli": 5,
    "service": 5,
    "__main__": 5,
}
"""The design's floors; the package's own ``__init__`` is above them all and imports when it is asked."""

TORCH = ("torch", "transformers", "safetensors", "tokenizers", "PIL")

# Parts of a family that make modules and tensors; everything else on the floors 0 to 2 runs without torch.
WITH_TORCH = ("network", "inputs", "checkpoint", "images", "reader", "captured", "bench")


def module_name(path: Path) -> str:
    parts = ("modelmeter", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imports(module: str, *, lazy: bool = True) -> set[str]:
    """Modules that a module imports, anywhere in its source or, not lazily, when it is imported itself."""
    found: set[str] = set()
    waiting: list[ast.AST] = [tree(module)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module} has a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
        elif not lazy and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        elif not lazy and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
    return found


def own_imports(module: str) -> set[str]:
    return {name for name in imports(module) if name.startswith("modelmeter.")}


def without_torch() -> list[str]:
    return [
        name
        for name in MODULES
        if name != "modelmeter"
        and FLOORS[part(name)] <= 2
        and not (part(name) == "families" and any(piece in WITH_TORCH for piece in name.split(".")[3:4]))
    ]


def test_every_part_has_a_floor() -> None:
    assert {part(name) for name in MODULES} - {""} <= set(FLOORS)


@pytest.mark.parametrize("module", [name for name in MODULES if name != "modelmeter"])
def test_nothing_imports_from_above(module: str) -> None:
    above = {name for name in own_imports(module) if FLOORS[part(name)] > FLOORS[part(module)]}
    assert not above, f"{module} (floor {FLOORS[part(module)]}) imports {above}"


def test_imports_inside_functions_are_seen() -> None:
    # A test that sees nothing fails nothing: these imports are inside functions.
    assert "modelmeter.tracing.api" in own_imports("modelmeter.cli.subject_trace")
    assert "modelmeter.tracing.api" not in imports("modelmeter.cli.subject_trace", lazy=False)
    assert "modelmeter.schema.codec" in own_imports("modelmeter.schema.callgraph")


def test_trace_and_closed_forms_do_not_know_each_other() -> None:
    for module in MODULES:
        if part(module) == "tracing":
            assert not {n for n in own_imports(module) if part(n) in ("cost", "planning", "verify", "callgraph")}
            # Of the families only the protocol and the registry.
            families = {n for n in own_imports(module) if part(n) == "families"}
            assert families <= {"modelmeter.families.protocol", "modelmeter.families.registry"}, module
        if part(module) in ("cost", "planning"):
            assert not {n for n in imports(module) if n.split(".")[0] in TORCH}, module
        if part(module) == "families" and module.split(".")[3:4] in (["cost"], ["costs"], ["closed_form"]):
            assert not {n for n in imports(module) if n.split(".")[0] in TORCH}, module


def test_drawings_compute_nothing() -> None:
    for module in MODULES:
        if part(module) == "render":
            assert not {n for n in own_imports(module) if part(n) in ("tracing", "planning", "cost")}, module


def test_families_are_found_not_named() -> None:
    for module in MODULES:
        if part(module) in ("families", ""):
            continue
        named = {n for n in own_imports(module) if n.startswith("modelmeter.families.deepseek_ocr")}
        assert not named, f"{module} imports {named}"


@pytest.mark.parametrize("module", without_torch())
def test_no_torch_when_imported_in_the_source(module: str) -> None:
    heavy = {name for name in imports(module, lazy=False) if name.split(".")[0] in TORCH}
    assert not heavy, f"{module} imports {heavy} when it is imported"


def loaded(code: str) -> list[str]:
    """Which heavy packages a fresh interpreter has after some code."""
    report = f"\nimport sys, json; print(json.dumps([m for m in {TORCH!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_floors_0_to_2_run_without_torch() -> None:
    modules = without_torch()
    assert "modelmeter.families.deepseek_ocr.family" in modules and "modelmeter.schema.codec" in modules
    assert loaded("\n".join(f"import {name}" for name in ["modelmeter", *modules])) == []


def test_the_probe_for_torch_sees_it() -> None:
    assert "torch" in loaded("import modelmeter.tracing")


def test_public_names_load_what_they_need() -> None:
    assert loaded("import modelmeter; modelmeter.Scenario(); modelmeter.CallGraph(); dir(modelmeter)") == []
    assert "torch" in loaded("import modelmeter; assert callable(modelmeter.trace)")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        ["trace", "--help"],
        ["trace", "deepsek-ocr"],
        ["trace", "deepseek-ocr", "--grid", "10x1"],
        ["trace", "deepseek-ocr", "--tensor-parallel", "4", "--devices", "4"],
        ["trace", "missing.json"],
        ["trace", "deepseek-ocr", "--input-ids", "1x4"],
    ],
)
def test_commands_that_need_no_torch_do_not_load_it(arguments: list[str]) -> None:
    code = f"from modelmeter.cli import run\nrun({arguments!r})"
    assert loaded(code) == []


def test_public_names_are_there() -> None:
    for name in modelmeter.__all__:
        assert getattr(modelmeter, name).__doc__, name
    assert set(modelmeter.__all__) <= set(dir(modelmeter))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = modelmeter.nothing


def test_files_are_short() -> None:
    for module, path in MODULES.items():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 400, f"{module} has {lines} lines"
