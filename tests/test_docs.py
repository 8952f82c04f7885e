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

from modelmeter.cli.verify import DIFFERENT

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _commands() -> list[str]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            found += [line[2:].partition("  #")[0].strip() for line in block.splitlines() if line.startswith("$ ")]
    return found


def _programs() -> list[str]:
    return [command for command in _commands() if command.startswith("modelmeter ")]


@pytest.mark.parametrize("command", _programs())
def test_commands_shown_run(command: str, tmp_path: Path) -> None:
    if "svg" in command and shutil.which("dot") is None:
        pytest.skip("Graphviz is not installed")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    program = [sys.executable, "-m", "modelmeter", *shlex.split(command)[1:]]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_make_target_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    shown = {command.split()[1] for command in _commands() if command.startswith("make ")}
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
