"""Reading real pages with a checkpoint in its published format: one that the tests make, tiny but whole."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from command import CONFIGURATION, LLAMA, PAGE, SCENARIO, USAGE, command, document, refused, write_json
from modelmeter.errors import ConfigurationError, ScenarioError, UsageError
from modelmeter.families.deepseek_ocr import FAMILY, PageLayout, VisionWorkload, read_configuration
from modelmeter.families.deepseek_ocr.images import open_page, page_views
from modelmeter.families.deepseek_ocr.inputs import build_network
from modelmeter.families.deepseek_ocr.reader import PageReader
from modelmeter.families.deepseek_ocr.tokenizer import complete_prompt, load_tokenizer, split_prompt
from modelmeter.measuring import build_model
from modelmeter.schema import Page, Scenario
from small import SMALL_SIZES, small_source

WORDS = [f"w{number}" for number in range(90)]
END = "<end>"
WORKLOAD = VisionWorkload(base_size=128, image_size=64)
SIZES = ("--base-size", "128", "--image-size", "64", "--run-on", "cpu")
QUICK = ("--warmup", "0", "--repeats", "1")


def tokenizer() -> Tokenizer:
    """Words w0 to w89 at 10 to 99, separated by spaces; BOS at 0, the end at 1, a newline at 2."""
    names = ["<bos>", END, "Ċ", "Read", "Free", "OCR", ".", "<unk>", "this", "page", *WORDS]
    made = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    made.normalizer = normalizers.Replace("\n", " Ċ ")
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.Sequence([decoders.Replace("w", " w"), decoders.Fuse()])
    made.add_special_tokens([AddedToken(END, special=True)])
    return made


def write_checkpoint(folder: Path, *, seed: int = 0, **language: Any) -> Path:
    """A checkpoint of the small network in bfloat16: configuration, two shards with an index, tokenizer."""
    folder.mkdir()
    source = small_source(**language)
    write_json(folder / "config.json", source)
    network = build_network(read_configuration(source), Scenario(dtype="float32").resolve())
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, parameter in network.named_parameters():
        values = torch.randn(parameter.shape, generator=generator) * 0.25
        weights[name] = (values + 1 if "norm" in name and name.endswith("weight") else values).to(torch.bfloat16)
    names = sorted(weights)
    shards = {"model-00001-of-000002.safetensors": names[::2], "model-00002-of-000002.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: weights[name] for name in part}, folder / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint and two pages; nothing may change in it."""
    folder = tmp_path_factory.mktemp("home")
    write_checkpoint(folder / "tiny-ocr")
    values = np.random.default_rng(1).integers(0, 256, (700, 1300, 3), dtype=np.uint8)
    Image.fromarray(values).save(folder / "page.png")
    Image.fromarray(values[:100, :200]).save(folder / "small.png")
    return folder


def measured(home: Path, *arguments: object) -> dict[str, Any]:
    return document("measure", "deepseek-ocr", "--weights", "tiny-ocr", *SIZES, *QUICK, *arguments, cwd=home)


@torch.no_grad()
def read_plainly(folder: Path, pages: list[Path], text: list[int], steps: int, dtype: str = "float32") -> list[int]:
    """Greedy decoding without a cache: the whole sequence anew for every token."""
    config = read_configuration(json.loads((folder / "config.json").read_text()))
    scenario = Scenario(pages=(Page(1, 1),), dtype=dtype, **SMALL_SIZES)
    module = build_model(FAMILY, config, scenario, device="cpu", reader=PageReader(config, folder)).module
    images, grids, placeholders = [], [], 0
    for path in pages:
        views, grid = page_views(open_page(path), WORKLOAD, getattr(torch, dtype))
        images.append(views)
        grids.append(grid)
        placeholders += PageLayout(WORKLOAD, grid).image_tokens
    ids = [0, *[100] * placeholders, *text]
    found: list[int] = []
    while len(found) <= steps:
        sequence = torch.tensor([ids + found])
        seen = sequence == 100
        seen[:, 1 + placeholders :] = False
        output = module(sequence, images=images, images_seq_mask=seen, images_spatial_crop=torch.tensor(grids))
        found.append(int(output.logits[0, -1].argmax()))
    return found


FREE_OCR = [2, 4, 5, 6]
"""A newline, then "Free OCR."."""


@pytest.mark.parametrize("pages", [["page.png"], ["small.png"], ["page.png", "small.png"]])
def test_a_page_is_read_like_a_plain_loop_reads_it(home: Path, pages: list[str]) -> None:
    found = measured(home, *pages, "--decode-steps", "12")
    plain = read_plainly(home / "tiny-ocr", [home / page for page in pages], FREE_OCR, 12)
    assert found["tokens"] == plain and len(set(plain)) > 4, "tokens that do not differ prove little"
    assert found["text"] == tokenizer().decode(plain, skip_special_tokens=False).strip()
    assert found["prompt"] == "<image>\nFree OCR."
    assert found["stopped"] == "length" and len(found["forwards"]) == 13
    grids = {"page.png": [2, 1], "small.png": [1, 1]}
    assert [(page["name"], page["grid"]) for page in found["scenario"]["pages"]] == [(p, grids[p]) for p in pages]
    assert found["scenario"]["text_tokens"] == 5 and found["scenario"]["decode_steps"] == 12
    assert found["weights"] == "tiny-ocr" and found["conditions"]["inputs"] == "page files"
    assert "seed" not in found["conditions"]


def test_runs_of_a_batch_in_bfloat16(home: Path) -> None:
    found = measured(home, "small.png", "--decode-steps", "3", "--batch", "2", "--dtype", "bfloat16")
    assert found["tokens"] == read_plainly(home / "tiny-ocr", [home / "small.png"], FREE_OCR, 3, "bfloat16")
    assert found["scenario"]["batch"] == 2


def test_reading_stops_where_the_text_ends(home: Path, tmp_path: Path) -> None:
    """The end is a token that the model comes to: every run stops there, and it is no part of the text."""
    plain = read_plainly(home / "tiny-ocr", [home / "small.png"], FREE_OCR, 12)
    at = next(index for index in range(3, 13) if plain[index] not in plain[:index])
    folder = write_checkpoint(tmp_path / "ends", eos_token_id=plain[at])
    arguments = ("measure", "deepseek-ocr", home / "small.png", "--weights", folder, *SIZES, "--decode-steps", "12")
    for warmup in (0, 1):
        found = document(*arguments, "--warmup", warmup, "--repeats", "2", cwd=tmp_path)
        assert found["tokens"] == plain[: at + 1]
        assert found["text"] == tokenizer().decode(plain[:at], skip_special_tokens=False).strip()
        assert found["stopped"] == "end of text"
        assert len(found["forwards"]) == at + 1 and found["scenario"]["decode_steps"] == at
        assert all(len(forward["time"]["samples_s"]) == 2 for forward in found["forwards"])
        assert found["modules"]["lm_head"]["calls"] == at + 1


def test_reading_that_ends_at_once(home: Path, tmp_path: Path) -> None:
    first = read_plainly(home / "tiny-ocr", [home / "small.png"], FREE_OCR, 0)[0]
    folder = write_checkpoint(tmp_path / "silent", eos_token_id=first)
    found = document("measure", "deepseek-ocr", home / "small.png", "--weights", folder, *SIZES, cwd=tmp_path)
    assert (found["text"], found["tokens"], len(found["forwards"])) == ("", [first], 1)
    assert list(found["stages"]) == ["prefill", "projector", "vision"]


def test_the_text_is_printed(home: Path) -> None:
    arguments = ("measure", "deepseek-ocr", "small.png", "--weights", "tiny-ocr", *SIZES, *QUICK)
    outcome = command(*arguments, "--max-new-tokens", "4", cwd=home)
    assert (outcome.code, outcome.err) == (0, "")
    text = tokenizer().decode(read_plainly(home / "tiny-ocr", [home / "small.png"], FREE_OCR, 3)).strip()
    assert outcome.out.endswith(f"\n\n{text}\n")
    assert "weights of tiny-ocr" in outcome.out and "cut at 4 tokens; --max-new-tokens allows more" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 100
    assert str(home) not in outcome.out


# -- prompts and tokenizers ----------------------------------------------------------------------------


def test_prompts() -> None:
    assert complete_prompt(None) == "<image>\nFree OCR."
    assert complete_prompt(" Read this. ") == "<image>\nRead this."
    assert complete_prompt("w1 <image> w2\n") == "w1 <image> w2"
    assert split_prompt("a<image>b", 1) == ["a", "b"]
    assert split_prompt("a<image>b", 3) == ["a", "", "", "b"]
    assert split_prompt("a<image>b<image>", 2) == ["a", "b", ""]
    with pytest.raises(UsageError, match="the prompt has 2 times <image>, and there are 3 pages; write <image> once"):
        split_prompt("a<image>b<image>", 3)


def test_pages_stand_where_the_prompt_says(home: Path) -> None:
    config = read_configuration(small_source())
    pages = [home / "page.png", home / "small.png"]
    reader = PageReader(config, home / "tiny-ocr", "w1 w2 <image> w3 <image>\nw4")
    request = reader.request(WORKLOAD, pages, torch.float32, "cpu")
    large, small = (PageLayout(WORKLOAD, grid).image_tokens for grid in ((2, 1), (1, 1)))
    assert request.ids.tolist() == [0, 11, 12, *[100] * large, 13, *[100] * small, 2, 14]
    assert request.seen.tolist() == [False] * 3 + [True] * large + [False] + [True] * small + [False] * 2
    assert request.grids == ((2, 1), (1, 1)) and len(request.images) == 2
    assert request.images[0][0].shape == (2, 3, 64, 64) and request.images[1][0].shape[0] == 0
    assert reader.text_tokens == len(request.ids) - large - small
    found = measured(home, *pages, "--prompt", "w1 <image> w3 <image>", "--decode-steps", "1")
    assert (found["prompt"], found["scenario"]["text_tokens"]) == ("w1 <image> w3 <image>", 3)


def test_text_ends_where_the_end_is() -> None:
    reader = object.__new__(PageReader)
    reader._config, reader._tokenizer = read_configuration(small_source()), tokenizer()  # type: ignore[assignment]
    reader._tokenizer = type("Plain", (), {"decode": lambda self, ids: f" {ids} "})()  # type: ignore[assignment]
    assert reader.text([5, 6, 1, 7]) == "[5, 6]"
    assert reader.text([5, 6]) == "[5, 6]" and reader.text([1]) == "[]" == reader.text([])


def test_another_tokenizer_through_transformers(tmp_path: Path) -> None:
    """A folder without tokenizer.json is left to transformers, offline and without code of its own."""
    words = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "read", "this", "page"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    found = load_tokenizer(tmp_path)
    assert found.encode("Read this page") == [5, 6, 7]
    assert found.decode([5, 6, 7]) == "read this page"
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "NoSuchTokenizer"})
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(ConfigurationError, match="holds no tokenizer that can be read"):
        load_tokenizer(tmp_path)


# -- what is wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (CONFIGURATION, ["--weights", "nowhere", "small.png"], "there is no folder nowhere"),
        (CONFIGURATION, ["--weights", "small.png", "small.png"], "there is no folder small.png"),
        (USAGE, ["--weights", "tiny-ocr"], "--weights reads page files, and there is none; give page files"),
        (
            USAGE,
            ["--weights", "tiny-ocr", "small.png", "--page", "9x9"],
            "measure takes no --page here: the page files",
        ),
        (USAGE, ["--weights", "tiny-ocr", "small.png", "--grid", "2x1"], "measure takes no --grid here"),
        (USAGE, ["--weights", "tiny-ocr", "small.png", "--text-tokens", "9"], "measure takes no --text-tokens here"),
        (USAGE, ["--weights", "tiny-ocr", "small.png", "--size", "small"], "--size small and --weights contradict"),
        (USAGE, ["--weights", "tiny-ocr", "small.png", "--prompt", "<image>" * 3], "3 times <image>, and there are 1"),
        (PAGE, ["--weights", "tiny-ocr", "tiny-ocr/config.json"], "config.json is no image"),
        (PAGE, ["--weights", "tiny-ocr", "gone.png"], "gone.png does not exist"),
        (SCENARIO, ["--weights", "tiny-ocr", "small.png", "--decode-steps", "2048"], "exceed the model's 2048"),
    ],
)
def test_bad_requests(home: Path, code: int, arguments: list[str], message: str) -> None:
    assert message in refused(code, "measure", "deepseek-ocr", *SIZES, *arguments, cwd=home)


def _without(name: str) -> Any:
    return lambda folder: (folder / name).unlink()


def _written(name: str, content: str) -> Any:
    return lambda folder: (folder / name).write_text(content)


def _truncated(folder: Path) -> None:
    path = folder / "model-00002-of-000002.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without("config.json"), "cannot read bad/config.json: No such file or directory"),
        (_written("config.json", "{"), "bad/config.json is no complete JSON document"),
        (_written("config.json", json.dumps(LLAMA)), "bad/config.json is no configuration of deepseek-ocr"),
        (_written("config.json", json.dumps(small_source(hidden_size=64))), "does not fit the network"),
        (_written("config.json", json.dumps(small_source(num_hidden_layers=4))), "bad lacks model.layers.3"),
        (_without("tokenizer.json"), "bad holds no tokenizer.json; download the whole checkpoint"),
        (_written("tokenizer.json", "{}"), "bad/tokenizer.json holds no tokenizer that can be read"),
        (_without("model.safetensors.index.json"), "bad holds neither model.safetensors nor model.safetensors.index"),
        (_without("model-00001-of-000002.safetensors"), "cannot read bad/model-00001-of-000002.safetensors"),
        (_truncated, "cannot read bad/model-00002-of-000002.safetensors"),
    ],
)
def test_bad_checkpoints(home: Path, tmp_path: Path, spoil: Any, message: str) -> None:
    (tmp_path / "bad").mkdir()
    for file in (home / "tiny-ocr").iterdir():
        (tmp_path / "bad" / file.name).write_bytes(file.read_bytes())
    spoil(tmp_path / "bad")
    page = home / "small.png"
    arguments = ("measure", "deepseek-ocr", page, "--weights", "bad", *SIZES)
    assert message in refused(CONFIGURATION, *arguments, cwd=tmp_path)


def test_a_tokenizer_of_another_model(home: Path, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "other", vocab_size=4)
    arguments = ("measure", "deepseek-ocr", home / "small.png", "--weights", "other", *SIZES)
    message = refused(CONFIGURATION, *arguments, cwd=folder.parent)
    assert "the tokenizer in other gives token 6, the model has 4 tokens" in message


def test_pages_that_are_not_the_scenario_s(home: Path) -> None:
    config = read_configuration(small_source())
    reader = PageReader(config, home / "tiny-ocr")
    scenario = FAMILY.resolve(config, Scenario(pages=(Page(grid=(3, 3)),), text_tokens=5, **SMALL_SIZES))
    with pytest.raises(ScenarioError, match="the page files take 12 positions, the scenario has"):
        reader.inputs(scenario, [home / "small.png"], "cpu")


def test_damaged_text_in_a_page_name_stays_in_the_line(home: Path) -> None:
    name = "".join(random.Random(0).choices("ab\n\x1b", k=12)) + ".png"
    assert "\x1b" not in refused(PAGE, "measure", "deepseek-ocr", name, "--weights", "tiny-ocr", *SIZES, cwd=home)
