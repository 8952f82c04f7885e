"""``python -m modelmeter.tracing.zoo``: trace every architecture, and write the table of docs/zoo.md.

Rows that are in the data file stay, so an interrupted run goes on; ``--again failed`` repeats failures.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from attrs import evolve

from modelmeter.errors import ModelMeterError, UnknownNameError
from modelmeter.schema.codec import read_text
from modelmeter.schema.files import write_file
from modelmeter.tracing.zoo.entry import Entry, class_of, excuse_of, trace_entry, zoo_names
from modelmeter.tracing.zoo.excuses import excuses
from modelmeter.tracing.zoo.pool import Failed, run_each
from modelmeter.tracing.zoo.store import read_rows, write_rows
from modelmeter.tracing.zoo.table import summary, with_table


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    # Ended from outside, it takes its processes with it: they may hold gigabytes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        _run(options)
    except ModelMeterError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m modelmeter.tracing.zoo", description=__doc__)
    parser.add_argument("names", nargs="*", help="architectures; all if none is given")
    parser.add_argument("--data", type=Path, default=Path("docs/zoo.json"), help="file of the rows")
    parser.add_argument("--table", type=Path, help="Markdown file whose table is written, such as docs/zoo.md")
    parser.add_argument("--processes", type=int, default=2, help="architectures at a time")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for each")
    parser.add_argument("--again", choices=["failed", "all"], help="repeat rows that are there")
    return parser


def _run(options: argparse.Namespace) -> None:
    known = zoo_names()
    for name in options.names:
        if name not in known:
            raise UnknownNameError("architecture", name, known)
    rows = read_rows(options.data)
    chosen = options.names or known
    again = {"failed": lambda row: bool(row.failure), "all": lambda row: True}.get(options.again, lambda row: False)
    todo = [name for name in chosen if name not in rows or again(rows[name])]
    for name, found in run_each(trace_entry, todo, processes=options.processes, limit_s=options.limit):
        rows[name] = Entry(name, class_of(name), failure=found.reason) if isinstance(found, Failed) else found
        write_rows(options.data, rows)
        print(f"{name}: {rows[name].failure or f'{rows[name].matrix_flops:,} FLOPs'}", flush=True)
    # A run for real takes its own time; what fails without an excuse gets the chance of one.
    unexcused = [name for name in chosen if rows[name].failure and not rows[name].excuse]
    for name, words in run_each(excuse_of, unexcused, processes=options.processes, limit_s=options.limit):
        if isinstance(words, str) and excuses(words, rows[name].failure):
            rows[name] = evolve(rows[name], excuse=words)
            write_rows(options.data, rows)
    if options.table is not None:
        write_file(options.table, with_table(read_text(options.table), rows), force=True)
    print(summary(rows))


if __name__ == "__main__":
    main()
