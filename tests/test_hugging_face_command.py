"""Hugging Face architectures by name, with overrides, own inputs and expert implementations, through the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command import CONFIGURATION, LLAMA, SCENARIO, TRACING, USAGE, command, document, write_json
from hugging_face_models import SMALL

TINY_LLAMA = tuple(
    part
    for key, value in LLAMA.items()
    if key not in ("model_type", "max_position_embeddings")
    for part in ("--set", f"{key}={value}")
)
"""Options that make the default llama small; its room for positions stays."""


def flops(found: dict[str, Any]) -> int:
    return sum(cost["matrix_flops"] for cost in found["stages"].values())


def test_an_architecture_by_name_is_that_of_its_configuration(tmp_path: Path) -> None:
    write_json(tmp_path / "c.json", {**LLAMA, "max_position_embeddings": 2048})
    by_name = document("trace", "hf:llama", *TINY_LLAMA, "--input-ids", "1x8", cwd=tmp_path)
    by_file = document("trace", "c.json", "--input-ids", "1x8", cwd=tmp_path)
    assert by_name["model"]["name"] == "llama"
    assert {**by_name["model"], "name": ""} == {**by_file["model"], "name": ""}
    assert by_name["stages"] == by_file["stages"]
    with_head = document("trace", "hf:LlamaForCausalLM", *TINY_LLAMA, "--input-ids", "1x8", cwd=tmp_path)
    head = 2 * 8 * LLAMA["hidden_size"] * LLAMA["vocab_size"]
    assert flops(with_head) == flops(by_file) + head


def test_settings_reach_into_parts(tmp_path: Path) -> None:
    write_json(tmp_path / "c.json", {"model_type": "llava", **SMALL["llava"]})
    whole = document("trace", "c.json", cwd=tmp_path)
    fewer = document("trace", "c.json", "--set", "text_config.num_hidden_layers=1", cwd=tmp_path)
    assert whole["model"]["config"]["text_config"]["num_hidden_layers"] == 2
    assert fewer["model"]["config"]["text_config"]["num_hidden_layers"] == 1
    assert whole["model"]["config"]["vision_config"] == fewer["model"]["config"]["vision_config"]
    assert flops(fewer) < flops(whole)


def test_a_prompt_has_room_for_its_image(tmp_path: Path) -> None:
    write_json(tmp_path / "c.json", {"model_type": "llava", **SMALL["llava"]})
    found = document("trace", "c.json", "--input-ids", "2x40", "--decode-steps", "2", cwd=tmp_path)
    assert found["scenario"]["inputs"]["pixel_values"] == {"dtype": "torch.bfloat16", "shape": [2, 3, 32, 32]}
    assert found["scenario"]["seq_len"] == 40
    assert [forward["name"] for forward in found["forwards"]] == ["prefill", "decode 1", "decode 2"]
    seen = [any(name.startswith("vision_tower") for name in forward["costs"]) for forward in found["forwards"]]
    assert seen == [True, False, False]
    short = command("trace", "c.json", "--input-ids", "1x16", cwd=tmp_path)
    assert short.code == SCENARIO
    assert "16 positions of images and sounds leave no room in a prompt of 16" in short.err


def test_own_inputs(tmp_path: Path) -> None:
    write_json(tmp_path / "c.json", {"model_type": "vit", **SMALL["vit"]})
    (tmp_path / "inputs.yaml").write_text("pixel_values: {shape: [3, 3, 32, 32], dtype: bfloat16}\n")
    one = document("trace", "c.json", cwd=tmp_path)
    three = document("trace", "c.json", "--inputs", "inputs.yaml", cwd=tmp_path)
    assert three["scenario"]["inputs"] == {"pixel_values": {"dtype": "torch.bfloat16", "shape": [3, 3, 32, 32]}}
    assert three["scenario"]["own_inputs"] == {"pixel_values": {"dtype": "bfloat16", "shape": [3, 3, 32, 32]}}
    assert flops(three) == 3 * flops(one)


def test_the_processor_of_a_snapshot_makes_the_picture(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"model_type": "convnext", **SMALL["convnext"]})
    settings = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}}
    write_json(tmp_path / "preprocessor_config.json", settings)
    found = document("trace", ".", cwd=tmp_path)
    assert found["scenario"]["inputs"]["pixel_values"]["shape"] == [1, 3, 384, 384]
    assert found["scenario"]["processors"]["image_processor"] == settings
    (tmp_path / "preprocessor_config.json").write_text("[]")
    assert command("trace", ".", cwd=tmp_path).code == CONFIGURATION


@pytest.mark.parametrize("name", ["qwen3_moe", "deepseek_v3", "mixtral"])
def test_experts_cost_the_same_however_they_run(tmp_path: Path, name: str) -> None:
    write_json(tmp_path / "c.json", {"model_type": name, **SMALL[name]})
    options = ("--input-ids", "1x16", "--decode-steps", "1", "--dtype", "bfloat16")
    found = {
        experts: document("trace", "c.json", *options, "--experts", experts, cwd=tmp_path)
        for experts in ("eager", "grouped_mm", "batched_mm")
    }
    assert {key: flops(graph) for key, graph in found.items()} == dict.fromkeys(found, flops(found["eager"]))
    assert [graph["scenario"]["experts"] for graph in found.values()] == list(found)
    operators = {key: {op for names in graph["operators"].values() for op in names} for key, graph in found.items()}
    assert "aten._grouped_mm" in operators["grouped_mm"] - operators["eager"] - operators["batched_mm"]
    assert not any(graph["unknown_operators"] for graph in found.values())


def test_a_report_holds_the_inputs_and_is_traced_again_with_them(tmp_path: Path) -> None:
    write_json(tmp_path / "c.json", {"model_type": "vit", **SMALL["vit"]})
    (tmp_path / "inputs.yaml").write_text("pixel_values: {shape: [3, 3, 32, 32]}\n")
    made = command("analyze", "c.json", "--inputs", "inputs.yaml", "--out", "r", "--quiet", cwd=tmp_path)
    assert made.code == 0, made.err
    again = command("what-if", "r/report.json", "--attention", "eager", "--retrace", "--out", "e", cwd=tmp_path)
    assert again.code == 0, again.err
    costs = [json.loads((tmp_path / name / "report.json").read_text())["totals"]["costs"] for name in ("r", "e")]
    assert costs[0]["matrix_flops"] == costs[1]["matrix_flops"]
    assert costs[0]["launches"] < costs[1]["launches"]


def test_a_tower_that_fails_is_told_in_one_line(tmp_path: Path) -> None:
    small = SMALL["gemma3"]
    write_json(tmp_path / "c.json", {"model_type": "gemma3", **small, "mm_tokens_per_image": 100})
    found = command("trace", "c.json", cwd=tmp_path)
    assert found.code == TRACING
    assert found.err.startswith("modelmeter: the features of its images or sounds raised RuntimeError: ")
    assert found.err.count("\n") == 1


BAD: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no architecture": (("hf:lama",), USAGE, "unknown architecture 'lama'; did you mean 'llama'?"),
    "no key": (("hf:llama", "--set", "num_hidden_layer=2"), USAGE, "did you mean 'num_hidden_layers'?"),
    "no pair": (("hf:llama", "--set", "num_hidden_layers"), USAGE, "--set 'num_hidden_layers' sets nothing"),
    "twice": (("hf:llama", "--set", "vocab_size=8", "--set", "vocab_size=9"), USAGE, "--set gives vocab_size twice"),
    "family": (("deepseek-ocr", "--set", "a=1"), USAGE, "--set is for Hugging Face configurations"),
    "no inputs": (("hf:vit", "--inputs", "none.yaml"), SCENARIO, "cannot read inputs none.yaml"),
    "no argument": (("hf:vit", "--inputs", "other.yaml"), USAGE, "did you mean 'pixel_values'?"),
    "no shape": (("hf:vit", "--inputs", "empty.yaml"), SCENARIO, "needs a shape or values, and not both"),
    "no yaml": (("hf:vit", "--inputs", "broken.yaml"), SCENARIO, "is no YAML"),
    "no dtype": (("hf:vit", "--inputs", "dtype.yaml"), USAGE, "did you mean 'bfloat16'?"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    (tmp_path / "other.yaml").write_text("pixel_value: {shape: [1, 3, 224, 224]}\n")
    (tmp_path / "empty.yaml").write_text("pixel_values: {dtype: bfloat16}\n")
    (tmp_path / "broken.yaml").write_text("pixel_values: {shape: [1\n")
    (tmp_path / "dtype.yaml").write_text("pixel_values: {shape: [1, 3, 224, 224], dtype: bfloat}\n")
    arguments, code, words = BAD[case]
    found = command("trace", *arguments, cwd=tmp_path)
    assert found.code == code
    assert words in found.err
    assert found.err.count("\n") == 1
    assert not found.out
