"""The command line: one command a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

import modelmeter
from modelmeter.cli.console import report_error
from modelmeter.cli.trace import trace
from modelmeter.errors import ModelMeterError, UsageError

__all__ = ["app", "main"]

app = App(
    name="modelmeter",
    help="What a PyTorch model runs and what it costs: exact, without weights, without a GPU.",
    version=modelmeter.__version__,
)
app.command(trace)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave with its exit code: 0, or the error's own; 130 after Ctrl-C."""
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: list[str]) -> int:
    """Run a command; gives the exit code."""
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except ModelMeterError as error:
        return report_error(error)
    except CycloptsError as error:
        return report_error(UsageError(" ".join(str(error).split()), remedy="see modelmeter --help"))
    except KeyboardInterrupt:
        print("modelmeter: interrupted; nothing was overwritten", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    return 0
