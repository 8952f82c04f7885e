"""``modelmeter devices``: the table, one device, the user's files, and what is refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from command import command, document, refused
from modelmeter.cost.catalogue import find_device, load_catalogue
from modelmeter.render.terminal import MAX_WIDTH

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str, found: str) -> None:
    """Write it anew with UPDATE_GOLDEN=1, and look at the difference."""
    found = "\n".join(line.rstrip() for line in found.splitlines()) + "\n"
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


def test_the_table() -> None:
    outcome = command("devices")
    assert (outcome.code, outcome.err) == (0, "")
    assert max(len(line) for line in outcome.out.splitlines()) <= MAX_WIDTH
    assert "…" not in outcome.out
    golden("devices.txt", outcome.out)


def test_one_device() -> None:
    outcome = command("devices", "h100-sxm")
    assert (outcome.code, outcome.err) == (0, "")
    golden("device_h100_sxm.txt", outcome.out)


@pytest.mark.parametrize("device_id", list(load_catalogue()))
def test_every_figure_and_every_source_is_shown(device_id: str) -> None:
    device = find_device(device_id)
    outcome = command("devices", device_id)
    words = " ".join(outcome.out.split())
    for name, figure in device.figures.named():
        assert name in words and figure.source in words
        assert figure.note is None or figure.note in words
    for source in device.sources.values():
        assert source.title in words
        assert source.url is None or source.url in words


def test_json_of_all() -> None:
    found = document("devices")["devices"]
    assert [device["id"] for device in found] == list(load_catalogue())
    assert found[0] == load_catalogue()[found[0]["id"]].to_data()


def test_json_of_one_is_a_device_file(tmp_path: Path) -> None:
    found = document("devices", "h100-sxm")
    found["figures"]["hourly_price_usd"]["value"] = 7.25
    (tmp_path / "mine.json").write_text(json.dumps(found))
    outcome = command("devices", "h100-sxm", "--device-file", "mine.json", cwd=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    assert "7.25 $/h" in outcome.out
    listed = document("devices", "--device-file", "mine.json", cwd=tmp_path)["devices"]
    assert found in listed


def test_implausible_figures_are_warned_of(tmp_path: Path) -> None:
    data = find_device("h100-sxm").to_data()
    data["figures"]["sparse_flops_per_s"] = {}
    data["figures"]["dense_flops_per_s"]["int8"]["value"] *= 2
    (tmp_path / "mine.json").write_text(json.dumps(data))
    for arguments in (["devices"], ["devices", "h100-sxm"], ["devices", "h100-sxm", "--json"]):
        outcome = command(*arguments, "--device-file", "mine.json", cwd=tmp_path)
        assert outcome.code == 0
        assert outcome.err == (
            "modelmeter: warning: h100-sxm: dense int8 over bfloat16 is 4, expected 2: "
            "one of them may be a peak with sparsity\n"
        )


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (2, ["devices", "rtx-5091"], "unknown device 'rtx-5091'; did you mean 'rtx-5090'?"),
        (2, ["devices", ""], "unknown device ''; valid: a10, a100-40g"),
        (2, ["devices", "h100-sxm", "h200"], "see modelmeter devices --help"),
        (2, ["devices", "--colour"], "see modelmeter devices --help"),
        (6, ["devices", "--device-file", "nowhere.json"], "cannot read nowhere.json: No such file"),
        (6, ["devices", "--device-file", "empty"], "folder empty holds no .json, .yaml or .yml file"),
        (6, ["devices", "--device-file", "wrong.json"], "wrong.json is no Device document: required field missing"),
    ],
)
def test_what_is_refused(tmp_path: Path, code: int, arguments: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.json").write_text("{}")
    assert message in refused(code, *arguments, cwd=tmp_path)


def test_the_environment_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {**find_device("t4").to_data(), "id": "my-t4"}
    (tmp_path / "mine.json").write_text(json.dumps(data))
    monkeypatch.setenv("MODELMETER_DEVICES", str(tmp_path / "mine.json"))
    assert document("devices", "my-t4")["id"] == "my-t4"


def test_the_file_of_the_documentation(tmp_path: Path) -> None:
    page = Path(__file__).parent.parent / "docs" / "devices.md"
    (block,) = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "my-card.yaml").write_text(block, encoding="utf-8")
    outcome = command("devices", "my-card", "--device-file", "my-card.yaml", cwd=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    assert "250 TFLOP/s" in outcome.out and "6.5 µs" in outcome.out


def test_no_colour() -> None:
    environment = {**os.environ, "NO_COLOR": "1", "FORCE_COLOR": "", "TTY_COMPATIBLE": "1", "TERM": "xterm-256color"}
    done = subprocess.run(
        [sys.executable, "-m", "modelmeter", "devices"], capture_output=True, env=environment, timeout=60, check=True
    )
    assert b"\x1b[3" not in done.stdout and b"\x1b[38" not in done.stdout


@pytest.mark.parametrize("arguments", [["devices"], ["devices", "h200"], ["devices", "h20"], ["devices", "--json"]])
def test_torch_is_not_loaded(arguments: list[str]) -> None:
    code = (
        f"import sys\nfrom modelmeter.cli import run\nrun({arguments!r})\n"
        "print([name for name in ('torch', 'transformers', 'PIL', 'ruamel.yaml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
