"""Hugging Face configurations through the command line; their work counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from command import LLAMA, command, document, write_json

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "qwen3_moe": {
        **LLAMA,
        "model_type": "qwen3_moe",
        "head_dim": 8,
        "moe_intermediate_size": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
    },
    "bert": {
        "model_type": "bert",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "vocab_size": 50,
        "max_position_embeddings": 64,
    },
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 50, "n_positions": 64},
}


def llama_flops(config: dict[str, Any], tokens: int, attended: int) -> int:
    """Multiply-adds of projections, scores and values, MLP and head, twice; every score counts, causal or not."""
    width, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    size = width // heads
    projections = tokens * width * (2 * width + 2 * config["num_key_value_heads"] * size)
    attention = 2 * heads * tokens * attended * size
    mlp = 3 * tokens * width * inner
    layers = config["num_hidden_layers"] * (projections + attention + mlp)
    return 2 * (layers + tokens * width * config["vocab_size"])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_llama_is_what_the_hand_counts(tmp_path: Path, attention: str) -> None:
    config = {**LLAMA, "architectures": ["LlamaForCausalLM"]}
    write_json(tmp_path / "c.json", config)
    found = document(
        *("trace", "c.json", "--input-ids", "1x64", "--decode-steps", "2", "--attention", attention), cwd=tmp_path
    )
    # Rotary angles are a product of matrices in some versions of transformers and not in others.
    flops = [
        forward["costs"]["LlamaForCausalLM"]["total"]["matrix_flops"]
        - forward["costs"]["rotary_emb"]["total"]["matrix_flops"]
        for forward in found["forwards"]
    ]
    assert [forward["name"] for forward in found["forwards"]] == ["prefill", "decode 1", "decode 2"]
    assert flops == [
        llama_flops(config, 64, 64),
        llama_flops(config, 1, 65),
        llama_flops(config, 1, 66),
    ]
    operators = {name for names in found["operators"].values() for name in names}
    assert any("scaled_dot_product" in name for name in operators) == (attention == "sdpa")
    # Two layers, key and value, two heads of eight, two bytes, per position.
    assert [sum(sizes[i] for sizes in found["kv_cache"].values()) for i in range(3)] == [
        2 * 2 * 2 * 8 * 2 * positions for positions in (64, 65, 66)
    ]
    assert not found["unknown_operators"]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_other_models(tmp_path: Path, name: str) -> None:
    write_json(tmp_path / "c.json", CONFIGURATIONS[name])
    steps = "0" if name == "bert" else "1"
    found = document("trace", "c.json", "--input-ids", "2x16", "--decode-steps", steps, cwd=tmp_path)
    assert found["model"]["model_type"] == name
    assert len(found["forwards"]) == int(steps) + 1
    assert not found["unknown_operators"]
    assert sum(cost["matrix_flops"] for cost in found["stages"].values()) > 0
    assert command("trace", "c.json", "--input-ids", "2x16", cwd=tmp_path).code == 0


def test_the_scenario_of_the_document(tmp_path: Path) -> None:
    write_json(tmp_path / "c.json", LLAMA)
    (tmp_path / "w.yaml").write_text("batch: 3\ndecode_steps: 1\n")
    found = document(
        *("trace", "c.json", "--input-ids", "3x16", "--dtype", "float32", "--devices", "2", "--tensor-parallel", "2"),
        *("--device", "a100-40g", "--execution", "graph", "--workload", "w.yaml"),
        cwd=tmp_path,
    )
    assert found["scenario"] == {
        "attention": "sdpa",
        "batch": 3,
        "decode_steps": 1,
        "device": "a100-40g",
        "devices": 2,
        "dtype": "float32",
        "execution": "graph",
        "expert_parallel": 1,
        "input_ids": [3, 16],
        "routing": "balanced",
        "seq_len": 16,
        "tensor_parallel": 2,
    }


@pytest.mark.parametrize("architectures", [[], ["LlamaForCausalLM"]])
@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_the_scenario_says_in_which_dtype(tmp_path: Path, key: str, architectures: list[str]) -> None:
    write_json(tmp_path / "c.json", {**LLAMA, key: "float32", "architectures": architectures})
    found = document("trace", "c.json", "--input-ids", "1x4", cwd=tmp_path)
    dtypes = {dtype for info in found["parameters"].values() for dtype in info["dtypes"]}
    assert dtypes == {"torch.bfloat16"}


def test_a_prompt_of_512_unless_told(tmp_path: Path) -> None:
    write_json(tmp_path / "c.json", {**LLAMA, "max_position_embeddings": 1024})
    found = document("trace", "c.json", "--batch", "2", cwd=tmp_path)
    assert found["scenario"]["input_ids"] == [2, 512]


def test_folders_and_names(tmp_path: Path) -> None:
    folder = tmp_path / "my-llama"
    folder.mkdir()
    write_json(folder / "config.json", LLAMA)
    for subject in ("./my-llama", "my-llama/config.json", "my-llama"):
        assert document("trace", subject, "--input-ids", "1x4", cwd=tmp_path)["model"]["name"] == "my-llama"
    write_json(tmp_path / "other.json", LLAMA)
    assert document("trace", "other.json", "--input-ids", "1x4", cwd=tmp_path)["model"]["name"] == "other.json"


def test_configurations_with_infinity(tmp_path: Path) -> None:
    write_json(tmp_path / "c.json", {**LLAMA, "time_step_limit": [0.0, float("inf")]})
    found = document("trace", "c.json", "--input-ids", "1x4", cwd=tmp_path)
    assert "inf" in str(found["model"]["config"]["time_step_limit"]).lower()
