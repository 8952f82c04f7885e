"""Subjects that cannot be traced: configurations, Hugging Face models and functions. One line each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from command import CONFIGURATION, LLAMA, SCENARIO, SMALL, TRACING, USAGE, refused, write_json
from small import small_source

# -- configurations ------------------------------------------------------------------------------------


LANGUAGE = "language_config"
SAM = ("vision_config", "width", "sam_vit_b")


def changed(keys: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The small configuration with one key set, or left out where the value is ``...``."""
    source = small_source()
    part = source
    for key in keys[:-1]:
        part = part[key]
    if value is ...:
        del part[keys[-1]]
    else:
        part[keys[-1]] = value
    return source


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("foo",), 1, "foo"),
        ((LANGUAGE, "hiden_size"), 48, "hiden_size"),
        ((*SAM, "wdth"), 3, "wdth"),
        (("hidden_size",), 47, "hidden_size is 47 at the top and 48 in language_config"),
        (("projector_config", "input_dim"), 63, "input_dim is 63"),
        (("projector_config", "projector_type"), "mlp", "projector_type is 'mlp'"),
        ((LANGUAGE, "hidden_size"), ..., "lacks hidden_size"),
        ((LANGUAGE,), ..., "language_config is missing"),
        ((LANGUAGE,), [1], "language_config is missing or no object"),
        ((LANGUAGE, "hidden_size"), "48", "hidden_size is '48'"),
        ((LANGUAGE, "hidden_size"), 48.0, "hidden_size is 48.0"),
        ((LANGUAGE, "hidden_size"), None, "hidden_size is None"),
        ((LANGUAGE, "num_hidden_layers"), True, "num_hidden_layers is True"),
        ((LANGUAGE, "num_hidden_layers"), 0, "num_hidden_layers is 0"),
        ((LANGUAGE, "vocab_size"), -5, "vocab_size is -5"),
        ((LANGUAGE, "num_attention_heads"), 5, "5 does not divide"),
        ((LANGUAGE, "num_key_value_heads"), 3, "3 does not divide"),
        ((LANGUAGE, "num_experts_per_tok"), 9, "num_experts_per_tok is 9 with 8 routed experts"),
        ((LANGUAGE, "num_experts_per_tok"), 2.5, "num_experts_per_tok is 2.5"),
        ((LANGUAGE, "n_routed_experts"), "8", "n_routed_experts"),
        ((LANGUAGE, "n_routed_experts"), -8, "-8"),
        ((LANGUAGE, "n_shared_experts"), "x", "n_shared_experts is 'x'"),
        ((LANGUAGE, "first_k_dense_replace"), 1.5, "first_k_dense_replace is 1.5"),
        ((LANGUAGE, "first_k_dense_replace"), -1, "first_k_dense_replace is"),
        ((LANGUAGE, "rms_norm_eps"), "a", "rms_norm_eps is 'a'"),
        ((LANGUAGE, "rope_theta"), 0, "rope_theta is 0"),
        ((LANGUAGE, "use_mla"), True, "use_mla is True"),
        ((*SAM, "global_attn_indexes"), [7], "global_attn_indexes"),
        ((*SAM, "downsample_channels"), [1, 2, 3], "downsample_channels"),
        ((*SAM, "downsample_channels"), [0, 32], "downsample_channels"),
        (("vision_config", "image_size"), "x", "image_size is 'x'"),
        (("tile_tag",), "1D", "tile_tag is '1D'"),
    ],
)
def test_configurations_of_the_family(tmp_path: Path, keys: tuple[str, ...], value: Any, message: str) -> None:
    write_json(tmp_path / "small.json", changed(keys, value))
    assert message in refused(CONFIGURATION, *SMALL, cwd=tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello", "c.json is no complete JSON document"),
        ("", "c.json is no complete JSON document"),
        ('{"model_type": "lla', "c.json is no complete JSON document"),
        ("[" * 100_000, "c.json is no complete JSON document"),
        ("[1]", "c.json holds no JSON object"),
        ("3", "c.json holds no JSON object"),
        ('{"a": 1}', "c.json names no model_type"),
        ('{"model_type": 3}', "c.json names no model_type"),
        ('{"model_type": "lama"}', "transformers does not know model_type 'lama'; did you mean 'llama'?"),
        ('{"model_type": "no such thing at all"}', "transformers does not know model_type"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.json").write_text(text)
    assert message in refused(CONFIGURATION, "trace", "c.json", cwd=tmp_path)


def test_configurations_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary.json").write_bytes(b"\x89PNG\xff")
    (tmp_path / "folder").mkdir()
    for name, message in [
        ("binary.json", "is no complete JSON document"),
        ("missing.json", "cannot read missing.json: No such file"),
        ("folder", "cannot read folder/config.json: No such file"),
        ("./nowhere", "cannot read nowhere: No such file"),
    ]:
        assert message in refused(CONFIGURATION, "trace", name, cwd=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": "a"}, "expected int, got str"),
        ({"hidden_size": 30}, "not a multiple of the number of attention heads"),
        ({"architectures": ["Foo"]}, "transformers has no model 'Foo'"),
        ({"architectures": ["pipeline"]}, "transformers has no model 'pipeline'"),
        ({"architectures": [3]}, "architectures is [3]"),
        ({"hidden_act": "foo"}, "llama could not be built: KeyError"),
    ],
)
def test_hugging_face_configurations(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_json(tmp_path / "c.json", {**LLAMA, **change})
    assert message in refused(CONFIGURATION, "trace", "c.json", "--input-ids", "1x4", cwd=tmp_path)


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (SCENARIO, ["--input-ids", "0x3"], "0x3 token ids are no prompt"),
        (SCENARIO, ["--input-ids", "3"], "as in 1x512"),
        (SCENARIO, ["--input-ids", "1x129"], "exceed the model's 128"),
        (SCENARIO, ["--input-ids", "1x128", "--decode-steps", "1"], "exceed the model's 128"),
        (SCENARIO, ["--input-ids", "1x8", "--batch", "2"], "contradict each other"),
        (SCENARIO, ["--input-ids", "1x8", "--dtype", "float8_e5m2"], "torch cannot run a model in"),
        (USAGE, ["page.png"], "a Hugging Face configuration takes no pages"),
        (USAGE, ["--page", "10x10"], "takes no pages"),
        (USAGE, ["--grid", "2x1"], "takes no pages"),
        (USAGE, ["--mode", "tiny", "--base-size", "512"], "takes no --mode and no --base-size"),
        (USAGE, ["--image-size", "64"], "takes no --image-size"),
        (USAGE, ["--no-crop-mode"], "takes no --crop-mode"),
        (USAGE, ["--text-tokens", "3"], "takes no --text-tokens"),
        (USAGE, ["--seq-len", "9"], "takes no --seq-len"),
        (USAGE, ["--head", "last"], "takes no --head"),
        (USAGE, ["--kv-dtype", "float16"], "takes no --kv-dtype"),
        (USAGE, ["--activation-dtype", "bfloat16"], "takes no --activation-dtype"),
        (USAGE, ["--vision-attention", "eager"], "takes no --vision-attention"),
        (USAGE, ["--decoder-attention", "eager"], "takes no --decoder-attention"),
        (USAGE, ["--workload", "w.yaml"], "takes no --head"),
        (USAGE, ["--stage", "vision", "--input-ids", "1x4"], "no module ran in stage 'vision'"),
    ],
)
def test_what_means_nothing_for_hugging_face(tmp_path: Path, code: int, arguments: list[str], message: str) -> None:
    write_json(tmp_path / "c.json", LLAMA)
    (tmp_path / "w.yaml").write_text("head: last\n")
    Image.new("RGB", (10, 10)).save(tmp_path / "page.png")
    assert message in refused(code, "trace", "c.json", *arguments, cwd=tmp_path)


def test_a_model_without_a_cache(tmp_path: Path) -> None:
    write_json(tmp_path / "c.json", {**LLAMA, "use_cache": False})
    message = refused(SCENARIO, "trace", "c.json", "--input-ids", "1x4", "--decode-steps", "1", cwd=tmp_path)
    assert message == "LlamaModel returns no key-value cache; trace it with --decode-steps 0"


# -- functions -----------------------------------------------------------------------------------------

FUNCTIONS = """
import sys, torch
from torch import nn

class Raises(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        self.error = error
        self.inner[1].forward = self.fail
    def fail(self, x):
        raise self.error
    def forward(self, x):
        return self.inner(x)

number = 3
def good(): return nn.Linear(3, 4), torch.ones(2, 3)
def wants(x): return x
def raises(): raise ValueError("first\\nsecond")
def silent(): raise ValueError
def leaves(): sys.exit(3)
def nothing(): return None
def alone(): return nn.Linear(3, 4)
def three(): return nn.Linear(3, 4), torch.ones(2, 3), 5
def as_list(): return [nn.Linear(3, 4), torch.ones(2, 3)]
def no_module(): return "a", "b"
def odd_keys(): return nn.Linear(3, 4), {3: 4}
def misnamed(): return nn.Linear(3, 4), {"inptu": torch.ones(2, 3)}
def misshaped(): return nn.Linear(3, 4), torch.ones(2, 5)
def inside(): return Raises(ValueError("boom\\nand more")), torch.ones(1, 3)
def quits(): return Raises(SystemExit(3)), torch.ones(1, 3)
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes a module that no other test has imported."""
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    monkeypatch.setattr("sys.dont_write_bytecode", True)

    def write(name: str, text: str = FUNCTIONS) -> Path:
        (tmp_path / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        (USAGE, "gooood", "unknown function in given_functions 'gooood'; did you mean 'good'?"),
        (USAGE, "number", "unknown function in given_functions 'number'"),
        (USAGE, "", "'given_functions:' names no function; give package.module:function"),
        (USAGE, "a.b", "names no function"),
        (USAGE, "nothing", "returned NoneType; return a module and its inputs"),
        (USAGE, "alone", "returned Linear;"),
        (USAGE, "three", "returned (Linear, Tensor, int);"),
        (USAGE, "as_list", "returned list;"),
        (USAGE, "no_module", "returned (str, str);"),
        (TRACING, "wants", "missing 1 required positional argument"),
        (TRACING, "raises", "given_functions:raises raised ValueError: first second"),
        (TRACING, "silent", "raised ValueError: no message"),
        (TRACING, "leaves", "raised SystemExit: 3"),
        (TRACING, "odd_keys", "keywords must be strings"),
        (TRACING, "misnamed", "unexpected keyword argument 'inptu'"),
        (TRACING, "misshaped", "module Linear (Linear) raised RuntimeError"),
        (TRACING, "inside", "module inner.1 (ReLU) raised ValueError: boom"),
        (TRACING, "quits", "left with exit(3)"),
    ],
)
def test_functions(functions: Callable[..., Path], code: int, name: str, message: str) -> None:
    here = functions("given_functions")
    assert message in refused(code, "trace", f"given_functions:{name}", "--out", "results", cwd=here)


@pytest.mark.parametrize(
    ("code", "text", "message"),
    [
        (TRACING, "raise RuntimeError('at import')", "importing 'broken_module' raised RuntimeError: at import"),
        (TRACING, "def build(:", "raised SyntaxError"),
        (TRACING, "import sys; sys.exit(0)", "raised SystemExit: 0"),
        (USAGE, "import no_such_package_of_anyone", "cannot import 'broken_module': No module named 'no_such"),
        (USAGE, "", "broken_module has no function 'build'"),
    ],
)
def test_modules_that_cannot_be_imported(functions: Callable[..., Path], code: int, text: str, message: str) -> None:
    here = functions("broken_module", text)
    assert message in refused(code, "trace", "broken_module:build", cwd=here)


@pytest.mark.parametrize("name", ["no_such_module:build", ":build", ".given:build", "a b:c", "dir/file.py:build"])
def test_functions_that_are_nowhere(tmp_path: Path, name: str) -> None:
    assert "give package.module:function" in refused(USAGE, "trace", name, cwd=tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--mode", "tiny"], ["--batch", "7"], ["--dtype", "float16"], ["--decode-steps", "3"], ["--page", "9x9"]),
        *(["--attention", "eager"], ["--head", "last"], ["--seq-len", "9"], ["--text-tokens", "9"]),
        *(["--kv-dtype", "float16"], ["--no-crop-mode"], ["--max-new-tokens", "3"], ["--base-size", "512"]),
    ],
)
def test_what_means_nothing_for_functions(functions: Callable[..., Path], arguments: list[str]) -> None:
    here = functions("given_functions")
    assert "a function takes no" in refused(USAGE, "trace", "given_functions:good", *arguments, cwd=here)
    assert "--input-ids is for" in refused(USAGE, "trace", "given_functions:good", "--input-ids", "1x4", cwd=here)
