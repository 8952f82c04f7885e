"""The analyze command: tables, JSON, memory, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command import OUTPUT, SCENARIO, USAGE, command, write_small
from modelmeter.contracts import load_report
from modelmeter.cost.catalogue import find_device
from modelmeter.cost.memory import RUNTIME_RESERVE_BYTES, memory_need
from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.planning.workload_profiles import find_profile, profile_ids
from modelmeter.schema.scenario import Page, Scenario

GOLDEN = Path(__file__).parent / "golden"
USUAL = ("analyze", "deepseek-ocr", "--grid", "2x1", "--decode-steps", "100")


def test_the_tables():
    outcome = command(*USUAL, "--device", "rtx-5090", "--rows", "5")
    assert outcome.code == 0, outcome.err
    assert all(len(line) <= 100 for line in outcome.out.splitlines())
    compare(GOLDEN / "analyze.txt", outcome.out)


def test_the_tree():
    outcome = command(*USUAL, "--tree", "--execution", "graph", "--device", "a100-40g")
    assert outcome.code == 0, outcome.err
    assert all(len(line) <= 100 for line in outcome.out.splitlines())
    compare(GOLDEN / "analyze_tree.txt", outcome.out)


def compare(kept: Path, text: str) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        kept.write_text(text, encoding="utf-8")
    assert text == kept.read_text(encoding="utf-8")


def test_json_is_the_report():
    first, second = (command(*USUAL, "--json") for _ in range(2))
    assert first.out == second.out
    data = json.loads(first.out)
    stages = {name: stage["costs"] for name, stage in data["totals"]["stages"].items()}
    assert stages["vision"]["matrix_flops"] + stages["projector"]["matrix_flops"] == 1_916_266_708_992
    assert stages["decode"]["matrix_flops"] == 118_158_489_600
    assert data["totals"]["parameters"] == 3_336_106_240
    assert data["scenario"]["described"]["seq_len"] == 493
    per_token = data["capacity"]["time_per_output_token_s"]["estimate"]
    assert per_token == pytest.approx(data["totals"]["stages"]["decode"]["time_s"]["estimate"] / 100, rel=1e-12)


def test_a_plan_decodes_unless_told_not_to():
    data = json.loads(command("analyze", "deepseek-ocr", "--json").out)
    assert data["workload"]["max_new_tokens"] == 256
    data = json.loads(command("analyze", "deepseek-ocr", "--decode-steps", "0", "--json").out)
    assert "time_per_output_token_s" not in data["capacity"]
    assert command("analyze", "deepseek-ocr", "--decode-steps", "0").code == 0


def test_quantised_weights_move_fewer_bytes():
    plain = json.loads(command(*USUAL, "--json").out)["totals"]
    quantised = json.loads(command(*USUAL, "--json", "--dtype", "float8_e4m3fn", "--activation-dtype", "bfloat16").out)
    quantised = quantised["totals"]
    before, after = (totals["stages"]["decode"]["costs"] for totals in (plain, quantised))
    assert quantised["weight_bytes"] * 2 == plain["weight_bytes"]
    assert after["bytes_read"] < 0.6 * before["bytes_read"]
    assert after["matrix_flops"] == before["matrix_flops"]


def test_reports_are_written_and_not_overwritten(tmp_path: Path):
    arguments = ("analyze", "deepseek-ocr", "--workload", "dsocr-standard-v1", "--out", "runs")
    outcome = command(*arguments, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    report = load_report(tmp_path / "runs" / "report.json")
    assert f"report_id {report.report_id}" in outcome.out and "artifacts_dir runs" in outcome.out
    assert report == load_report(tmp_path / "runs" / "report.yaml")
    assert report.workload.profile_id == "dsocr-standard-v1" and report.workload.max_new_tokens == 512
    again = command(*arguments, cwd=tmp_path)
    assert again.code == OUTPUT and "--force" in again.err
    first = (tmp_path / "runs" / "report.json").read_bytes()
    assert command(*arguments, "--force", "--quiet", cwd=tmp_path).code == 0
    assert (tmp_path / "runs" / "report.json").read_bytes() == first


@pytest.mark.parametrize("profile", profile_ids())
def test_every_profile_is_a_workload(profile: str):
    data = json.loads(command("analyze", "deepseek-ocr", "--workload-profile-id", profile, "--json").out)
    assert data["workload"]["profile_id"] == profile
    assert data["workload"]["description"] == find_profile(profile).description


def test_a_configuration_of_ones_own(tmp_path: Path):
    write_small(tmp_path)
    outcome = command(
        "analyze", "small.json", "--grid", "2x1", "--base-size", "128", "--image-size", "64", cwd=tmp_path
    )
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (USAGE, ("--device", "h100"), "did you mean 'h100-nvl'?"),
        (SCENARIO, ("--device", "t4"), "t4 (T4) has no peak for bfloat16; it has"),
        (SCENARIO, ("--device", "rtx-5090", "--batch", "64"), "the run does not fit rtx-5090"),
        (SCENARIO, ("--device", "t4", "--dtype", "float16", "--batch", "32"), "are missing"),
        (USAGE, ("--dtype", "bfloat"), "did you mean 'bfloat16'?"),
        (SCENARIO, ("--batch", "0"), "--batch is 0"),
        (SCENARIO, ("--batch", "-3"), "--batch is -3"),
        (USAGE, ("--batch", "2.5"), "give a whole number"),
        (SCENARIO, ("--base-size", "1000"), "not divisible by the patch size"),
        (SCENARIO, ("--grid", "5x5"), "has 25 crops"),
        (SCENARIO, ("--decode-steps", "9000"), "exceed the model's 8192"),
        (SCENARIO, ("--text-tokens", "1000000000"), "exceed the model's 8192"),
        (
            SCENARIO,
            ("--tensor-parallel", "4"),
            "10 attention heads do not divide by --tensor-parallel 4; use one of 1, 2",
        ),
        (USAGE, ("--rows", "0"), "--rows is 0"),
        (USAGE, ("--workload-profile-id", "dsocr-standard"), "did you mean 'dsocr-standard-v1'?"),
        (USAGE, ("--workload", "dsocr-standard-v1", "--workload-profile-id", "dsocr-slides-v1"), "give one of them"),
        (SCENARIO, ("--page", "0x100"), "is 0"),
        (SCENARIO, ("--seq-len", "100"), "is too short"),
    ],
)
def test_what_is_refused(code: int, arguments: tuple[str, ...], message: str):
    outcome = command("analyze", "deepseek-ocr", *arguments)
    assert outcome.code == code, outcome.err
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert not outcome.out


MEASURED = str(Path(__file__).parents[1] / "examples" / "measurements" / "cpu-small" / "grid-2x1.json")


def test_a_measurement_of_the_same_run_fills_the_measured_time():
    same = ("--grid", "2x1", "--decode-steps", "12", "--dtype", "float32", "--json")
    outcome = command("analyze", MEASURED, "--measurement", MEASURED, *same)
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    measured_ms = json.loads(Path(MEASURED).read_text())["run"]["time_s"] * 1e3
    assert report["measured_total_time_ms"] == measured_ms
    assert report["predicted_vs_measured_ratio"] == report["predicted_total_time_ms"] / measured_ms
    assert "the estimate is for H100 SXM" in outcome.err


def test_a_measurement_of_another_run_is_refused():
    other_run = command("analyze", MEASURED, "--measurement", MEASURED, "--grid", "2x1", "--dtype", "float32")
    assert other_run.code == USAGE
    assert "decode_steps 12 instead of 255" in other_run.err
    other_model = command("analyze", "deepseek-ocr", "--measurement", MEASURED)
    assert other_model.code == USAGE
    assert "measured another model" in other_model.err


def test_token_ids_are_for_models_without_closed_form(tmp_path: Path):
    outcome = command("analyze", "deepseek-ocr", "--input-ids", "1x8", cwd=tmp_path)
    assert outcome.code == USAGE
    assert "--input-ids is for Hugging Face configurations" in outcome.err


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 64), st.sampled_from([(1, 1), (2, 1), (3, 3)]), st.integers(0, 500))
def test_missing_memory_is_what_a_larger_device_has(batch: int, grid: tuple[int, int], steps: int):
    scenario = Scenario(pages=(Page(grid=grid),), batch=batch, decode_steps=steps)
    tree = FAMILY.costs(FAMILY.default_configuration(), scenario).tree()
    small, large = memory_need(tree, find_device("l4")), memory_need(tree, find_device("h200"))
    assert small.total_bytes == tree.weight_bytes + tree.peak.bytes + RUNTIME_RESERVE_BYTES == large.total_bytes
    assert large.headroom_bytes - small.headroom_bytes == large.capacity_bytes - small.capacity_bytes
    assert small.fits == (small.total_bytes <= small.capacity_bytes)


def test_neither_torch_nor_transformers_is_loaded():
    program = (
        "import sys; from modelmeter.cli import run; code = run(['analyze', 'deepseek-ocr', '--grid', '2x1']); "
        "assert not {'torch', 'transformers', 'PIL'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
