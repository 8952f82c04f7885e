"""The benchmark for a GPU, tried at small size on the CPU: its plan, its budget, and what it writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from modelmeter.schema.measurement import Measurement

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import measure_gpu


def summary(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((out / "summary.json").read_text())["cases"]
    return found


def test_plan_has_every_case_the_most_telling_first() -> None:
    cases = measure_gpu.plan(measure_gpu.GRIDS, measure_gpu.BATCHES)
    assert len(set(cases)) == len(cases) == 5 * 6 * 2 * 2
    assert cases[0].name == "grid-2x1-batch-1-sdpa-eager"
    first = cases[:20]
    assert {case.execution for case in first} == {"eager", "graph"}
    assert {case.attention for case in first} == {"eager", "sdpa"}
    assert {1, 8, 32} <= {case.batch for case in first} and {(1, 1), (2, 1), (3, 3)} <= {case.grid for case in first}
    assert {case.batch for case in cases} == {1, 2, 4, 8, 16, 32}
    assert max(case.pixels for case in cases) == 32 * (1 + 9 * 0.390625)


def test_full_size_is_the_published_model() -> None:
    full = measure_gpu.setting(small=False)
    assert (full.device, full.dtype, full.config.decoder.num_hidden_layers) == ("cuda", "bfloat16", 12)
    scenario = full.scenario(full.cases[0])
    assert (scenario.head, scenario.decode_steps, scenario.execution) == ("last", 32, "eager")


def test_small_run_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cases that fail are noted and the next ones run: no graph can be captured here."""
    monkeypatch.setattr(measure_gpu, "plan", lambda *_: _cases())
    assert measure_gpu.main(["--cpu-small", "--out", str(tmp_path / "out")]) == 0
    rows = summary(tmp_path / "out")
    assert [row["case"] for row in rows] == [case.name for case in _cases()]
    measured = [row for row in rows if "file" in row]
    assert [row["execution"] for row in measured] == ["eager", "eager"]
    assert "captures a CUDA graph" in rows[1]["error"]
    for row in measured:
        found = Measurement.load(tmp_path / "out" / row["file"])
        assert (found.first_token_s, found.token_s) == (row["first_token_s"], row["token_s"])
        assert found.scenario["batch"] == row["batch"] and found.scenario["attention"] == row["attention"]
        assert bool(found.modules) == (row["batch"] == 1 and row["attention"] == "sdpa")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "001-grid-2x1-batch-1-sdpa-eager.json",
        "002-grid-1x1-batch-2-eager-eager.json",
        "summary.json",
    ]
    out = capsys.readouterr().out
    assert "first token" in out and "2 cases measured" in out


def _cases() -> tuple[Any, ...]:
    kinds = [((2, 1), 1, "eager", "sdpa"), ((2, 1), 1, "graph", "sdpa"), ((1, 1), 2, "eager", "eager")]
    return tuple(measure_gpu.Case(*kind) for kind in kinds)


def test_budget(tmp_path: Path) -> None:
    """Nothing is begun that would not end in time, and the results until then are kept."""
    assert measure_gpu.main(["--cpu-small", "--out", str(tmp_path), "--budget-s", "0"]) == 1
    rows = summary(tmp_path)
    assert len(rows) == 16 and all(row["skipped"] == "0 s were left" for row in rows)


def test_stopped_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_gpu, "plan", lambda *_: _cases()[::2])
    measure = measure_gpu.measure
    calls = []

    def stopping(*args: Any, **kwargs: Any) -> Measurement:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(*args, **{**kwargs, "repeats": 1})

    monkeypatch.setattr(measure_gpu, "measure", stopping)
    with pytest.raises(KeyboardInterrupt):
        measure_gpu.main(["--cpu-small", "--out", str(tmp_path)])
    assert [row["file"] for row in summary(tmp_path)] == ["001-grid-2x1-batch-1-sdpa-eager.json"]
    assert Measurement.load(tmp_path / "001-grid-2x1-batch-1-sdpa-eager.json").forwards


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure_gpu.main(["--out", str(tmp_path)]) == 1
    assert "--cpu-small tries the script without one" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
