"""A snapshot with code of its own: refused, then traced like any other model; and nothing of it is left behind.

``data/vendor_snapshot`` is a small decoder in the manner of vendors' code: files that import each other,
``.cuda()`` and ``device="cuda"``, a guard that wants a GPU, flash-attn imported with and without a guard, CUDA
autocast, and experts whose counts go through ``.cpu().numpy()``.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from command import CONFIGURATION, LLAMA, TRACING, USAGE, command, document, write_json
from small import small_source

SNAPSHOT = Path(__file__).parent / "data" / "vendor_snapshot"
TRUSTED = ("--input-ids", "2x16", "--trust-remote-code")
MISSING_PACKAGE = 9
KERNELS = {
    "flash": "stand_in.attention",
    "varlen": "stand_in.packed_attention",
    "xformers": "stand_in.attention",
    "plain": "",
    "written_out": "",
}


def trace(kernel: str, *arguments: str) -> dict[str, Any]:
    return document("trace", SNAPSHOT, *TRUSTED, "--set", f"attention_kernel={kernel}", *arguments)


def forward_flops(tokens: int, attended: int, batch: int = 2) -> int:
    """Multiply-adds by hand, twice: projections, attention, one dense and two routed layers, adapter and head."""
    width, inner, keys = 64, 96, 32
    projections = tokens * width * (width + 2 * keys + width)
    attention = 2 * tokens * attended * width
    mlp = 3 * tokens * width * inner
    layers = 3 * (projections + attention) + mlp + 2 * (2 * mlp + tokens * width * 6)
    return 2 * batch * (layers + tokens * width * width + tokens * width * 120)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The snapshot in a folder of its own, whose name is no module's."""
    return shutil.copytree(SNAPSHOT, tmp_path / "Lantern-0.1.b", ignore=shutil.ignore_patterns("__pycache__"))


def changed(folder: Path, **keys: Any) -> Path:
    """The folder with keys of its configuration replaced."""
    source = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**source, **keys})
    return folder


def test_it_is_refused_without_trust(copy: Path) -> None:
    (copy / "modeling_lantern.py").write_text("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n")
    outcome = command("trace", copy)
    assert outcome.code == USAGE
    classes = "LanternConfig, LanternForCausalLM, LanternModel in configuration_lantern.py, modeling_lantern.py"
    assert classes in outcome.err and str(copy) in outcome.err and "--trust-remote-code" in outcome.err
    assert not (copy / "ran").exists()


def test_the_refusal_names_files_that_are_imported() -> None:
    outcome = command("trace", SNAPSHOT)
    for file in ("layers/attention.py", "layers/experts.py", "layers/rotation.py"):
        assert file in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_flops_are_those_of_the_hand_whatever_the_kernel(kernel: str) -> None:
    found = trace(kernel, "--decode-steps", "2")
    flops = [forward["costs"]["LanternForCausalLM"]["total"]["matrix_flops"] for forward in found["forwards"]]
    assert flops == [forward_flops(16, 16), forward_flops(1, 17), forward_flops(1, 18)]
    assert not found["unknown_operators"]
    attentions = {name: held for name, held in found["operators"].items() if name.endswith("self_attn")}
    assert len(attentions) == 3
    for held in attentions.values():
        assert {name for name in held if name.startswith("stand_in.")} == ({KERNELS[kernel]} - {""})
    # Two sequences; keys and values of two heads of sixteen, two bytes each.
    sizes = found["kv_cache"].values()
    assert [sum(held[i] for held in sizes) for i in range(3)] == [3 * 2 * 2 * 64 * n for n in (16, 17, 18)]


def test_vector_work_is_that_of_fused_attention_of_torch() -> None:
    totals = [trace(kernel)["costs"]["LanternForCausalLM"]["total"] for kernel in ("flash", "plain")]
    assert totals[0]["vector_flops"] == totals[1]["vector_flops"]


def test_stand_ins_are_named_in_the_assumptions() -> None:
    named = {
        (note["module"], note["operator"], note["calls"])
        for note in trace("flash")["assumptions"]
        if note["operator"].startswith("stand_in.")
    }
    assert named == {(f"layers.{i}.self_attn", "stand_in.attention", 1) for i in range(3)}
    assert not any(note["operator"].startswith("stand_in.") for note in trace("plain")["assumptions"])


def test_autocast_and_counts_read_by_numpy() -> None:
    found = trace("flash", "--dtype", "float32")
    # The adapter alone is under CUDA autocast.
    assert found["costs"]["adapter"]["own"]["matrix_flops_by_dtype"] == {"torch.bfloat16": 2 * 32 * 64 * 64}
    assert found["costs"]["lm_head"]["own"]["matrix_flops_by_dtype"] == {"torch.float32": 2 * 32 * 64 * 120}
    rows = [
        signature["tensors"][0]["shape"][0] * signature["calls"]
        for i in range(6)
        for signature in found["input_metadata"][f"layers.1.mlp.experts.{i}"]
    ]
    assert sum(rows) == 2 * 32 and max(rows) - min(rows) <= 1


def test_the_second_trace_is_the_first(copy: Path) -> None:
    files = sorted(copy.rglob("*"))
    texts = {command("trace", copy, *TRUSTED, "--json").out for _ in range(2)}
    assert len(texts) == 1 and '"LanternForCausalLM"' in texts.pop()
    assert sorted(copy.rglob("*")) == files, "a trace writes nothing into the snapshot"


def registered() -> tuple[Any, ...]:
    """What of this process the snapshot's code changes."""
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.pytorch_utils import ALL_LAYERNORM_LAYERS

    kernels = ("flash_attn", "xformers", "causal_conv1d", "mamba_ssm", "transformers_modules")
    modules = {name for name in sys.modules if name.partition(".")[0] in kernels}
    mapping = AutoModelForCausalLM._model_mapping._extra_content
    tables = "lantern" in CONFIG_MAPPING, list(ALL_LAYERNORM_LAYERS), dict(mapping)
    return modules, *tables, list(sys.path), list(sys.meta_path)


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_behind(copy: Path, fails: bool) -> None:
    command("trace", "hf:llama", "--set", "num_hidden_layers=1", "--input-ids", "1x2")  # whatever a trace imports
    before = registered()
    if fails:
        text = (copy / "modeling_lantern.py").read_text()
        (copy / "modeling_lantern.py").write_text(text.replace("found = self.model(", "found = self.modle("))
    outcome = command("trace", copy, *TRUSTED)
    assert outcome.code == (TRACING if fails else 0), outcome.err
    assert registered() == before
    if fails:
        assert "LanternForCausalLM" in outcome.err and "modle" in outcome.err


@pytest.mark.skipif(importlib.util.find_spec("flash_attn") is not None, reason="flash-attn is really here")
def test_a_library_imported_meanwhile_sees_no_stand_in(copy: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "a_library.py").write_text("try:\n    import flash_attn\nexcept ImportError:\n    flash_attn = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    file = copy / "modeling_lantern.py"
    file.write_text("import a_library\nassert a_library.flash_attn is None\n" + file.read_text())
    assert command("trace", copy, *TRUSTED).code == 0
    del sys.modules["a_library"]


def test_a_plain_package_that_is_missing_is_named(copy: Path) -> None:
    file = copy / "layers" / "experts.py"
    file.write_text("from no_such_einops import rearrange\n" + file.read_text())
    outcome = command("trace", copy, *TRUSTED)
    assert outcome.code == MISSING_PACKAGE
    assert "'no_such_einops'" in outcome.err and "pip install no-such-einops" in outcome.err


def test_a_kernel_without_a_stand_in_is_named(copy: Path) -> None:
    file = copy / "layers" / "experts.py"
    file.write_text("from flash_attn.ops.fused_dense import FusedDense\n" + file.read_text())
    outcome = command("trace", copy, *TRUSTED)
    assert outcome.code == MISSING_PACKAGE and "flash_attn.ops.fused_dense" in outcome.err


def test_code_of_another_release_says_so(copy: Path) -> None:
    file = copy / "modeling_lantern.py"
    file.write_text("from transformers.cache_utils import CacheOfTheFuture\n" + file.read_text())
    outcome = command("trace", changed(copy, transformers_version="9.1.0"), *TRUSTED)
    assert outcome.code == TRACING and "was written for transformers 9.1.0" in outcome.err


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"auto_map": ["modeling_lantern.LanternModel"]}, "auto_map is"),
        ({"auto_map": {"AutoModel": "LanternModel"}}, "give file.Class"),
        ({"auto_map": {"AutoModel": "../outside.LanternModel"}}, "give file.Class"),
        ({"auto_map": {"AutoConfig": "modeling_lamp.LampConfig"}}, "modeling_lamp.py is not in"),
        ({"auto_map": {"AutoConfig": "configuration_lantern.LampConfig"}}, "has no LampConfig"),
    ],
)
def test_maps_that_name_nothing(copy: Path, keys: dict[str, Any], words: str) -> None:
    outcome = command("trace", changed(copy, **keys), *TRUSTED)
    assert outcome.code == CONFIGURATION and words in outcome.err


def test_which_class_is_traced(copy: Path) -> None:
    def root(**keys: Any) -> Any:
        return document("trace", changed(copy, **keys), *TRUSTED)["model"]["class"]

    assert root(architectures=["LanternModel"]) == "LanternModel"
    assert root(architectures=None) == "LanternForCausalLM"
    # The map may say whose code it was, and need not name every class.
    assert (
        root(
            architectures=["LanternForCausalLM"],
            auto_map={
                "AutoConfig": "someone/lantern--configuration_lantern.LanternConfig",
                "AutoModel": "someone/lantern--modeling_lantern.LanternModel",
            },
        )
        == "LanternForCausalLM"
    )


def test_a_folder_of_files_needs_no_init(copy: Path) -> None:
    (copy / "layers" / "__init__.py").unlink()
    file = copy / "layers" / "attention.py"
    file.write_text(
        file.read_text().replace("from .rotation import rotate", "from . import rotation\n\nrotate = rotation.rotate")
    )
    assert "layers/rotation.py" in command("trace", copy).err
    assert command("trace", copy, *TRUSTED).code == 0


def test_a_package_that_is_missing_later_is_no_matter_of_releases(copy: Path) -> None:
    file = copy / "layers" / "experts.py"
    file.write_text(
        file.read_text().replace("        tokens = x", "        import no_such_einops\n\n        tokens = x")
    )
    outcome = command("trace", changed(copy, transformers_version="9.1.0"), *TRUSTED)
    assert outcome.code == TRACING and "layers.1.mlp" in outcome.err
    assert "no_such_einops" in outcome.err and "9.1.0" not in outcome.err


def test_parts_that_transformers_makes(copy: Path) -> None:
    file = copy / "modeling_lantern.py"
    own = file.read_text()
    text = own.replace("self.model = LanternModel(config)", "self.model = AutoModel.from_config(config, **TRUST)")
    assert text != own
    file.write_text(f"TRUST = {{'trust_remote_code': True}}\nfrom transformers import AutoModel\n{text}")
    found = document("trace", copy, *TRUSTED)
    assert found["module_classes"]["LanternModel"].endswith("modeling_lantern.LanternModel")
    assert found["costs"]["LanternForCausalLM"]["total"]["matrix_flops"] == forward_flops(16, 16)


LLAMA_WITH_FLASH = """
        from transformers import LlamaConfig, LlamaModel
        sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 4}
        part = LlamaConfig(**sizes, vocab_size=8)
        part._attn_implementation = "flash_attention_2"
        self.part = LlamaModel(part)
"""


def test_a_model_of_transformers_that_is_wanted_with_flash_attention(copy: Path) -> None:
    file = copy / "modeling_lantern.py"
    text = file.read_text()
    for old, new in (
        (
            "        self.model = LanternModel(config)\n",
            f"{LLAMA_WITH_FLASH}        self.model = LanternModel(config)\n",
        ),
        ("self.lm_head(found.last_hidden_state)", "self.lm_head(self.part(inputs_embeds=found[0])[0])"),
    ):
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    found = document("trace", copy, *TRUSTED)
    flops = found["costs"]["part"]["total"]["matrix_flops"] - sum(
        found["costs"][name]["total"]["matrix_flops"] for name in found["costs"] if name.endswith("part.rotary_emb")
    )
    assert flops == 2 * 32 * (4 * 64 * 64 + 2 * 16 * 64 + 3 * 64 * 96)
    assert any("scaled_dot_product" in name for name in found["operators"]["part.layers.0.self_attn"])


def test_trust_where_there_is_nothing_to_trust(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", LLAMA)
    for subject in (tmp_path, "deepseek-ocr"):
        outcome = command("trace", subject, "--trust-remote-code")
        assert outcome.code == USAGE and "--trust-remote-code" in outcome.err


def test_the_library_is_taken_where_it_has_the_architecture(copy: Path) -> None:
    changed(copy, **LLAMA, architectures=["LlamaForCausalLM"])
    found = document("trace", copy, "--input-ids", "1x4")
    assert found["module_classes"]["LlamaForCausalLM"].startswith("transformers.models.llama.")


def test_own_code_of_a_model_that_has_a_family(copy: Path) -> None:
    auto_map = json.loads((copy / "config.json").read_text())["auto_map"]
    write_json(copy / "config.json", {**small_source(), "auto_map": {**auto_map, "AutoModel": "modeling_gone.Gone"}})
    assert command("trace", copy, "--base-size", "128", "--image-size", "64").code == 0  # by the family
    outcome = command("trace", copy, "--trust-remote-code")
    assert outcome.code == CONFIGURATION and "modeling_gone.py is not in" in outcome.err


def test_overrides_are_checked_against_the_own_configuration() -> None:
    outcome = command("trace", SNAPSHOT, *TRUSTED, "--set", "num_expert=4")
    assert outcome.code == USAGE and "did you mean 'num_experts'?" in outcome.err


def test_a_report_of_it(tmp_path: Path) -> None:
    out = tmp_path / "run"
    outcome = command("analyze", SNAPSHOT, *TRUSTED, "--decode-steps", "4", "--out", out)
    assert outcome.code == 0, outcome.err
    report = json.loads((out / "report.json").read_text())
    flops = [forward_flops(16, 16), *(forward_flops(1, 16 + step) for step in range(1, 5))]
    assert report["totals"]["costs"]["matrix_flops"] == sum(flops)
    assert "stands for a fused attention kernel" in report["notes"]
    assert command("analyze", SNAPSHOT).code == USAGE
    again = command("what-if", out / "report.json", "--batch", "4", "--retrace")
    assert again.code == CONFIGURATION and "from the snapshot's folder" in again.err
