"""What every command says and how: progress on stderr, results on stdout, errors in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from modelmeter.errors import ModelMeterError


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
    """Print an error as one line; gives its exit code."""
    print(f"modelmeter: {error}", file=sys.stderr)
    return error.exit_code
