"""Runs the command line in this process, in a folder with a small model's configuration."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from modelmeter.cli import run
from small import small_source

SMALL = ("trace", "small.json", "--base-size", "128", "--image-size", "64")
"""Arguments that trace the small configuration on small views."""

USAGE, PAGE, CONFIGURATION, SCENARIO, DOCUMENT, OUTPUT, TRACING = 2, 3, 4, 5, 6, 7, 8
"""Exit codes by class of error."""

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 50,
    "max_position_embeddings": 128,
}


@frozen
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


def write_small(folder: Path, **language: Any) -> Path:
    """The small configuration as ``small.json``."""
    return write_json(folder / "small.json", small_source(**language))


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def command(*arguments: object, cwd: Path | None = None) -> Outcome:
    """Run ``modelmeter`` with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    before = os.getcwd()
    if cwd is not None:
        os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([str(argument) for argument in arguments])
    finally:
        os.chdir(before)
    return Outcome(code, out.getvalue(), err.getvalue())


def document(*arguments: object, cwd: Path | None = None) -> dict[str, Any]:
    """The document that a command prints with ``--json``."""
    outcome = command(*arguments, "--json", cwd=cwd)
    assert (outcome.code, outcome.err) == (0, "")
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content; folders with none. Compiled Python is no result."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


def refused(code: int, *arguments: Sequence[object] | object, cwd: Path) -> str:
    """Run a command that must fail with an exit code; gives its one line.

    Nothing else may be printed and no file may be changed.
    """
    before = listing(cwd)
    outcome = command(*arguments, cwd=cwd)
    assert outcome.out == ""
    assert outcome.err.startswith("modelmeter: ") and outcome.err.endswith("\n"), outcome.err
    assert outcome.err.count("\n") == 1, outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.code == code, outcome.err
    assert listing(cwd) == before
    return outcome.err.removeprefix("modelmeter: ").strip()
