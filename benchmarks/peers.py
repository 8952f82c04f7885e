"""ModelMeter beside other tools that count a model's FLOPs: the same models through all of them, in one run.

    pip install -c constraints.txt -e '.[bench]'
    python benchmarks/peers.py                          # all models; DeepSeek-OCR at full size takes minutes and 10 GB
    python benchmarks/peers.py cnn hostile              # some of them
    python benchmarks/peers.py --json --without ocr
    python benchmarks/peers.py --markdown               # the table of docs/peers.md

A row is one tool on one model in a process of its own: seconds to build the model and to count it, the
largest resident memory of the process, the matrix FLOPs that were found (one multiply-add is 2) as a
share of ModelMeter's, which the tests hold to real runs and to counts by hand, and what was missed or
why it failed. Machines differ and are noisy: seconds only say what ratio to expect.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

MODELS = ("cnn", "encoder", "shared", "moe", "hostile", "ocr-small", "ocr")
PEERS = ("modelmeter", "flop-counter", "torchlens", "fvcore", "torchinfo")
COLUMNS = ("model", "tool", "build s", "count s", "GB", "matrix FLOPs", "share", "missed, or why it failed")
MOST_LETTERS = 110
PRODUCTS = re.compile("attention|mm|conv|matmul|linear|encoder")
"""Operators that a tool leaves out are many; those that multiply matrices are named first."""

Row = dict[str, Any]


def run_one(peer: str, model: str, limit_s: float) -> Row:
    """One tool on one model, within a time limit."""
    command = [sys.executable, str(Path(__file__).parent / "peer_runs.py"), peer, model]
    environment = {**os.environ, "TRANSFORMERS_VERBOSITY": "error"}
    row: Row = {"model": model, "tool": peer}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s, env=environment)
    except subprocess.TimeoutExpired:
        return {**row, "error": f"not done after {limit_s:.0f} s"}
    if done.returncode or not done.stdout.strip():
        reason = (done.stderr.strip().splitlines() or [f"left with {done.returncode}, without a word"])[-1]
        return {**row, "error": reason}
    return {**row, **json.loads(done.stdout.splitlines()[-1])}


def judged(rows: list[Row]) -> list[Row]:
    """Rows with their share of ModelMeter's FLOPs, and what they missed, in words."""
    ours = {row["model"]: row for row in rows if row["tool"] == "modelmeter"}
    for row in rows:
        own = ours[row["model"]]
        if "error" in row:
            row["missed"] = row["error"]
            continue
        row["share"] = row["matrix_flops"] / own["matrix_flops"]
        missed = []
        if row["tool"] == "flop-counter":
            missed = [name for name in own["formulas"] if name not in row["formulas"]]
        elif row["share"] < 1:
            missed = sorted(row["left_out"], key=lambda name: not PRODUCTS.search(name))
        unnamed = "" if row["share"] == 1 else "not said" if row["share"] < 1 else "counts other work as well"
        row["missed"] = f"no formula: {', '.join(missed)}" if missed else unnamed
    return rows


def cells(row: Row) -> list[str]:
    """A row as the table shows it."""

    def number(key: str, form: str) -> str:
        return format(row[key], form) if key in row else "-"

    missed = row["missed"].partition("(")[0]  # what follows in an error is the values of tensors
    return [
        row["model"],
        row["tool"],
        number("build_s", ".2f"),
        number("seconds", ".2f"),
        number("peak_gb", ".2f"),
        number("matrix_flops", ","),
        number("share", ".2%"),
        missed if len(missed) <= MOST_LETTERS else f"{missed[: MOST_LETTERS - 1]}…",
    ]


def as_markdown(rows: list[Row]) -> str:
    """The table as Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---|--:|--:|--:|--:|--:|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(cells(row)).replace('_', chr(92) + '_')} |" for row in rows)])


def as_text(rows: list[Row]) -> str:
    """The table for a terminal."""
    table = [list(COLUMNS), *map(cells, rows)]
    widths = [max(len(line[place]) for line in table) for place in range(len(COLUMNS))]
    last = len(COLUMNS) - 1

    def drawn(line: list[str]) -> str:
        return "  ".join(
            cell.ljust(width) if place in (0, 1, last) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()

    return "\n".join(map(drawn, table))


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", choices=[[], *MODELS], metavar="MODEL", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--without", nargs="*", choices=MODELS, default=[], metavar="MODEL", help="leave these out")
    parser.add_argument("--limit", type=float, default=600, metavar="SECONDS", help="for one tool on one model")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the rows as JSON")
    form.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options = parser.parse_args()
    models = [model for model in options.models or MODELS if model not in options.without]
    rows = []
    for model in models:
        for peer in PEERS:
            print(f"{peer} on {model}", file=sys.stderr)
            rows.append(run_one(peer, model, options.limit))
    rows = judged(rows)
    if options.json:
        print(json.dumps(rows, indent=2, sort_keys=True))
    else:
        print(as_markdown(rows) if options.markdown else as_text(rows))


if __name__ == "__main__":
    main()
