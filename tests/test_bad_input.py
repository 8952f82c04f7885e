"""Whatever is wrong with what the user gives: one line, an exit code of its class, and nothing changed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from PIL import Image

from command import OUTPUT, PAGE, SCENARIO, SMALL, USAGE, command, refused, write_small
from modelmeter import errors
from modelmeter.cli import app


@pytest.fixture
def here(tmp_path: Path) -> Path:
    write_small(tmp_path)
    return tmp_path


def test_exit_codes_are_distinct() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.ModelMeterError) and kind is not errors.UnknownNameError
    ]
    codes = [kind.exit_code for kind in kinds]
    assert len(set(codes)) == len(codes) >= 10
    assert not set(codes) & {0, 130, 141}


# -- pages ---------------------------------------------------------------------------------------------


def noise(path: Path) -> bytes:
    """An image that does not compress, so that half of its file lacks half of its rows."""
    generator = random.Random(1)
    image = Image.frombytes("RGB", (120, 80), generator.randbytes(120 * 80 * 3))
    image.save(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.png", None, "missing.png does not exist"),
        ("empty.png", b"", "empty.png is empty"),
        ("text.png", b"hello", "text.png is no image"),
        ("zeros.jpg", bytes(500), "zeros.jpg is no image"),
        ("short.png", b"\x89PNG\r\n\x1a\n", "short.png"),
        ("x" * 300 + ".png", None, "File name too long"),
        ("nul\0.png", None, "embedded null byte"),
    ],
)
def test_page_files_that_are_none(here: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (here / name).write_bytes(content)
    assert message in refused(PAGE, *SMALL, name, cwd=here)


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "bmp", "tiff", "webp", "ppm"])
def test_truncated_pages(here: Path, kind: str) -> None:
    path = here / f"page.{kind}"
    content = noise(path)
    path.write_bytes(content[: len(content) // 2])
    assert f"page.{kind}" in refused(PAGE, *SMALL, path.name, cwd=here)


def test_a_folder_as_a_page(here: Path) -> None:
    (here / "pages.png").mkdir()
    assert refused(PAGE, *SMALL, "pages.png", cwd=here) == "pages.png is a folder; give an image file"


def test_names_cannot_steer_the_terminal(here: Path) -> None:
    message = refused(PAGE, *SMALL, "a\x1b[31mb\x07.png", cwd=here)
    assert "\x1b" not in message and "\x07" not in message
    assert "a\\x1b[31mb\\x07.png" in message


# -- scenario ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("10x1", "the model makes none (1x1) or 2 to 9 crops"),
        ("5x2", "grid 5x2 has 10 crops"),
        ("0x0", "has no area"),
        ("3x0", "has no area"),
        ("3x", "is no size; write two numbers with an x, as in 3x2"),
        ("-1x2", "is no size"),
        ("3x2x1", "is no size"),
        ("2.5x1", "is no size"),
        ("", "is no size"),
        ("99999999999999999999x1", "is no size"),
    ],
)
def test_grids_that_the_model_cannot_have(here: Path, grid: str, message: str) -> None:
    assert message in refused(SCENARIO, *SMALL, "--grid", grid, cwd=here)
    assert message in refused(SCENARIO, *SMALL, f"--grid={grid}", cwd=here)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--page", "0x10"], "width is 0"),
        (["--page", "10"], "as in 1240x1754"),
        (["--grid", "2x1", "--no-crop-mode"], "cropping off"),
        (["--grid", "2x1", "--mode", "tiny"], "cropping off"),
        (["--text-tokens", "0"], "text_tokens is 0"),
        (["--text-tokens", "-1"], "--text-tokens is -1"),
        (["--seq-len", "3"], "seq_len 3 is too short: the images take"),
        (["--seq-len", "60", "--text-tokens", "3"], "give only one of --seq-len and --text-tokens"),
        (["--seq-len", "3000"], "exceed the model's 2048"),
        (["--decode-steps", "3000"], "exceed the model's 2048"),
        (["--max-new-tokens", "0"], "--max-new-tokens is 0"),
        (["--batch", "0"], "--batch is 0; give a whole number of at least 1"),
        (["--batch", "-3"], "--batch is -3"),
        (["--devices", "0"], "--devices is 0"),
        (["--tensor-parallel", "2", "--devices", "1"], "--tensor-parallel 2 does not divide --devices 1"),
        (["--devices", "3", "--expert-parallel", "3"], "8 routed experts do not divide by --expert-parallel 3"),
        (["--activation-dtype", "float32"], "runs weights and activations in one dtype"),
        (["--dtype", "float8_e4m3fn"], "torch cannot run a model in --dtype float8_e4m3fn"),
        (["--routing", "zipf:x"], "'x' is no valid parameter"),
        (["--routing", "missing.json"], "cannot read the routing table"),
        (["--workload", "missing.yaml"], "cannot read workload missing.yaml: No such file"),
    ],
)
def test_workloads_that_the_model_cannot_have(here: Path, arguments: list[str], message: str) -> None:
    assert message in refused(SCENARIO, *SMALL, *arguments, cwd=here)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--base-size", "130"], "130 is not divisible by the patch size 16; use 128 or 144"),
        (["--image-size", "8"], "8 is not divisible by the patch size 16; use 16"),
        (["--image-size", "0"], "--image-size is 0"),
        (["--image-size", "-16"], "--image-size is -16"),
    ],
)
def test_sizes_that_the_model_cannot_have(here: Path, arguments: list[str], message: str) -> None:
    assert message in refused(SCENARIO, "trace", "small.json", *arguments, cwd=here)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tensor-parallel", "4", "--devices", "4"], "10 attention heads do not divide by --tensor-parallel 4"),
        (["--decode-steps", "8000"], "exceed the model's 8192"),
        (["--text-tokens", "8192"], "exceed the model's 8192"),
        (["--batch", "x"], None),
    ],
)
def test_the_published_model(tmp_path: Path, arguments: list[str], message: str | None) -> None:
    code = USAGE if message is None else SCENARIO
    found = refused(code, "trace", "deepseek-ocr", *arguments, cwd=tmp_path)
    assert (message or "give a whole number") in found


# -- options and names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trce", "small.json"], "unknown command 'trce'; did you mean 'trace'?"),
        (["--versoin"], "unknown option '--versoin'; did you mean '--version'?"),
        (["trace"], "SUBJECT requires an argument; see modelmeter trace --help"),
        (["trace", "deepsek-ocr"], "unknown model family 'deepsek-ocr'; did you mean 'deepseek-ocr'?"),
        (["trace", "nothing"], "valid: deepseek-ocr"),
        ([*SMALL, "--gird", "3x2"], "Unknown option: --gird. Did you mean --grid?"),
        ([*SMALL, "--no-json"], "Unknown option: --no-json"),
        ([*SMALL, "--mode", "gundan"], "unknown mode 'gundan'; did you mean 'gundam'?"),
        ([*SMALL, "--dtype", "bfloat"], "did you mean 'bfloat16'?"),
        ([*SMALL, "--dtype", "int8"], "unknown dtype 'int8'; valid: bfloat16"),
        ([*SMALL, "--attention", "sdp"], "did you mean 'sdpa'?"),
        ([*SMALL, "--attention", "flash"], "unknown attention 'flash'; valid: eager, sdpa"),
        ([*SMALL, "--head", "lst"], "did you mean 'last'?"),
        ([*SMALL, "--execution", "grph"], "did you mean 'graph'?"),
        ([*SMALL, "--routing", "balance"], "did you mean 'balanced'?"),
        ([*SMALL, "--only", "hevy"], 'Did you mean "heavy"?'),
        ([*SMALL, "--stage", "visoin"], "unknown stage 'visoin'; did you mean 'vision'?"),
        ([*SMALL, "--stage", "other"], "no module ran in stage 'other'"),
        ([*SMALL, "--stage", "decode"], "or add --decode-steps"),
        ([*SMALL, "--prefix", "layers.99"], "unknown module 'layers.99'; did you mean 'layers."),
        ([*SMALL, "--prefix", "zzzzzz"], "more"),
        ([*SMALL, "--events", "-1"], "--events is -1; give a number of at least 0"),
        ([*SMALL, "--depth", "-1"], "--depth is -1; give a number of at least 0"),
        ([*SMALL, "--events", "2.5"], "Invalid value for --events: give a whole number"),
        ([*SMALL, "--batch", "2.5"], "Invalid value for --batch: give a whole number"),
        ([*SMALL, "--batch", "0x10"], "Invalid value for --batch: give a whole number"),
        ([*SMALL, "--batch", ""], "Invalid value for --batch: give a whole number"),
        ([*SMALL, "--batch"], "--batch requires an argument"),
        ([*SMALL, "--decode-steps", "3", "--max-new-tokens", "2"], "contradict each other"),
        ([*SMALL, "--input-ids", "1x4"], "--input-ids is for Hugging Face configurations"),
    ],
)
def test_options_that_do_not_exist_or_parse(here: Path, arguments: list[str], message: str) -> None:
    found = refused(USAGE, *arguments, cwd=here)
    assert message in found
    assert len(found) < 1000


# -- workload files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "text", "message"),
    [
        (SCENARIO, 'batch: "8"', "--batch is '8'"),
        (SCENARIO, "batch: 2.5", "--batch is 2.5"),
        (SCENARIO, "batch: true", "--batch is True"),
        (SCENARIO, "batch: [1]", "--batch is [1]"),
        (SCENARIO, "batch: null", "batch has no value in workload w.yaml"),
        (SCENARIO, "base_size: [1024, 1024]", "--base-size is [1024, 1024]"),
        (SCENARIO, "crop_mode: 'yes'", "--crop-mode is 'yes'"),
        (SCENARIO, "crop_mode: 1", "--crop-mode is 1"),
        (SCENARIO, "routing: 3", "--routing is 3"),
        (SCENARIO, "device: 3", "--device is 3"),
        (SCENARIO, "decode_steps: 1.0", "--decode-steps is 1.0"),
        (SCENARIO, "max_new_tokens: 0", "max_new_tokens is 0 in w.yaml"),
        (SCENARIO, "max_new_tokens: '8'", "max_new_tokens is '8' in w.yaml"),
        (SCENARIO, "max_new_tokens: true", "max_new_tokens is True in w.yaml"),
        (SCENARIO, "max_new_tokens: 5\ndecode_steps: 2", "contradict each other in w.yaml"),
        (SCENARIO, "activation_dtype: float32", "runs weights and activations in one dtype"),
        (USAGE, "mode: 3", "unknown mode '3'"),
        (USAGE, "mode: gundan", "did you mean 'gundam'?"),
        (USAGE, "head: {}", "unknown head"),
        (USAGE, "btch: 3", "unknown key in workload w.yaml 'btch'; did you mean 'batch'?"),
        (USAGE, "3: 4", "unknown key in workload w.yaml '3'"),
        (SCENARIO, "pages: 3", "page 3 in w.yaml; write '1240x1754', a file name, or 'grid: 3x2'"),
        (SCENARIO, "pages: []", "there is no page"),
        (SCENARIO, "pages: [[1, 2]]", "page [1, 2] in w.yaml"),
        (SCENARIO, "pages: 3y4", "page '3y4' in w.yaml"),
        (SCENARIO, "pages: [{gird: 3x2}]", "page {'gird': '3x2'} in w.yaml"),
        (SCENARIO, "pages: [{grid: 3}]", "grid in w.yaml '3' is no size"),
        (SCENARIO, "pages: [{grid: 10x1}]", "grid 10x1 has 10 crops"),
        (SCENARIO, "pages: [{}]", "page {} in w.yaml"),
        (SCENARIO, "pages: ['']", "page '' in w.yaml"),
        (PAGE, "pages: missing.png", "missing.png does not exist"),
        (SCENARIO, "", "workload w.yaml holds no keys"),
        (SCENARIO, "- a", "workload w.yaml holds no keys"),
        (SCENARIO, "hello", "workload w.yaml holds no keys"),
        (SCENARIO, "{}", "workload w.yaml holds no keys"),
        (SCENARIO, "a: [", "workload w.yaml is no YAML"),
        (SCENARIO, "batch: 1\nbatch: 2", 'found duplicate key "batch"'),
        (SCENARIO, "!!python/object:os.system x: 1", "workload w.yaml is no YAML"),
    ],
)
def test_workload_files(here: Path, code: int, text: str, message: str) -> None:
    (here / "w.yaml").write_text(text)
    assert message in refused(code, *SMALL, "--workload", "w.yaml", cwd=here)


def test_workload_files_that_cannot_be_read(here: Path) -> None:
    (here / "w.json").write_text('{"batch": 2,}')
    (here / "binary.yaml").write_bytes(b"\x89PNG\xff")
    for name, message in [
        ("w.json", "workload w.json is no JSON"),
        ("binary.yaml", "cannot read workload binary.yaml"),
        (".", "cannot read workload .: Is a directory"),
    ]:
        assert message in refused(SCENARIO, *SMALL, "--workload", name, cwd=here)


# -- results -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("small.json", "is a file, not a folder"),
        ("small.json/below", "is a file, not a folder"),
        ("/proc/modelmeter", "cannot write /proc/modelmeter"),
        ("taken", "taken/callgraph.json exists; overwrite it with --force"),
        ("half", "half/runtime-metadata.json exists"),
        ("blocked", "blocked/callgraph.json is a folder"),
        ("nul\0", "embedded null byte"),
    ],
)
def test_places_where_nothing_can_be_written(here: Path, out: str, message: str) -> None:
    for folder in ("taken", "half", "blocked/callgraph.json"):
        (here / folder).mkdir(parents=True)
    (here / "taken/callgraph.json").write_text("old")
    (here / "half/runtime-metadata.json").write_text("old")
    assert message in refused(OUTPUT, *SMALL, "--out", out, cwd=here)


def test_force_does_not_remove_folders(here: Path) -> None:
    (here / "results/callgraph.json").mkdir(parents=True)
    assert "is a folder" in refused(OUTPUT, *SMALL, "--out", "results", "--force", cwd=here)


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (USAGE, ["--prefix", "nothing"]),
        (USAGE, ["--stage", "decode"]),
        (SCENARIO, ["--grid", "10x1"]),
        (PAGE, ["missing.png"]),
        (USAGE, ["--events", "-1"]),
    ],
)
def test_failures_leave_no_folder_and_no_file(here: Path, code: int, arguments: list[str]) -> None:
    (here / "old").mkdir()
    (here / "old/callgraph.json").write_text("old")
    refused(code, *SMALL, *arguments, "--out", "new/folder", cwd=here)
    refused(code, *SMALL, *arguments, "--out", "old", "--force", cwd=here)


def test_what_nobody_foresaw_is_one_line_too(here: Path) -> None:
    @app.command
    def broken() -> None:
        raise ZeroDivisionError("nobody\nforesaw this")

    try:
        message = refused(errors.InternalError.exit_code, "broken", cwd=here)
    finally:
        del app["broken"]
    assert message.startswith("ZeroDivisionError: nobody foresaw this; this is a mistake in modelmeter")


def test_the_traceback_on_request(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELMETER_TRACEBACK", "1")
    outcome = command(*SMALL, "--mode", "x", cwd=here)
    assert outcome.code == USAGE
    assert "Traceback" in outcome.err and outcome.err.splitlines()[-1].startswith("modelmeter: unknown mode")


def test_the_messages_of_the_tree() -> None:
    error = errors.UnknownNameError("module", "zzz", [f"layers.{i}" for i in range(3000)])
    assert str(error).endswith("and 2975 more") and len(str(error)) < 600
    assert str(errors.PageError("a\n  b", remedy="c\nd")) == "a b; c d"
    assert str(errors.require_extra("trace", "torch")).endswith("pip install 'modelmeter[trace]'")
