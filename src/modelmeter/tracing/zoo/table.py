"""The zoo as Markdown: how many were traced, each with its figures, and each failure with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from modelmeter.tracing.zoo.entry import Entry
from modelmeter.tracing.zoo.excuses import FAILS_TOO, MISSING_PACKAGE
from modelmeter.units import format_count, format_flops

BEGIN = "<!-- written by python -m modelmeter.tracing.zoo -->"
"""Everything after this line is the table's."""


def summary(rows: Mapping[str, Entry]) -> str:
    """How many names were tried, traced and excused, in one line."""
    traced = [entry for entry in rows.values() if not entry.failure]
    package = [entry for entry in rows.values() if entry.excuse.startswith(MISSING_PACKAGE)]
    real = [entry for entry in rows.values() if entry.excuse.startswith(FAILS_TOO)]
    expected = len(rows) - len(package) - len(real)
    share = f" ({100 * len(traced) / expected:.1f}%)" if expected else ""
    return (
        f"{len(rows)} names tried: {len(traced)} traced of {expected} that can run here{share}; "
        f"{len(package)} need a package that is not installed, {len(real)} fail for real in the same way, "
        f"{len(rows) - len(traced) - len(package) - len(real)} fail without an excuse, for the reasons below."
    )


def with_table(text: str, rows: Mapping[str, Entry]) -> str:
    """A document with the table in place of what follows its mark."""
    return f"{text.partition(BEGIN)[0].rstrip()}\n\n{BEGIN}\n\n{zoo_table(rows)}"


def zoo_table(rows: Mapping[str, Entry]) -> str:
    """The whole part that is written: summary, traced names, settings, uncalled modules, failures."""
    entries = [rows[name] for name in sorted(rows)]
    traced = [entry for entry in entries if not entry.failure]
    parts = [summary(rows), _table(TRACED, map(_traced, traced))]
    changed = [entry for entry in traced if entry.settings]
    if changed:
        parts += [
            "### Settings\n\nThese default configurations lack something, and were traced with it:",
            _table(("name", "setting", "why"), map(_setting, changed)),
        ]
    silent = [entry for entry in traced if entry.uncalled]
    if silent:
        parts += [
            "### Modules that were not called\n\n"
            "They own parameters and were not called. How many for which reason, and the first:",
            _table(("name", "modules", "why"), map(_uncalled, silent)),
        ]
    lower = [entry for entry in traced if entry.unknown_operators]
    if lower:
        parts += [
            "### Lower bounds\n\nThe FLOPs of some operators are not known:",
            _table(("name", "operators"), ((e.name, ", ".join(e.unknown_operators)) for e in lower)),
        ]
    failed = [entry for entry in entries if entry.failure]
    if failed:
        parts += ["### Failures", _table(("name", "class", "failure", "excuse"), map(_failure, failed))]
    return "\n\n".join(parts) + "\n"


TRACED = ("name", "class", "parameters", "FLOPs", "operations", "s", "dtype", "inputs")


def _traced(entry: Entry) -> tuple[str, ...]:
    return (
        entry.name,
        entry.class_name,
        format_count(entry.parameters),
        format_flops(entry.matrix_flops),
        f"{entry.operations:,}",
        f"{entry.seconds:.1f}",
        entry.dtype,
        entry.inputs,
    )


def _setting(entry: Entry) -> tuple[str, ...]:
    return entry.name, ", ".join(f"`{key}={value}`" for key, value in entry.settings.items()), entry.setting_reason


def _uncalled(entry: Entry) -> tuple[str, ...]:
    reasons = Counter(entry.uncalled.values())
    first = {reason: next(name for name, why in entry.uncalled.items() if why == reason) for reason in sorted(reasons)}
    words = [f"{reasons[reason]}: {reason} ({name})" for reason, name in first.items()]
    return entry.name, f"{len(entry.uncalled)} of {entry.owners}", "; ".join(words)


def _failure(entry: Entry) -> tuple[str, ...]:
    return entry.name, entry.class_name, entry.failure, entry.excuse or "none"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '∣') for cell in line)} |" for line in lines)
