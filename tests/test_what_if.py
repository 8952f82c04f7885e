"""The what-if command: before and after, exact, from the report alone; and the inverse questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command import SCENARIO, USAGE, command
from modelmeter.contracts import load_report

ASKED = ("--batch", "8", "--execution", "graph", "--device", "h200")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reports")
    outcome = command("analyze", "deepseek-ocr", "--grid", "2x1", "--out", ".", "--quiet", cwd=path)
    assert outcome.code == 0, outcome.err
    return path


def test_the_answer_is_a_fresh_analysis(folder: Path):
    outcome = command("what-if", "report.json", *ASKED, "--json", cwd=folder)
    assert outcome.code == 0, outcome.err
    answer = json.loads(outcome.out)
    fresh = json.loads(command("analyze", "deepseek-ocr", "--grid", "2x1", *ASKED, "--json").out)
    assert answer["after"] == fresh
    assert answer["before"] == json.loads((folder / "report.json").read_text())
    ratio = answer["ratio"]["total.time"]
    assert ratio == pytest.approx(fresh["predicted_total_time_ms"] / answer["before"]["predicted_total_time_ms"])


def test_keys_may_be_set_by_name(folder: Path):
    by_name = command(
        "what-if", "report.json", "--set", "decode_steps=7", "--set", "pages=grid:3x2", "--json", cwd=folder
    )
    by_option = command("what-if", "report.json", "--decode-steps", "7", "--grid", "3x2", "--json", cwd=folder)
    assert by_name.code == 0, by_name.err
    assert by_name.out == by_option.out
    assert json.loads(by_name.out)["after"]["workload"]["max_new_tokens"] == 8


def test_a_users_device_is_in_the_report(folder: Path, tmp_path: Path):
    device = json.loads(command("devices", "h100-sxm", "--json").out)
    device["id"] = "my-card"
    (tmp_path / "card.json").write_text(json.dumps(device))
    made = command(
        "analyze",
        "deepseek-ocr",
        "--device",
        "my-card",
        "--device-file",
        "card.json",
        "--out",
        "r",
        "--quiet",
        cwd=tmp_path,
    )
    assert made.code == 0, made.err
    (tmp_path / "card.json").unlink()
    outcome = command("what-if", "r/report.json", "--batch", "2", "--json", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["after"]["scenario"]["device"]["id"] == "my-card"


def test_the_tables_show_every_stage_and_the_bound(folder: Path):
    outcome = command("what-if", "report.json", *ASKED, cwd=folder)
    assert outcome.code == 0, outcome.err
    assert all(len(line) <= 100 for line in outcome.out.splitlines())
    assert "launch → memory" in outcome.out and "pages per second" in outcome.out
    stages = [line.split()[0] for line in outcome.out.splitlines() if line.strip()][2:7]
    assert stages == ["vision", "projector", "prefill", "decode", "total"]


def test_a_changed_report_is_written(folder: Path, tmp_path: Path):
    outcome = command("what-if", str(folder / "report.json"), "--batch", "3", "--out", "new", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    assert load_report(tmp_path / "new" / "report.json").report_id in outcome.out


def test_the_largest_batch_meets_the_limits_and_one_more_does_not(folder: Path):
    def seconds(batch: int) -> float:
        found = command("what-if", "report.json", "--execution", "graph", "--batch", str(batch), "--json", cwd=folder)
        return float(json.loads(found.out)["after"]["capacity"]["time_to_first_token_s"]["estimate"])

    outcome = command(
        "what-if", "report.json", "--execution", "graph", "--solve", "batch", "--ttft-ms", "100", "--json", cwd=folder
    )
    batch = json.loads(outcome.out)["batch"]
    assert batch > 1 and seconds(batch) <= 0.1 < seconds(batch + 1)


def test_devices_are_offered_by_price(folder: Path):
    outcome = command("what-if", "report.json", "--solve", "device", "--tpot-ms", "50", "--json", cwd=folder)
    prices = [offer["price_per_1000_pages_usd"] for offer in json.loads(outcome.out)["devices"]]
    assert len(prices) > 3 and prices == sorted(prices)
    nothing = command("what-if", "report.json", "--solve", "device", "--tpot-ms", "0.001", cwd=folder)
    assert "No device" in nothing.out


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (USAGE, (), "nothing is changed"),
        (USAGE, ("--set", "batchs=2"), "did you mean 'batch'?"),
        (USAGE, ("--set", "batch"), "is no KEY=VALUE"),
        (USAGE, ("--device", "h20"), "did you mean 'h200'?"),
        (USAGE, ("--figure", "memory=1"), "unknown figure"),
        (USAGE, ("--figure", "memory_bytes_per_s=fast"), "gives no number"),
        (SCENARIO, ("--set", "batch=0"), "--batch is 0"),
        (SCENARIO, ("--device", "t4"), "has no peak for bfloat16"),
        (SCENARIO, ("--device", "l4", "--batch", "400"), "does not fit l4"),
        (SCENARIO, ("--set", "decode_steps=9000"), "exceed the model's 8192"),
        (USAGE, ("--tpot-ms", "5", "--batch", "2"), "without --solve does nothing"),
        (USAGE, ("--solve", "batch", "--tpot-ms", "-1"), "--tpot-ms is -1"),
        (SCENARIO, ("--set", "tensor_parallel=3"), "do not divide by --tensor-parallel 3"),
    ],
)
def test_what_is_refused(folder: Path, code: int, arguments: tuple[str, ...], message: str):
    outcome = command("what-if", "report.json", *arguments, cwd=folder)
    assert outcome.code == code, outcome.err
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert not outcome.out
