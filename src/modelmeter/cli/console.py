"""What every command says and how: progress on stderr, results on stdout, errors in one line."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from modelmeter.errors import ModelMeterError, OutputError


@contextmanager
def progress(title: str, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A spinner on stderr with what is being done; silent when not a terminal or with --quiet."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from modelmeter.render.terminal import console

    with console(stderr=True).status(title) as status:
        yield lambda step: status.update(f"{title}: {step}")


def report_error(error: ModelMeterError) -> int:
    """Print an error as one line; gives its exit code. MODELMETER_TRACEBACK=1 prints where it came from first."""
    if os.environ.get("MODELMETER_TRACEBACK"):
        traceback.print_exception(error)
    # Names of files and messages of models may hold anything, also what would steer a terminal.
    line = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in str(error))
    print(f"modelmeter: {line}", file=sys.stderr)
    return error.exit_code


@contextmanager
def printing() -> Iterator[None]:
    """What is printed in a block is on its way at its end; OutputError if it cannot be."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up_stdout()
        problem = f"cannot print the result: {error.strerror or error}"
        raise OutputError(problem, remedy="write it into a folder with --out") from None


def write_text(text: str) -> None:
    """Print a document to stdout, in UTF-8 whatever the terminal's encoding."""
    set_encoding(sys.stdout, encoding="utf-8")
    sys.stdout.write(text)


def set_encoding(stream: Any, **settings: str) -> None:
    """Change how a stream encodes, where it is one that can."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(**settings)  # type: ignore[arg-type]


def give_up_stdout() -> None:
    """Let Python's last flush at exit go nowhere: stdout is full or nobody reads it any more."""
    with suppress(OSError, ValueError):  # a stream that is no file has nothing to flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
