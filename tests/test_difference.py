"""Differences between two call graphs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from modelmeter import CallGraph, Page, Scenario, trace
from modelmeter.callgraph.difference import Change, difference
from small import SMALL_SIZES, small_config


def small(grid: tuple[int, int] = (2, 1), **keys: object) -> CallGraph:
    scenario = Scenario(pages=(Page(grid=grid),), **{**SMALL_SIZES, **keys})  # type: ignore[arg-type]
    return trace("deepseek-ocr", scenario, config=small_config())


@pytest.fixture(scope="module")
def base() -> CallGraph:
    return small()


def test_a_graph_does_not_differ_from_itself(base: CallGraph, tmp_path: Path) -> None:
    again = CallGraph.load(base.save(tmp_path / "a.json"))
    assert difference(base, again) == []
    assert difference(base, small()) == []


def test_another_grid_changes_shapes_and_costs_and_not_the_structure(base: CallGraph) -> None:
    kinds = {change.kind for change in difference(base, small((3, 2)))}
    assert {"total matrix_flops", "stage vision matrix_flops", "inputs", "outputs", "own matrix_flops"} <= kinds
    assert not kinds & {"only in the first", "only in the second", "class", "configuration", "parameters"}


def test_attention_kind_changes_operators_and_not_flops(base: CallGraph) -> None:
    changes = difference(base, small(attention="eager"))
    kinds = {change.kind for change in changes}
    assert "total matrix_flops" not in kinds
    assert {"operators", "total launches", "configuration"} <= kinds
    attention = [change.modules for change in changes if change.kind == "configuration"]
    assert any("layers.[0-2].self_attn" in modules for modules in attention)


def test_no_crops_halve_the_calls_of_the_towers(base: CallGraph) -> None:
    changes = difference(base, small((1, 1)))
    assert Change("call edge", "DeepseekOCRModel->[sam_model,vision_model,projector]", 2, 1, 3) in changes


def test_modules_that_only_one_graph_has_are_named(base: CallGraph) -> None:
    scenario = Scenario(pages=(Page(grid=(2, 1)),), **SMALL_SIZES)
    deeper = trace("deepseek-ocr", scenario, config=small_config(num_hidden_layers=4))
    added = [change for change in difference(base, deeper) if change.kind == "only in the second"]
    assert ("layers.3", "DeepseekV2DecoderLayer") in {(change.modules, change.after) for change in added}
    removed = [change for change in difference(deeper, base) if change.kind == "only in the first"]
    assert {change.modules for change in removed} == {change.modules for change in added}


def test_the_command_exits_with_1_if_anything_differs(base: CallGraph, tmp_path: Path) -> None:
    first, second = base.save(tmp_path / "a.json"), small((3, 2)).save(tmp_path / "b.json")
    same = run("diff", str(first), str(first))
    assert (same.returncode, same.stdout.strip()) == (0, "No difference.")
    other = run("diff", str(first), str(second))
    assert other.returncode == 1
    assert max(map(len, other.stdout.splitlines())) <= 100
    listed = json.loads(run("diff", str(first), str(second), "--json").stdout)
    assert listed["changed"]
    assert len(listed["changes"]) == len(difference(CallGraph.load(first), CallGraph.load(second)))
    missing = run("diff", str(first), str(tmp_path / "none.json"))
    assert missing.returncode == 6
    assert missing.stderr.count("\n") == 1


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modelmeter", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
