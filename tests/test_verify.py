"""The verify command: totals from both sides, what it prints, what it refuses, and how it leaves."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from command import CONFIGURATION, LLAMA, PAGE, SCENARIO, USAGE, command, refused, write_json, write_small
from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.families.deepseek_ocr.views import VisionWorkload
from modelmeter.families.without_torch import FORBIDDEN, Question, answer
from modelmeter.render.terminal import MAX_WIDTH, console
from modelmeter.render.verification import verification_view
from modelmeter.schema.scenario import Page, Scenario
from modelmeter.verify import Case, CaseResult, Difference, Totals, crop_grids, verify_cases
from modelmeter.verify.real import RealResult, verify_real
from small import SMALL_SIZES, small_config

GOLDEN = Path(__file__).parent / "golden"
SMALL = ("verify", "small.json", "--base-size", "128", "--image-size", "64")
INTERNAL = 70


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_small(tmp_path)
    return tmp_path


def golden(name: str, found: str) -> None:
    """Write it anew with UPDATE_GOLDEN=1, and look at the difference."""
    found = "\n".join(line.rstrip() for line in found.splitlines()) + "\n"
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


def with_changed_closed_side(tmp_path: Path, change: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``modelmeter`` with a change in the process of the closed forms, and in no other."""
    program = f"""
import modelmeter.families.without_torch as without_torch

def answer(question, unchanged=without_torch.answer):
    {change}
    return unchanged(question)

without_torch.answer = answer
"""
    (tmp_path / "changed").mkdir(exist_ok=True)
    (tmp_path / "changed" / "sitecustomize.py").write_text(program)
    paths = [str(tmp_path / "changed"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [sys.executable, "-m", "modelmeter", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=120,
    )


def test_the_published_figures_from_both_sides() -> None:
    outcome = command("verify", "deepseek-ocr", "--grid", "2x1", "--decode-steps", "100", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    answer_ = json.loads(outcome.out)
    (case,) = answer_["cases"]
    for side in ("closed_form", "trace"):
        assert case[side]["vision_flops"] == 1_916_266_708_992
        assert case[side]["prefill_flops"] == 2_497_258_421_760
        assert case[side]["decode_flops"] == 118_158_489_600
        assert all(type(number) is int for number in case[side].values())
    assert case["closed_form"] == case["trace"]
    assert answer_["ok"] is case["ok"] is True
    assert case["differences"] == [] and case["compared"] > 1000
    assert (case["case"], case["scenario"]["seq_len"]) == ("grid 2x1", 493)


def test_the_table(folder: Path) -> None:
    outcome = command(*SMALL, "--grid", "2x1", "--page", "3000x900", "--decode-steps", "9", cwd=folder)
    assert (outcome.code, outcome.err) == (0, "")
    golden("verify.txt", outcome.out)
    assert max(map(len, outcome.out.splitlines())) <= MAX_WIDTH


def test_quiet_says_only_what_differs(folder: Path) -> None:
    outcome = command(*SMALL, "--grid", "1x1", "--quiet", cwd=folder)
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_json_says_the_same_twice(folder: Path) -> None:
    first, second = (command(*SMALL, "--grid", "1x1", "--decode-steps", "1", "--json", cwd=folder) for _ in range(2))
    assert first == second
    (case,) = json.loads(first.out)["cases"]
    assert set(case) == {"case", "closed_form", "compared", "differences", "ok", "scenario", "trace"}
    assert set(case["trace"]) == {"vision_flops", "prefill_flops", "decode_flops", "peak_bytes"}


def test_pages_are_cases_and_together_one(folder: Path) -> None:
    pages = ("--grid", "2x1", "--grid", "1x1", "--json")
    apart, together = (
        json.loads(command(*SMALL, *pages, *more, cwd=folder).out)["cases"] for more in ((), ("--together",))
    )
    assert [case["case"] for case in apart] == ["grid 2x1", "grid 1x1"]
    assert [case["case"] for case in together] == ["2 pages together"]
    assert together[0]["trace"]["vision_flops"] == sum(case["trace"]["vision_flops"] for case in apart)


def test_vision_alone(folder: Path) -> None:
    arguments = (*SMALL, "--grid", "2x1", "--stage", "vision", "--decode-steps", "3", "--json")
    (case,) = json.loads(command(*arguments, cwd=folder).out)["cases"]
    (whole,) = json.loads(command(*SMALL, "--grid", "2x1", "--json", cwd=folder).out)["cases"]
    assert case["trace"] == case["closed_form"]
    assert case["trace"]["vision_flops"] == whole["trace"]["vision_flops"]
    assert case["trace"]["prefill_flops"] == case["trace"]["decode_flops"] == 0
    assert 300 < case["compared"] < whole["compared"]
    assert "-" in command(*arguments[:-1], cwd=folder).out


def test_all_grids_are_those_of_the_model() -> None:
    assert len(crop_grids()) == len(set(crop_grids())) == 23
    assert set(crop_grids()) == {(1, 1), *VisionWorkload().grids()}
    assert {(9, 1), (1, 9), (3, 3), (2, 4)} <= set(crop_grids())


@pytest.mark.slow
def test_all_grids_of_a_small_configuration(folder: Path) -> None:
    outcome = command(*SMALL, "--grid", "all", "--stage", "vision", "--json", cwd=folder)
    cases = json.loads(outcome.out)["cases"]
    assert outcome.code == 0 and all(case["ok"] for case in cases)
    assert [case["case"] for case in cases] == [f"grid {width}x{height}" for width, height in crop_grids()]
    vision = {case["case"]: case["trace"]["vision_flops"] for case in cases}
    assert 2 * (vision["grid 9x1"] - vision["grid 1x1"]) == 9 * (vision["grid 2x1"] - vision["grid 1x1"])


def test_a_workload_profile_is_one_case(folder: Path) -> None:
    write_json(folder / "mine.json", {"base_size": 128, "image_size": 64, "decode_steps": 2})
    outcome = command("verify", "small.json", "--workload", "mine.json", "--json", cwd=folder)
    assert [case["case"] for case in json.loads(outcome.out)["cases"]] == ["default page"]
    assert outcome.code == 0


@pytest.fixture(scope="module")
def real() -> RealResult:
    return verify_real(FAMILY)


def test_a_run_for_real_counts_the_same(real: RealResult, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own counter on real weights, the closed form and the trace: three counts, one number."""
    for side in (real.closed, real.traced):
        assert side.prefill_flops + side.decode_flops == real.counted > 10**9
    monkeypatch.setattr("modelmeter.verify.real.verify_real", lambda _: real)
    arguments = (*SMALL, "--grid", "1x1", "--stage", "vision", "--full")
    outcome = command(*arguments, cwd=folder)
    assert outcome.code == 0
    assert f"FlopCounterMode {real.counted:,}" in " ".join(outcome.out.split()) and "they agree" in outcome.out


def test_a_real_run_that_differs_is_no_success(real: RealResult, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert real.ok and not evolve(real, closed=evolve(real.closed, prefill_flops=0)).ok
    wrong = evolve(real, counted=real.counted + 2)
    monkeypatch.setattr("modelmeter.verify.real.verify_real", lambda _: wrong)
    outcome = command(*SMALL, "--grid", "1x1", "--stage", "vision", "--full", "--json", cwd=folder)
    answer_ = json.loads(outcome.out)
    assert outcome.code == 1
    assert answer_["ok"] is answer_["real"]["ok"] is False and answer_["cases"][0]["ok"] is True


@pytest.mark.parametrize(
    ("change", "module"),
    [
        ("import modelmeter.cost.operators.norms as it; it.WIDE_BYTES = 8", "norm"),
        ("import modelmeter.families.deepseek_ocr.costs.clip as it; it.BICUBIC_FLOPS = 31", "vision_model.embeddings"),
    ],
)
def test_a_changed_coefficient_is_found(folder: Path, change: str, module: str) -> None:
    done = with_changed_closed_side(folder, change, *SMALL, "--grid", "1x1", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    (case,) = json.loads(done.stdout)["cases"]
    assert case["ok"] is False
    assert module in {difference["module"] for difference in case["differences"]}
    assert not any(difference["excused"] for difference in case["differences"])


def test_what_differs_is_printed(folder: Path) -> None:
    change = "import modelmeter.cost.operators.norms as norms; norms.LAYER_NORM_FLOPS = 9"
    done = with_changed_closed_side(folder, change, *SMALL, "--grid", "2x1")
    assert done.returncode == 1
    golden("verify_differs.txt", done.stdout)
    assert max(map(len, done.stdout.splitlines())) <= MAX_WIDTH
    assert "\x1b" not in done.stdout


def test_verify_asks_a_process_that_cannot_import_torch(folder: Path) -> None:
    done = with_changed_closed_side(folder, "import torch", *SMALL, "--grid", "1x1", "--stage", "vision")
    assert (done.returncode, done.stdout) == (INTERNAL, "")
    (line,) = done.stderr.splitlines()
    assert "the closed forms failed: ImportError: torch must not be needed by a closed form" in line


@pytest.mark.parametrize("name", FORBIDDEN)
def test_the_closed_side_refuses_packages_that_are_installed(name: str) -> None:
    program = (
        "import modelmeter.families.without_torch as it\n"
        f"def answer(question): import {name}\n"
        "it.answer = answer\n"
        "it.answer_stdin()"
    )
    done = subprocess.run([sys.executable, "-c", program], input=pickle.dumps(None), capture_output=True, check=False)
    assert done.returncode == 1 and done.stdout == b""
    assert f"ImportError: {name} must not be needed".encode() in done.stderr


def test_the_closed_side_answers_without_torch() -> None:
    scenario = Scenario(pages=(Page(grid=(2, 1)),), decode_steps=2, **SMALL_SIZES)
    question = Question("deepseek-ocr", small_config(), (scenario, evolve(scenario, batch=2)))
    program = (
        "import sys; from modelmeter.families.without_torch import answer_stdin; answer_stdin(); "
        "assert not {'torch', 'transformers', 'PIL'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=pickle.dumps(question), capture_output=True, check=True
    )
    assert pickle.loads(done.stdout) == answer(question)


def test_what_a_closed_form_refuses_is_said(folder: Path) -> None:
    change = "from modelmeter.errors import ScenarioError; raise ScenarioError('no', remedy='ask for less')"
    done = with_changed_closed_side(folder, change, *SMALL, "--grid", "1x1", "--stage", "vision")
    assert (done.returncode, done.stdout, done.stderr) == (SCENARIO, "", "modelmeter: no; ask for less\n")


def test_the_closed_side_ends_with_a_trace_that_fails() -> None:
    cases = [Case("one", Scenario(pages=(Page(grid=(1, 1)),), **SMALL_SIZES))]

    def stop(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(verify_cases(FAMILY, small_config(), cases, report=stop))


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (USAGE, ["deepseek-ocrr"], "did you mean 'deepseek-ocr'?"),
        (USAGE, ["deepseek-ocr", "--pages", "standard", "--grid", "2x1"], "--pages standard has pages of its own"),
        (USAGE, ["deepseek-ocr", "--pages", "standard", "--together"], "--pages standard has pages of its own"),
        (USAGE, ["deepseek-ocr", "--pages", "all"], '"standard"'),
        (USAGE, ["deepseek-ocr", "--stage", "decode"], '"vision"'),
        (USAGE, ["deepseek-ocr", "--device", "h100"], "did you mean 'h100-nvl'?"),
        (USAGE, ["deepseek-ocr", "--routing", "best"], "unknown routing policy 'best'"),
        (USAGE, ["llama.json"], "llama.json has no closed form to verify; give deepseek-ocr, or trace it"),
        (USAGE, ["command:write_small"], "has no closed form to verify"),
        (CONFIGURATION, ["nowhere.json"], "cannot read nowhere.json"),
        (PAGE, ["deepseek-ocr", "nowhere.png"], "nowhere.png does not exist"),
        (SCENARIO, ["deepseek-ocr", "--grid", "5x5"], "has 25 crops"),
        (SCENARIO, ["deepseek-ocr", "--grid", "0x1"], "has no area"),
        (SCENARIO, ["deepseek-ocr", "--grid=-1x2"], "'-1x2' is no size"),
        (SCENARIO, ["deepseek-ocr", "--grid", "999999999x999999999"], "crops"),
        (SCENARIO, ["deepseek-ocr", "--page", "0x100"], "a page's width is 0"),
        (SCENARIO, ["deepseek-ocr", "--batch", "0"], "--batch is 0"),
        (SCENARIO, ["deepseek-ocr", "--batch=-3"], "--batch is -3"),
        (SCENARIO, ["deepseek-ocr", "--decode-steps=-1"], "--decode-steps is -1"),
        (SCENARIO, ["deepseek-ocr", "--decode-steps", "9000"], "exceed the model's 8192"),
        (SCENARIO, ["deepseek-ocr", "--text-tokens", "1000000000"], "exceed the model's 8192"),
        (SCENARIO, ["deepseek-ocr", "--grid", "all", "--together"], "exceed the model's 8192"),
        (SCENARIO, ["deepseek-ocr", "--seq-len", "100"], "seq_len 100 is too short"),
        (SCENARIO, ["deepseek-ocr", "--base-size", "1000"], "is not divisible by the patch size 16"),
        (SCENARIO, ["deepseek-ocr", "--grid", "2x1", "--no-crop-mode"], "grid 2x1 with cropping off"),
        (SCENARIO, ["deepseek-ocr", "--dtype", "float8_e4m3fn"], "torch cannot run a model in --dtype float8_e4m3fn"),
        (SCENARIO, ["deepseek-ocr", "--activation-dtype", "float32"], "a trace runs weights and activations in one"),
        (SCENARIO, ["deepseek-ocr", "--grid", "1x1", "--grid", "4x4"], "has 16 crops"),
    ],
)
def test_what_is_refused(tmp_path: Path, code: int, arguments: list[str], message: str) -> None:
    write_json(tmp_path / "llama.json", LLAMA)
    assert message in refused(code, "verify", *arguments, cwd=tmp_path)


def results() -> Iterator[CaseResult]:
    """Cases with names and numbers as long as they come, and every kind of difference."""
    most = Totals(88_888_888_888_888, 99_999_999_999_999, 77_777_777_777_777, 10**12)
    module = "layers.[1-11].mlp.experts.[0-63].[gate_proj,up_proj]"
    found = [
        Difference(module, "decode, 8191 steps", "matrix_flops.bfloat16", 12_345_678_901_234, 98_765_432_109_876),
        Difference(
            "DeepseekOCRModel", "prefill", "peak_bytes", 1_048_576, 1_048_577, True, "within 5%, the same module"
        ),
        Difference("[odd]", "all", "class", "[bold]", "Linear"),
    ]
    yield CaseResult("newspaper, broadsheet 150 dpi (2244x3366)", {}, most, most, 1_234, tuple(found))
    yield CaseResult("page 1x1", {}, most, most, 1_234, tuple(found[1:2]))


def test_long_names_and_numbers_fit(capsys: pytest.CaptureFixture[str]) -> None:
    console().print(verification_view(list(results()), None, None), crop=False)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= MAX_WIDTH
    for whole in ("88,888,888,888,888", "99,999,999,999,999", "77,777,777,777,777", "[odd]", "[bold]", "1,048,577"):
        assert whole in out
    assert "2 of 2,468 numbers differ" in out


@pytest.mark.parametrize(("variable", "coloured"), [("FORCE_COLOR", True), ("NO_COLOR", False)])
def test_colours_only_where_they_are_wanted(
    variable: str, coloured: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv(variable, "1")
    console().print(verification_view(list(results()), None, None), crop=False)
    assert ("\x1b[1;31m" in capsys.readouterr().out) is coloured


def test_an_excused_difference_is_shown_and_no_failure() -> None:
    first, second = results()
    assert not first.ok and second.ok
    assert second.to_dict()["differences"][0]["reason"] == "within 5%, the same module"


def test_difference_as_data() -> None:
    data: dict[str, Any] = next(results()).to_dict()["differences"][0]
    assert set(data) == {"module", "forward", "metric", "closed", "traced", "excused", "reason"}
