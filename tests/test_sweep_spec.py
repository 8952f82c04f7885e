"""Specifications of sweeps: what they may say, and the one line for whatever is wrong, with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command import CONFIGURATION, SCENARIO, USAGE, command, refused, write_small
from modelmeter.cost.catalogue import find_device
from modelmeter.families.registry import families
from modelmeter.planning.sweep_columns import DEFAULT_RESULTS
from modelmeter.planning.sweep_plan import plan_sweep
from modelmeter.planning.sweep_spec import SweepSpec, read_sweep
from modelmeter.schema.scenario import Page
from small import SMALL_SIZES, small_config
from sweeps import write_spec

DOCUMENT = 6

AXES = {"batch": [1, 2]}


def read(folder: Path, text: str) -> SweepSpec:
    path = folder / "spec.yaml"
    path.write_text(text)
    return read_sweep(path, families())


def test_everything_that_a_specification_says(tmp_path: Path) -> None:
    write_small(tmp_path)
    device = find_device("l4").to_data() | {"id": "my-card"}
    (tmp_path / "my-card.json").write_text(json.dumps(device))
    (tmp_path / "table.json").write_text("[[0, 1, 2], [3, 4, 5]]")
    spec = read(
        tmp_path,
        """
        model: small.json
        base:
          workload: dsocr-bulk-v1
          base_size: 128
          image_size: 64
          device: my-card.json
        axes:
          max_new_tokens: {from: 1, to: 100, times: 10}
          pages: [1240x1754, 2x1, {grid: 1x1}, [700x700, 3x1]]
          batch: {from: 2, to: 11, step: 4}
          crop_mode: [true, false]
          routing: [balanced, table.json]
        columns: [memory_bytes, total_time_s_high]
        """,
    )
    assert spec.model == str(tmp_path / "small.json")
    assert spec.axes.scenario.text_tokens == 10 and spec.axes.scenario.head == "last", "the profile's"
    assert spec.axes.scenario.device == "my-card"
    assert [each.name for each in spec.axes.devices] == ["L4"]
    assert spec.names == {
        "max_new_tokens": "decode_steps",
        "pages": "pages",
        "batch": "batch",
        "crop_mode": "crop_mode",
        "routing": "routing",
    }
    assert list(spec.axes.named) == ["routing", "pages", "crop_mode", "decode_steps", "batch"]
    assert spec.axes.named["decode_steps"] == (0, 9, 99)
    assert spec.axes.named["batch"] == (2, 6, 10)
    assert spec.axes.named["pages"][1:] == (
        (Page(grid=(2, 1)),),
        (Page(grid=(1, 1)),),
        (Page(700, 700), Page(grid=(3, 1))),
    )
    assert spec.shown("pages") == ["1240x1754", "grid 2x1", "grid 1x1", "700x700+grid 3x1"]
    assert spec.shown("max_new_tokens") == [1, 10, 100]
    assert spec.shown("routing") == ["balanced", "table.json"]
    assert spec.results == ("memory_bytes", "total_time_s_high")


def test_what_is_not_said_has_a_default(tmp_path: Path) -> None:
    spec = read(tmp_path, "axes: {batch: [1]}")
    assert spec.model == "deepseek-ocr"
    assert spec.axes.scenario.decode_steps == 255
    assert spec.axes.devices == (find_device("h100-sxm"),)
    assert spec.results == DEFAULT_RESULTS


def test_a_key_that_is_given_replaces_what_follows_from_it_in_a_profile(tmp_path: Path) -> None:
    spec = read(tmp_path, "base: {workload: dsocr-bulk-v1}\naxes: {seq_len: [500]}")
    assert spec.axes.scenario.text_tokens is None


@pytest.mark.parametrize(
    ("spec", "code", "message"),
    [
        ({"axis": AXES}, USAGE, "unknown key in spec.yaml 'axis'; did you mean 'axes'?"),
        ({}, USAGE, "spec.yaml has no axes; give at least one, for example 'axes: {batch: [1, 8]}'"),
        ({"axes": {}}, USAGE, "spec.yaml has no axes"),
        ({"axes": [1]}, SCENARIO, "axes is [1] in spec.yaml; give keys and values"),
        ({"axes": {"batches": [1]}}, USAGE, "unknown axis in spec.yaml 'batches'; did you mean 'batch'?"),
        ({"axes": {"batch": 3}}, SCENARIO, "batch is 3 @ $.axes.batch of spec.yaml; give a list of values, or a range"),
        ({"axes": {"batch": []}}, SCENARIO, "batch is [] @ $.axes.batch of spec.yaml"),
        ({"axes": {"mode": "tiny"}}, SCENARIO, "mode is 'tiny' @ $.axes.mode of spec.yaml; give a list of values"),
        ({"axes": {"batch": [1, "8"]}}, SCENARIO, "--batch is '8' @ $.axes.batch[1] of spec.yaml; give a whole"),
        ({"axes": {"batch": [True]}}, SCENARIO, "--batch is True @ $.axes.batch[0]"),
        ({"axes": {"batch": [1.0]}}, SCENARIO, "--batch is 1.0 @ $.axes.batch[0]"),
        ({"axes": {"batch": [None]}}, SCENARIO, "--batch is None @ $.axes.batch[0]"),
        ({"axes": {"batch": [2, 3, 2]}}, SCENARIO, "batch has 2 twice @ $.axes.batch[2] of spec.yaml; give every"),
        ({"axes": {"head": ["alle"]}}, USAGE, "unknown head 'alle' @ $.axes.head[0] of spec.yaml; did you mean 'all'?"),
        ({"axes": {"head": [["all"]]}}, USAGE, "unknown head"),
        ({"axes": {"dtype": ["bf16"]}}, USAGE, "unknown dtype 'bf16' @ $.axes.dtype[0]"),
        ({"axes": {"crop_mode": ["yes"]}}, SCENARIO, "--crop-mode is 'yes' @ $.axes.crop_mode[0]"),
        ({"axes": {"device": ["h100"]}}, USAGE, "unknown device 'h100' @ $.axes.device[0] of spec.yaml; did you mean"),
        ({"axes": {"device": ["no.json"]}}, DOCUMENT, "cannot read no.json: No such file or directory @ $.axes.dev"),
        ({"axes": {"routing": ["zipf"]}}, SCENARIO, "routing policy 'zipf': '' is no valid parameter @ $.axes.routing"),
        ({"axes": {"routing": ["no.json"]}}, SCENARIO, "cannot read the routing table no.json"),
        ({"axes": {"pages": ["A4"]}}, SCENARIO, "page 'A4' is no size @ $.axes.pages[0] of spec.yaml; write 1240x1754"),
        ({"axes": {"pages": [12]}}, SCENARIO, "page 12 is no size @ $.axes.pages[0]"),
        ({"axes": {"pages": [[]]}}, SCENARIO, "page [] is no size @ $.axes.pages[0]"),
        ({"axes": {"max_new_tokens": [0]}}, SCENARIO, "max_new_tokens is 0 @ $.axes.max_new_tokens[0]"),
        ({"axes": {"tensor_parallel": [0]}}, SCENARIO, "--tensor-parallel is 0 @ $.axes.tensor_parallel[0]"),
        ({"axes": {"batch": {"from": 1, "to": 9}}}, SCENARIO, "the range of batch has from, to @ $.axes.batch of spec"),
        ({"axes": {"batch": {}}}, SCENARIO, "the range of batch has no words @ $.axes.batch"),
        (
            {"axes": {"batch": {"form": 1}}},
            USAGE,
            "unknown word in the range of batch 'form' @ $.axes.batch of spec.yaml",
        ),
        (
            {"axes": {"batch": {"from": 1, "to": 9, "step": 1, "times": 2}}},
            SCENARIO,
            "the range of batch has from, to, step, times",
        ),
        ({"axes": {"batch": {"from": 1, "to": 9, "step": 0}}}, SCENARIO, "step in the range of batch is 0 @ $.axes"),
        ({"axes": {"batch": {"from": 1, "to": 9, "times": 1}}}, SCENARIO, "times in the range of batch is 1"),
        ({"axes": {"batch": {"from": 0, "to": 9, "times": 2}}}, SCENARIO, "from in the range of batch is 0"),
        ({"axes": {"batch": {"from": 0, "to": 9, "step": 2}}}, SCENARIO, "--batch is 0 @ $.axes.batch of spec.yaml"),
        ({"axes": {"batch": {"from": 9, "to": 1, "step": 2}}}, SCENARIO, "the range of batch goes from 9 to 1"),
        ({"axes": {"batch": {"from": 1, "to": 9, "step": 1.5}}}, SCENARIO, "step in the range of batch is 1.5"),
        (
            {"axes": {"batch": {"from": 1, "to": 10**12, "step": 1}}},
            SCENARIO,
            "the range of batch has 1,000,000,000,000 numbers @ $.axes.batch of spec.yaml; give at most 1,000,000",
        ),
        ({"axes": {"head": {"from": 1, "to": 2, "step": 1}}}, SCENARIO, "head is {'from': 1, 'to': 2, 'step': 1} @"),
        ({"base": {"batc": 1}, "axes": AXES}, USAGE, "unknown key of base in spec.yaml 'batc'; did you mean 'batch'?"),
        ({"base": {"batch": 1}, "axes": AXES}, USAGE, "batch of axes and batch of base say the same; give one of them"),
        (
            {"base": {"decode_steps": 1}, "axes": {"max_new_tokens": [1]}},
            USAGE,
            "max_new_tokens of axes and decode_steps of base say the same",
        ),
        (
            {"base": {"seq_len": 400}, "axes": {"text_tokens": [1]}},
            USAGE,
            "text_tokens of axes follows from seq_len of base; give one of them",
        ),
        ({"base": {"head": None}, "axes": AXES}, SCENARIO, "head has no value @ $.base.head of spec.yaml"),
        ({"base": {"text_tokens": -1}, "axes": AXES}, SCENARIO, "--text-tokens is -1 @ $.base of spec.yaml"),
        ({"base": {"device": "h1000"}, "axes": AXES}, USAGE, "unknown device 'h1000' @ $.base.device of spec.yaml"),
        ({"base": {"workload": "dsocr"}, "axes": AXES}, USAGE, "unknown workload profile 'dsocr'; did you mean"),
        ({"base": {"workload": 3}, "axes": AXES}, SCENARIO, "base.workload is 3 in spec.yaml; give a name"),
        ({"columns": [], "axes": AXES}, SCENARIO, "columns is [] in spec.yaml; give a list of names"),
        (
            {"columns": ["price"], "axes": AXES},
            USAGE,
            "unknown column 'price' @ $.columns[0] of spec.yaml; did you mean",
        ),
        ({"columns": ["launches", "launches"], "axes": AXES}, USAGE, "column launches stands twice in spec.yaml"),
        (
            {"model": "deepsek-ocr", "axes": AXES},
            USAGE,
            "unknown model family 'deepsek-ocr'; did you mean 'deepseek-ocr'?",
        ),
        ({"model": 3, "axes": AXES}, SCENARIO, "model is 3 in spec.yaml; give a name"),
        ({"model": "no.json", "axes": AXES}, CONFIGURATION, "cannot read no.json"),
        ({"model": "llama.json", "axes": AXES}, USAGE, "llama.json has no closed form; give one of deepseek-ocr"),
        ({"calibration": "no.json", "axes": AXES}, DOCUMENT, "cannot read no.json"),
    ],
    ids=str,
)
def test_what_is_wrong_is_one_line(tmp_path: Path, spec: dict[str, Any], code: int, message: str) -> None:
    write_spec(tmp_path, spec)
    (tmp_path / "llama.json").write_text('{"model_type": "llama"}')
    assert refused(code, "sweep", "spec.yaml", "--out", "rows.csv", cwd=tmp_path).startswith(message)


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("axes: {batch: [1", DOCUMENT, "spec.yaml is no YAML document"),
        ("axes: {batch: [1]}\naxes: {batch: [2]}", DOCUMENT, "spec.yaml is no YAML document"),
        ("- 1", DOCUMENT, "spec.yaml holds no keys and values; give axes with values, as docs/sweeps.md shows"),
        ("", DOCUMENT, "spec.yaml holds no keys and values"),
        ("axes: {crop_mode: [on]}", SCENARIO, "--crop-mode is 'on' @ $.axes.crop_mode[0]"),
    ],
)
def test_what_is_no_specification_is_refused(tmp_path: Path, text: str, code: int, message: str) -> None:
    (tmp_path / "spec.yaml").write_text(text)
    assert refused(code, "sweep", "spec.yaml", "--out", "rows.csv", cwd=tmp_path).startswith(message)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refused(DOCUMENT, "sweep", "no.yaml", "--out", "rows.csv", cwd=tmp_path).startswith("cannot read no.yaml")


def test_the_same_is_the_same_sweep_wherever_it_lies(tmp_path: Path) -> None:
    def fingerprint(folder: Path, spec: dict[str, Any], table: str = "[[0, 1, 2]]") -> str:
        folder.mkdir(exist_ok=True)
        (folder / "table.json").write_text(table)
        (family,) = families().values()
        return plan_sweep(family, small_config(), read_sweep(write_spec(folder, spec), families())).fingerprint()

    spec: dict[str, Any] = {
        "model": "small.json",
        "base": {**SMALL_SIZES, "routing": "table.json"},
        "axes": {"batch": [1, 2]},
    }
    first = fingerprint(tmp_path / "a", spec)
    assert fingerprint(tmp_path / "b", spec) == first
    assert fingerprint(tmp_path / "c", spec, table="[[0, 1, 3]]") != first
    others = [
        {**spec, "axes": {"batch": [1, 3]}},
        {**spec, "axes": {"batch": [2, 1]}},
        {**spec, "axes": {"text_tokens": [1, 2]}},
        {**spec, "base": {**spec["base"], "head": "last"}},
        {**spec, "base": {**spec["base"], "device": "h200"}},
        {**spec, "axes": {"batch": [1, 2], "routing": ["table.json"]}, "base": SMALL_SIZES},
    ]
    found = [fingerprint(tmp_path / str(number), other) for number, other in enumerate(others)]
    assert len({first, *found}) == 1 + len(others)


def test_help_names_the_options(tmp_path: Path) -> None:
    shown = command("sweep", "--help", cwd=tmp_path).out
    assert all(option in shown for option in ("--out", "--best", "--force", "--json", "--quiet"))


def test_a_mistyped_model_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    write_spec(tmp_path / "inside", {"model": "deepsek-ocr", "axes": AXES})
    line = refused(USAGE, "sweep", "inside/spec.yaml", "--out", "rows.csv", cwd=tmp_path)
    assert line == "unknown model family 'deepsek-ocr'; did you mean 'deepseek-ocr'?"
