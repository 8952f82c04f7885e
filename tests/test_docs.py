"""What the documentation shows is run: its commands, its Python, its pictures."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from command import Outcome, command
from modelmeter.cli.verify import DIFFERENT

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


OWN_PROCESS = ("measure",)
"""Commands that change settings of the process they run in."""


def _commands(page: Path) -> list[str]:
    found = []
    for block in re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        found += [line[2:].partition("  #")[0].strip() for line in block.splitlines() if line.startswith("$ ")]
    return found


def _programs() -> dict[str, str]:
    """Every command of ours once, however often it is shown, and the first page that shows it."""
    found: dict[str, str] = {}
    for page in PAGES:
        for shown in _commands(page):
            if shown.startswith("modelmeter "):
                found.setdefault(shown, page.name)
    return found


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A reader's folder for each page, where the page's commands follow one another."""
    found = {page: tmp_path_factory.mktemp("reader") for page in sorted({*_programs().values()})}
    for folder in found.values():
        (folder / "examples").symlink_to(ROOT / "examples")
    return found


@pytest.mark.parametrize(("shown", "page"), _programs().items())
def test_commands_shown_run(shown: str, page: str, folders: dict[str, Path]) -> None:
    if "svg" in shown and shutil.which("dot") is None:
        pytest.skip("Graphviz is not installed")
    words = shlex.split(shown)[1:]
    if words[0] in OWN_PROCESS:
        program = [sys.executable, "-m", "modelmeter", *words]
        done = subprocess.run(program, cwd=folders[page], capture_output=True, text=True, check=False)
        outcome = Outcome(done.returncode, done.stdout, done.stderr)
    else:
        outcome = command(*words, cwd=folders[page])
    assert outcome.code == 0, outcome.err
    assert outcome.out.strip()


def test_every_make_target_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    shown = {words.split()[1] for page in PAGES for words in _commands(page) if words.startswith("make ")}
    assert shown
    assert shown <= targets


def test_python_shown_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(block, {"MyModel": lambda config: nn.Linear(config, config), "config": 8, "inputs": torch.zeros(2, 8)})
    assert (tmp_path / "callgraph.json").exists()


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_pictures_are_what_the_script_draws(tmp_path: Path) -> None:
    script = ROOT / "docs" / "make_images.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, capture_output=True)
    for drawn in tmp_path.iterdir():
        kept = ROOT / "docs" / "images" / drawn.name
        assert kept.read_text(encoding="utf-8") == drawn.read_text(encoding="utf-8"), f"run {script}"


def test_exit_codes_are_those_of_the_readme() -> None:
    import modelmeter.errors as errors

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    defined = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.ModelMeterError) and kind is not errors.ModelMeterError
    }
    assert listed == defined | {DIFFERENT, 130}
