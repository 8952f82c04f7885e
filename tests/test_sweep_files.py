"""Sweeps that are interrupted: what is finished is kept, and the file is the same byte for byte in the end."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from command import OUTPUT, USAGE, command, document, listing, refused
from modelmeter.errors import MissingDependencyError, OutputError
from modelmeter.planning import sweep_files
from modelmeter.planning.sweep_run import SweepOutcome, run_sweep
from sweeps import SMALL_SPEC, read_rows, small_plan, write_spec

SPEC: dict[str, Any] = {
    **SMALL_SPEC,
    "axes": {
        "dtype": ["bfloat16", "float32", "float16"],
        "attention": ["sdpa", "eager"],
        "head": ["all", "last"],
        "batch": [1, 2],
        "text_tokens": {"from": 1, "to": 300, "step": 1},
    },
}
"""Twelve closed forms, so twelve chunks."""


def done(folder: Path) -> int:
    """Finished chunks that lie there."""
    return len(list(folder.glob("rows.*.partial/chunk-*.json")))


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_killed_at_any_moment(tmp_path: Path, name: str) -> None:
    write_spec(tmp_path, SPEC)
    whole = f"whole{Path(name).suffix}"
    assert command("sweep", "spec.yaml", "--out", whole, "--quiet", cwd=tmp_path).code == 0
    moments = random.Random(7)
    program = [sys.executable, "-m", "modelmeter", "sweep", "spec.yaml", "--out", name, "--json"]
    kills, resumed = 0, 0
    while True:
        wanted = done(tmp_path) + moments.randint(1, 4)
        run = subprocess.Popen(program, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while run.poll() is None and done(tmp_path) < wanted:
            time.sleep(0.001)
        time.sleep(moments.random() * 0.05)
        run.kill()
        out, err = run.communicate()
        if run.returncode == 0:
            resumed = json.loads(out)["resumed_chunks"]
            break
        assert run.returncode == -9, err
        kills += 1
        if (tmp_path / name).exists():
            break
    assert kills >= 2
    assert resumed > 0 or (tmp_path / name).exists()
    assert (tmp_path / name).read_bytes() == (tmp_path / whole).read_bytes()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_stopped_at_every_step(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends before, or just after, any of the renames and removals that it makes."""
    plan = small_plan(tmp_path, {**SMALL_SPEC, "axes": {"head": ["all", "last"], "batch": [1, 4]}})
    whole, target = tmp_path / f"whole.{suffix}", tmp_path / f"rows.{suffix}"
    run_sweep(plan, whole)
    real = {"replace": os.replace, "unlink": Path.unlink}
    steps = {"left": -1}

    def counted(name: str) -> Any:
        def step(*arguments: Any, **options: Any) -> Any:
            if steps["left"] == 0:
                raise KeyboardInterrupt
            steps["left"] -= 1
            return real[name](*arguments, **options)

        return step

    monkeypatch.setattr(sweep_files.os, "replace", counted("replace"))
    monkeypatch.setattr(Path, "unlink", counted("unlink"))
    stops = 0
    for number in range(100):
        steps["left"] = number
        try:
            run_sweep(plan, target)
        except KeyboardInterrupt:
            stops += 1
        steps["left"] = -1
        if not target.exists():
            run_sweep(plan, target)
        assert target.read_bytes() == whole.read_bytes()
        # What is left when the process ended after the file was in place is cleared by the next run.
        run_sweep(plan, target, force=True)
        assert target.read_bytes() == whole.read_bytes()
        assert not target.with_name(f"{target.name}.partial").exists()
        target.unlink()
        if stops <= number:
            break
    assert stops >= 10


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    write_spec(tmp_path, SPEC)
    program = [sys.executable, "-m", "modelmeter", "sweep", "spec.yaml", "--out", "rows.csv"]
    run = subprocess.Popen(program, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while run.poll() is None and done(tmp_path) < 2:
        time.sleep(0.001)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate()
    assert run.returncode == 130, err
    lines = err.splitlines()
    assert lines[0].endswith("finished chunks are kept; run it again to go on")
    assert lines[1:] == ["modelmeter: interrupted; nothing was overwritten"]
    assert run_again(tmp_path)["resumed_chunks"] >= 2


def interrupted(folder: Path, spec: dict[str, Any] = SPEC, chunks: int = 3) -> None:
    """Leave a sweep with some finished chunks."""
    left = [chunks]

    def stop(rows: int, resumed: bool) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(small_plan(folder, spec), folder / "rows.csv", done=stop)


def run_again(folder: Path, *options: str) -> dict[str, Any]:
    return json.loads(command("sweep", "spec.yaml", "--out", "rows.csv", "--json", *options, cwd=folder).out)


def test_a_second_run_goes_on_and_says_so(tmp_path: Path) -> None:
    interrupted(tmp_path)
    outcome = command("sweep", "spec.yaml", "--out", "rows.csv", cwd=tmp_path)
    assert outcome.err == "modelmeter: resumed; 3 of 12 chunks were finished before\n"
    assert "Wrote rows.csv" in outcome.out
    assert sorted(listing(tmp_path)) == ["rows.csv", "small.json", "spec.yaml"]


def test_a_comment_makes_no_other_sweep(tmp_path: Path) -> None:
    interrupted(tmp_path)
    text = (tmp_path / "spec.yaml").read_text()
    (tmp_path / "spec.yaml").write_text(f"# the same\n{text}")
    assert run_again(tmp_path)["resumed_chunks"] == 3


def test_damaged_chunks_are_worked_out_again(tmp_path: Path) -> None:
    run_sweep(small_plan(tmp_path, SPEC), tmp_path / "whole.csv")
    interrupted(tmp_path)
    folder = tmp_path / "rows.csv.partial"
    rows = (folder / "chunk-000001.csv").read_bytes()
    (folder / "chunk-000001.csv").write_bytes(rows[:-9])
    (folder / "chunk-000002.json").write_text("{}")
    assert run_again(tmp_path)["resumed_chunks"] == 1
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"axes": {**SPEC["axes"], "batch": [1, 3]}}, "of another specification"),
        ({"columns": ["total_time_s"]}, "with other columns"),
    ],
)
def test_another_sweep_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    interrupted(tmp_path)
    write_spec(tmp_path, {**SPEC, **change})
    line = refused(OUTPUT, "sweep", "spec.yaml", "--out", "rows.csv", cwd=tmp_path)
    assert line == (
        f"rows.csv.partial holds an unfinished sweep {words}; finish that one, discard it with --force, or choose "
        "another file with --out"
    )
    found = run_again(tmp_path, "--force")
    assert (found["resumed_chunks"], found["chunks"]) == (0, 12)
    run_sweep(small_plan(tmp_path, {**SPEC, **change}), tmp_path / "whole.csv")
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(tmp_path)
    monkeypatch.setattr("modelmeter.__version__", "9.9")
    with pytest.raises(OutputError, match="an unfinished sweep of another version of ModelMeter"):
        run_sweep(small_plan(tmp_path, SPEC), tmp_path / "rows.csv")


def test_a_folder_that_is_no_sweeps_is_left_alone(tmp_path: Path) -> None:
    write_spec(tmp_path, SPEC)
    (tmp_path / "rows.csv.partial").mkdir()
    (tmp_path / "rows.csv.partial" / "letter.txt").write_text("mine")
    line = refused(OUTPUT, "sweep", "spec.yaml", "--out", "rows.csv", "--force", cwd=tmp_path)
    assert line == "rows.csv.partial is in the way; move it, or choose another file with --out"


def test_a_file_that_exists_is_refused(tmp_path: Path) -> None:
    write_spec(tmp_path, SPEC)
    (tmp_path / "rows.csv").write_text("mine")
    line = refused(OUTPUT, "sweep", "spec.yaml", "--out", "rows.csv", cwd=tmp_path)
    assert line.startswith("rows.csv exists; overwrite it with --force")
    assert run_again(tmp_path, "--force")["rows"] == 7200


def test_an_interrupted_overwrite_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("mine")
    plan = small_plan(tmp_path, SPEC)

    def stop(rows: int, resumed: bool) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(plan, tmp_path / "rows.csv", force=True, done=stop)
    assert (tmp_path / "rows.csv").read_text() == "mine"


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    interrupted(tmp_path)
    handle = os.open(tmp_path / "rows.csv.partial", os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        line = refused(OUTPUT, "sweep", "spec.yaml", "--out", "rows.csv", cwd=tmp_path)
    finally:
        os.close(handle)
    assert line == "another process is writing rows.csv; wait for it, or choose another file with --out"
    assert run_again(tmp_path)["resumed_chunks"] == 3


@pytest.mark.parametrize("name", ["rows.txt", "rows", "rows.json"])
def test_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    write_spec(tmp_path, SPEC)
    line = refused(USAGE, "sweep", "spec.yaml", "--out", name, cwd=tmp_path)
    assert line == f"--out {name} is neither CSV nor Parquet; give a name that ends in .csv or .parquet"


def test_parquet_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    plan = small_plan(tmp_path, SMALL_SPEC)
    with pytest.raises(MissingDependencyError, match="install it with: pip install 'modelmeter\\[plan\\]'"):
        run_sweep(plan, tmp_path / "rows.parquet")
    assert isinstance(run_sweep(plan, tmp_path / "rows.csv"), SweepOutcome)


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = small_plan(tmp_path, SPEC)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sweep_files.os, "fsync", full)
        with pytest.raises(OutputError, match=r"cannot write .*rows.csv.partial: No space left on device; free space"):
            run_sweep(plan, tmp_path / "rows.csv")
    assert run_sweep(plan, tmp_path / "rows.csv").rows == 7200


def test_best_and_counts(tmp_path: Path) -> None:
    write_spec(tmp_path, SMALL_SPEC)
    found = document("sweep", "spec.yaml", "--out", "rows.csv", "--best", "pages_per_s", cwd=tmp_path)
    best = found.pop("best")
    assert found == {
        "chunks": 4,
        "file": "rows.csv",
        "fit": 32,
        "possible": 48,
        "resumed_chunks": 0,
        "rows": 108,
    }
    assert best["batch"] == 4 and best["device"] in ("h100-sxm", "rtx-5090") and best["fits"] is True
    line = refused(USAGE, "sweep", "spec.yaml", "--out", "b.csv", "--best", "pages", cwd=tmp_path)
    assert line == "unknown column for --best 'pages'; did you mean 'pages_per_s'?"
    quiet = command("sweep", "spec.yaml", "--out", "quiet.csv", "--quiet", cwd=tmp_path)
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_the_table_shows_the_best_row_of_each_figure(tmp_path: Path) -> None:
    write_spec(tmp_path, {**SMALL_SPEC, "axes": {"batch": [1, 4], "device": ["h200", "h100-sxm"]}})
    outcome = command("sweep", "spec.yaml", "--out", "rows.csv", cwd=tmp_path)
    lines = [line.strip() for line in outcome.out.splitlines() if line.strip()]
    assert lines[0] == "4 rows: 4 possible, 4 of them fit the device"
    assert lines[-1] == "Wrote rows.csv"
    assert all(len(line) <= 100 for line in outcome.out.splitlines())
    titles = ["time to first token", "time per output token", "tokens/s", "pages/s", "price of 1,000 pages"]
    assert [next(title for title in titles if line.startswith(title)) for line in lines[3:-1]] == titles
    rows = read_rows(tmp_path / "rows.csv")
    fastest = min(rows, key=lambda row: float(row["time_to_first_token_s"]))
    assert lines[3].endswith(f"batch {fastest['batch']}, device {fastest['device']}")


def test_progress_is_for_terminals_only(tmp_path: Path) -> None:
    write_spec(tmp_path, SMALL_SPEC)
    program = [sys.executable, "-m", "modelmeter", "sweep", "spec.yaml", "--force", "--out", "rows.csv"]
    seen = []
    for options in ([], ["--quiet"]):
        reader, writer = os.openpty()
        run = subprocess.Popen([*program, *options], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=writer)
        os.close(writer)
        shown = b""
        with contextlib.suppress(OSError):  # a terminal that nobody writes to any more ends so
            while part := os.read(reader, 4096):
                shown += part
        assert run.wait() == 0
        os.close(reader)
        seen.append(shown)
    assert b"Sweeping" in seen[0] and b"/108" in seen[0]
    assert seen[1] == b""


def test_the_same_specification_gives_the_same_bytes(tmp_path: Path) -> None:
    for suffix in ("csv", "parquet"):
        made = []
        for name in ("a", "b"):
            folder = tmp_path / f"{name}-{suffix}"
            folder.mkdir()
            write_spec(folder, SMALL_SPEC)
            program = [sys.executable, "-m", "modelmeter", "sweep", "spec.yaml", "--out", f"rows.{suffix}", "--quiet"]
            subprocess.run(program, cwd=folder, check=True, env={**os.environ, "PYTHONHASHSEED": str(len(made))})
            made.append((folder / f"rows.{suffix}").read_bytes())
        assert made[0] == made[1]


def test_no_torch_is_loaded(tmp_path: Path) -> None:
    write_spec(tmp_path, SMALL_SPEC)
    code = (
        "import sys; from modelmeter.cli import run; "
        "assert run(['sweep', 'spec.yaml', '--out', 'rows.parquet', '--quiet']) == 0; "
        "assert not {'torch', 'transformers', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
