"""The trace command with families and functions: what it prints, writes, keeps and overrides."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import fields
from PIL import Image

import modelmeter
from command import SMALL, command, document, listing, write_json, write_small
from modelmeter.schema import CallGraph, Scenario

PROGRAM = Path(sys.executable).parent / "modelmeter"
RESULTS = ["callgraph.json", "runtime-metadata.json"]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    write_small(tmp_path)
    return tmp_path


def scenario(here: Path, *arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = document(*SMALL, *arguments, cwd=here)["scenario"]
    return found


def program(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [PROGRAM, *map(str, arguments)], cwd=cwd, env={**os.environ, **environment}, capture_output=True, timeout=120
    )


# -- what is printed and written -----------------------------------------------------------------------


def test_help_and_version() -> None:
    assert command("--version").out == f"{modelmeter.__version__}\n"
    assert "trace" in command("--help").out
    assert command().out == command("--help").out
    text = command("trace", "--help").out
    for option in [
        *("--input-ids", "--out", "--json", "--force", "--quiet", "--events", "--only", "--stage", "--prefix"),
        *("--depth", "--workload", "--page", "--grid", "--max-new-tokens"),
        *(f"--{a.name.replace('_', '-')}" for a in fields(Scenario) if a.name != "pages"),
    ]:
        assert option in text, option
    assert "--no-json" not in text and "--empty" not in text and "--no-force" not in text


def test_tables_fit_and_progress_is_silent(here: Path) -> None:
    outcome = command(*SMALL, "--grid", "3x2", "--decode-steps", "2", cwd=here)
    assert (outcome.code, outcome.err) == (0, "")
    assert max(map(len, outcome.out.splitlines())) <= 100
    assert "experts.[0-7]" in outcome.out and "decode 2" in outcome.out
    assert "\x1b" not in outcome.out


def test_depth_of_the_tree(here: Path) -> None:
    short = command(*SMALL, "--depth", "1", cwd=here).out
    assert "lm_head" in short and "sam_model" not in short


def test_json_is_the_document_and_nothing_else(here: Path) -> None:
    outcome = command(*SMALL, "--json", "--out", "results", cwd=here)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == (here / "results/callgraph.json").read_text()
    assert outcome.out == CallGraph.load(here / "results/callgraph.json").to_json()
    assert outcome.out == command(*SMALL, "--json", "--quiet", cwd=here).out


def test_results_in_a_folder(here: Path) -> None:
    outcome = command(*SMALL, "--grid", "2x1", "--out", "deep/results", cwd=here)
    assert outcome.out.splitlines()[-1] == ("Wrote deep/results/callgraph.json, deep/results/runtime-metadata.json")
    assert sorted(os.listdir(here / "deep/results")) == RESULTS
    runtime = json.loads((here / "deep/results/runtime-metadata.json").read_text())
    assert runtime["schema_version"] == 1
    assert runtime["runtime_events"] == CallGraph.load(here / "deep/results/callgraph.json").runtime_events
    assert {event["kind"] for event in runtime["runtime_events"]} == {"vision_inputs", "llm_stack", "expert_tokens"}


def test_quiet(here: Path) -> None:
    assert command(*SMALL, "--quiet", "--out", "results", cwd=here).out == ""
    assert "total" in command(*SMALL, "--quiet", cwd=here).out


def test_force_overwrites(here: Path) -> None:
    (here / "results").mkdir()
    for name in RESULTS:
        (here / "results" / name).write_text("old")
    assert command(*SMALL, "--out", "results", "--force", cwd=here).code == 0
    assert sorted(os.listdir(here / "results")) == RESULTS
    assert CallGraph.load(here / "results/callgraph.json").call_counts


def test_two_runs_give_the_same_bytes(here: Path) -> None:
    arguments = [*SMALL, "--grid", "2x1", "--decode-steps", "1", "--events", "50", "--routing", "random:3", "--quiet"]
    done = program(*arguments, "--out", "one", cwd=here, PYTHONHASHSEED="1")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    done = program(*arguments, "--out", "two", "--json", cwd=here, PYTHONHASHSEED="2", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert listing(here / "one") == listing(here / "two")
    assert sorted(listing(here / "one")) == RESULTS
    assert done.stdout == (here / "one/callgraph.json").read_bytes()


def test_events_are_bounded_in_order_and_nested(here: Path) -> None:
    whole = document(*SMALL, "--events", "100000", cwd=here)
    events = whole["events"]
    assert [event["index"] for event in events] == list(range(2 * sum(whole["call_counts"].values())))
    running: list[str] = []
    for event in events:
        if event["event"] == "exit":
            assert running.pop() == event["name"]
        assert event["parent"] == (running[-1] if running else None)
        if event["event"] == "enter":
            running.append(event["name"])
    assert not running
    assert document(*SMALL, "--events", "7", cwd=here)["events"] == events[:7]
    assert document(*SMALL, cwd=here)["events"] == []


@pytest.mark.parametrize(
    ("arguments", "there", "gone"),
    [
        (["--only", "heavy"], "layers.1.mlp.gate", "layers.1.mlp"),
        (["--stage", "vision"], "sam_model.neck", "layers.0"),
        (["--stage", "decode"], "layers.0", "sam_model"),
        (["--prefix", "layers.1"], "layers.1.mlp.gate", "layers.0"),
        (["--prefix", "layers", "--only", "heavy"], "layers.1.mlp.gate", "layers.1.mlp"),
    ],
)
def test_views(here: Path, arguments: list[str], there: str, gone: str) -> None:
    whole = document(*SMALL, "--decode-steps", "1", cwd=here)
    view = document(*SMALL, "--decode-steps", "1", *arguments, cwd=here)
    assert there in view["call_counts"] and gone not in view["call_counts"]
    assert gone in whole["call_counts"]
    assert view["stages"] == whole["stages"]


# -- terminals -----------------------------------------------------------------------------------------


def on_a_terminal(arguments: list[object], cwd: Path, **environment: str) -> tuple[int, str]:
    """Exit code and all output of the program where stdout and stderr are one terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "200", **environment},
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    received = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # how a terminal ends on Linux
            break
        if not chunk:
            break
        received += chunk
    os.close(master)
    return process.wait(60), received.decode()


def test_colours_and_progress_on_a_terminal(here: Path) -> None:
    colour = re.compile(r"\x1b\[[0-9;]*3[0-7]m|\x1b\[38;")
    code, text = on_a_terminal([*SMALL], here)
    assert code == 0 and colour.search(text) and "Tracing small.json" in text
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert max(len(line.rstrip()) for line in re.split(r"[\r\n]+", plain)) <= 100
    code, text = on_a_terminal([*SMALL, "--quiet"], here, NO_COLOR="1")
    assert code == 0 and not colour.search(text) and "Tracing" not in text


def test_terminals_without_our_letters(here: Path) -> None:
    done = program(*SMALL, cwd=here, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"") and b"total" in done.stdout


def test_nobody_reads_or_nothing_fits(here: Path) -> None:
    process = subprocess.Popen([PROGRAM, *SMALL, "--json"], cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 141
    with open("/dev/full", "wb") as full:
        done = subprocess.run([PROGRAM, *SMALL, "--json"], cwd=here, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 7
    assert done.stderr.decode().startswith("modelmeter: cannot print the result: No space left")
    assert done.stderr.count(b"\n") == 1


def test_an_interrupted_run(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import pathlib, torch\nfrom torch import nn\n"
        "class Slow(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.inner = nn.Linear(4, 4)\n"
        "    def forward(self, x):\n"
        "        pathlib.Path('running').touch()\n"
        "        while True:\n            x = self.inner(x)\n"
        "def build():\n    return Slow(), torch.ones(2, 4)\n"
    )
    (tmp_path / "results").mkdir()
    (tmp_path / "results/callgraph.json").write_text("old")
    before = listing(tmp_path)
    process = subprocess.Popen(
        [PROGRAM, "trace", "slow:build", "--out", "results", "--force"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not (tmp_path / "running").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    (tmp_path / "running").unlink()
    assert (process.returncode, out) == (130, b"")
    assert err == b"modelmeter: interrupted; nothing was overwritten\n"
    assert listing(tmp_path) == before


# -- pages and scenario --------------------------------------------------------------------------------


def test_pages_from_files_pixels_and_grids(here: Path) -> None:
    upright = Image.new("RGB", (300, 900))
    upright.save(here / "upright.png")
    # Stored lying on its side, with the note to turn it: orientation 6 is a quarter turn.
    turned = Image.new("RGB", (900, 300))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(here / "turned.jpg", exif=exif)
    found = scenario(here, "upright.png", "turned.jpg", "--page", "1240x1754", "--grid", "2x1", "--grid", "1x1")
    assert found["num_pages"] == 5
    assert [(p.get("name"), p.get("width"), p.get("height"), p["grid"]) for p in found["pages"]] == [
        ("upright.png", 300, 900, [1, 3]),
        ("turned.jpg", 300, 900, [1, 3]),
        (None, 1240, 1754, [2, 3]),
        (None, None, None, [2, 1]),
        (None, None, None, [1, 1]),
    ]
    one = scenario(here, "upright.png")
    assert found["seq_len"] == 10 + sum(page["image_tokens"] for page in found["pages"])
    assert one["seq_len"] == 10 + one["pages"][0]["image_tokens"]


def test_the_default_page_is_a4(here: Path) -> None:
    assert [(p["width"], p["height"], p["grid"]) for p in scenario(here)["pages"]] == [(1240, 1754, [2, 3])]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK"])
def test_pages_of_any_colour(here: Path, mode: str) -> None:
    Image.new(mode, (70, 90)).save(here / "page.tiff")
    page = scenario(here, "page.tiff")["pages"][0]
    assert (page["width"], page["height"]) == (70, 90)


def test_file_names_that_are_no_text(here: Path) -> None:
    name = os.fsdecode(b"page\xff.png")
    Image.new("RGB", (30, 40)).save(here / "page.png")
    (here / "page.png").rename(here / name)
    assert scenario(here, name)["pages"][0]["name"] == "page?.png"


def test_modes_and_sizes(here: Path) -> None:
    def sizes(*arguments: object) -> tuple[object, ...]:
        found = document("trace", "small.json", "--grid", "1x1", *arguments, cwd=here)["scenario"]
        return found["mode"], found["base_size"], found["image_size"], found["crop_mode"]

    assert sizes("--mode", "tiny") == ("tiny", 512, 512, False)
    assert sizes("--mode", "tiny", "--image-size", "64") == ("tiny", 512, 64, False)
    assert sizes("--mode", "small", "--base-size", "128", "--crop-mode") == ("small", 128, 640, True)
    assert sizes("--base-size", "128", "--no-crop-mode", "--image-size", "80") == ("gundam", 128, 80, False)


def test_lengths(here: Path) -> None:
    images = scenario(here)["pages"][0]["image_tokens"]
    assert scenario(here, "--text-tokens", "3")["seq_len"] == images + 3
    assert scenario(here, "--seq-len", images + 7)["text_tokens"] == 7
    assert scenario(here, "--seq-len", images + 7, "--text-tokens", "7")["seq_len"] == images + 7
    forwards = document(*SMALL, "--max-new-tokens", "3", cwd=here)["forwards"]
    assert [forward["name"] for forward in forwards] == ["prefill", "decode 1", "decode 2"]
    assert scenario(here, "--max-new-tokens", "3", "--decode-steps", "2")["decode_steps"] == 2
    assert scenario(here, "--max-new-tokens", "1")["decode_steps"] == 0


def test_what_is_kept_for_later_commands(here: Path) -> None:
    given = {
        "execution": "graph",
        "device": "rtx-5090",
        "devices": 4,
        "tensor_parallel": 2,
        "expert_parallel": 4,
        "kv_dtype": "float8_e4m3fn",
        "head": "last",
        "attention": "eager",
        "batch": 2,
        "routing": "zipf:1.2",
    }
    options = [part for key, value in given.items() for part in (f"--{key.replace('_', '-')}", value)]
    found = scenario(here, *options)
    assert {key: found[key] for key in given} == given


def test_workload_files_and_options_over_them(here: Path) -> None:
    Image.new("RGB", (300, 900)).save(here / "page.png")
    (here / "w.yaml").write_text(
        "pages: [1240x1754, page.png, {grid: 2x1}]\nmode: tiny\nimage_size: 80\nbatch: 2\nmax_new_tokens: 2\n"
        "seq_len: 400\nattention: sdpa\nvision_attention: sdpa\ncrop_mode: true\n"
    )
    write_json(here / "w.json", {"pages": {"grid": "1x2"}, "decode_steps": 1, "text_tokens": 4})

    def run(*arguments: object) -> dict[str, Any]:
        found: dict[str, Any] = document("trace", "small.json", "--base-size", "128", *arguments, cwd=here)["scenario"]
        return found

    found = run("--workload", "w.yaml")
    assert [page["grid"] for page in found["pages"]] == [[2, 3], [1, 3], [2, 1]]
    assert (found["mode"], found["image_size"], found["batch"], found["decode_steps"]) == ("tiny", 80, 2, 1)
    assert found["seq_len"] == 400
    # An option replaces what the file says of the same thing, also under another key.
    found = run("--workload", "w.yaml", "--text-tokens", "5", "--batch", "1", "--attention", "eager", "--grid", "1x1")
    assert (found["text_tokens"], found["batch"], found["vision_attention"]) == (5, 1, "eager")
    assert [page["grid"] for page in found["pages"]] == [[1, 1]]
    found = run("--workload", "w.yaml", "--mode", "gundam", "--image-size", "64", "--max-new-tokens", "1")
    assert (found["mode"], found["image_size"], found["crop_mode"], found["decode_steps"]) == ("gundam", 64, True, 0)
    found = run("--workload", "w.json", "--image-size", "64")
    assert [page["grid"] for page in found["pages"]] == [[1, 2]]
    assert (found["decode_steps"], found["text_tokens"]) == (1, 4)
    found = run("--workload", "w.json", "--image-size", "64", "--seq-len", "200")
    assert found["seq_len"] == 200


# -- functions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result", ["(linear, (torch.ones(2, 3),))", "(linear, {'input': torch.ones(2, 3)})", "(linear, torch.ones(2, 3))"]
)
def test_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: str) -> None:
    monkeypatch.setattr("sys.path", list(sys.path))
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    # What the function imports lies beside the package, and is found when the function runs.
    (tmp_path / "my_sizes.py").write_text("OUT = 4\n")
    (package / "my_module.py").write_text(
        "import torch\nfrom torch import nn\n"
        f"def build():\n    from my_sizes import OUT\n    linear = nn.Linear(3, OUT)\n    return {result}\n"
    )
    for name in [name for name in sys.modules if name.startswith("my_")]:
        monkeypatch.delitem(sys.modules, name)
    found = document("trace", "my_package.my_module:build", "--devices", "2", "--routing", "worst", cwd=tmp_path)
    assert found["model"]["name"] == "my_package.my_module:build"
    assert found["costs"]["Linear"]["total"]["matrix_flops"] == 2 * 2 * 3 * 4
    assert found["scenario"]["devices"] == 2 and found["scenario"]["routing"] == "worst"
    assert "batch" not in found["scenario"]
