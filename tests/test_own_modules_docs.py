"""The Python of docs/own-modules.md runs, block after block; the tools beside ModelMeter run as they are started."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelmeter import CallGraph

ROOT = Path(__file__).parent.parent


def test_python_shown_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "own-modules.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, Any] = {"__name__": "shown"}
    for block in blocks:
        exec(block, names)
    assert "['forward 1', 'backward 1']" in capsys.readouterr().out
    assert CallGraph.load("step.json").stages["backward"].matrix_flops > 0


def benchmark(script: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("peer", ["modelmeter", "flop-counter", "torchlens"])
def test_the_hostile_model_as_counted_by_hand(peer: str) -> None:
    found = json.loads(benchmark("peer_runs.py", peer, "hostile").splitlines()[-1])
    # For 32 rows: four linear layers and two products, at three depths.
    assert found["matrix_flops"] == 3 * (4 * 2 * 32 * 64 * 64 + 2 * 2 * 32 * 64 * 32)
    assert found["seconds"] > 0 and found["peak_gb"] > 0


@pytest.mark.skipif(importlib.util.find_spec("fvcore") is not None, reason="fvcore is installed")
def test_a_tool_that_is_not_installed_is_a_row_that_says_so() -> None:
    found = json.loads(benchmark("peer_runs.py", "fvcore", "hostile").splitlines()[-1])
    assert found["error"].startswith("fvcore is not installed")
    assert "matrix_flops" not in found


def test_the_table_says_what_was_missed() -> None:
    own = {
        "model": "cnn",
        "tool": "modelmeter",
        "matrix_flops": 400,
        "formulas": ["aten.mm", "aten.odd"],
        "left_out": [],
    }
    counter = {"model": "cnn", "tool": "flop-counter", "matrix_flops": 300, "formulas": ["aten.mm"], "left_out": []}
    silent = {"model": "cnn", "tool": "torchinfo", "matrix_flops": 100, "formulas": [], "left_out": []}
    failed = {"model": "cnn", "tool": "fvcore", "error": "TypeError: no", "build_s": 1.0}
    rows = peers().judged([own, counter, silent, failed])
    assert [row["missed"] for row in rows] == ["", "no formula: aten.odd", "not said", "TypeError: no"]
    assert [row.get("share") for row in rows] == [1, 0.75, 0.25, None]
    lines = peers().as_markdown(rows).splitlines()
    assert len(lines) == 6 and lines[-1] == "| cnn | fvcore | 1.00 | - | - | - | - | TypeError: no |"
    assert [line.split()[:2] for line in peers().as_text(rows).splitlines()[1:]] == [
        [r["model"], r["tool"]] for r in rows
    ]


def peers() -> Any:
    spec = importlib.util.spec_from_file_location("peers", ROOT / "benchmarks" / "peers.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
