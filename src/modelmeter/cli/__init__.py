"""The command line: one command a file."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

from cyclopts import App, CycloptsError, UnknownCommandError

import modelmeter
from modelmeter.cli.analyze import analyze
from modelmeter.cli.calibrate import calibrate
from modelmeter.cli.console import give_up_stdout, report_error, set_encoding
from modelmeter.cli.devices import devices
from modelmeter.cli.diff import diff
from modelmeter.cli.graph import graph
from modelmeter.cli.measure import measure
from modelmeter.cli.memory import memory
from modelmeter.cli.report import report
from modelmeter.cli.serve import serve
from modelmeter.cli.sweep import sweep
from modelmeter.cli.trace import trace
from modelmeter.cli.verify import verify
from modelmeter.cli.what_if import what_if
from modelmeter.errors import InternalError, ModelMeterError, UnknownNameError, UsageError

__all__ = ["app", "main"]

app = App(
    name="modelmeter",
    help="What a PyTorch model runs and what it costs: exact, without weights, without a GPU.",
    version=modelmeter.__version__,
    suppress_keyboard_interrupt=False,
)
app.command(trace)
app.command(analyze)
app.command(what_if)
app.command(sweep)
app.command(verify)
app.command(memory)
app.command(diff)
app.command(graph)
app.command(measure)
app.command(calibrate)
app.command(devices)
app.command(report)
app.command(serve)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave with its exit code: 0, or the error's own; 130 after Ctrl-C."""
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: list[str]) -> int:
    """Run a command; gives the exit code."""
    # A terminal that has no letter for something shows its escape, instead of ending the command.
    set_encoding(sys.stdout, errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")  # those of libraries; an error is one line
            answer = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except ModelMeterError as error:
        return report_error(error)
    except UnknownCommandError as error:
        return report_error(_unknown(error))
    except CycloptsError as error:
        text = " ".join(str(error).split()).rstrip(".")
        return report_error(UsageError(text, remedy=f"see {_help(arguments)}"))
    except KeyboardInterrupt:
        print("modelmeter: interrupted; nothing was overwritten", file=sys.stderr)
        return 130
    except BrokenPipeError:
        give_up_stdout()
        return 141
    except Exception as error:
        text = " ".join(str(error).split()) or "no message"
        unforeseen = InternalError(
            f"{type(error).__name__}: {text}",
            remedy="this is a mistake in modelmeter; MODELMETER_TRACEBACK=1 shows where",
        )
        unforeseen.__cause__ = error
        return report_error(unforeseen)
    return answer if isinstance(answer, int) else 0


def _unknown(error: UnknownCommandError) -> UsageError:
    name = (error.unused_tokens or [""])[0]
    if name.startswith("-"):
        return UnknownNameError("option", name, (*app.help_flags, *app.version_flags))
    return UnknownNameError("command", name, [command for command in app if not command.startswith("-")])


def _help(arguments: list[str]) -> str:
    command = arguments[0] if arguments and arguments[0] in app else ""
    return " ".join(["modelmeter", *([command] if command else []), "--help"])
