"""The zoo's rows as a file, so that a run goes on where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import asdict

from modelmeter.errors import DocumentError
from modelmeter.schema.files import write_file
from modelmeter.tracing.zoo.entry import Entry


def versions() -> dict[str, str]:
    """Of the libraries that a row depends on."""
    import torch
    import transformers

    return {"torch": str(torch.__version__).partition("+")[0], "transformers": transformers.__version__}


def read_rows(path: Path) -> dict[str, Entry]:
    """Rows by name; none where no file is. Raises DocumentError for one of other versions or another form."""
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        found, rows = data["versions"], data["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DocumentError(f"{path} holds no rows of the zoo: {error}", remedy="remove it") from None
    if found != versions():
        raise DocumentError(
            f"{path} was written with {_words(found)}, and here is {_words(versions())}",
            remedy="give another file with --data, or remove it",
        )
    return {name: _entry(name, row, path) for name, row in rows.items()}


def _words(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(found.items()))


def _entry(name: str, row: Any, path: Path) -> Entry:
    try:
        lists = {key: tuple(value) for key, value in row.items() if isinstance(value, list)}
        return Entry(**{"name": name, **row, **lists})
    except (TypeError, AttributeError) as error:
        raise DocumentError(f"{path}: {name}: {error}", remedy="remove it") from None


def write_rows(path: Path, rows: Mapping[str, Entry]) -> None:
    """Write the rows, one a line, without what is empty."""
    empty = asdict(Entry(""))
    lines = []
    for name, entry in sorted(rows.items()):
        values = asdict(entry)
        row = {name: value for name, value in values.items() if name != "name" and value != empty[name]}
        lines.append(f"{json.dumps(name)}: {json.dumps(row, sort_keys=True, ensure_ascii=False)}")
    body = ",\n".join(lines)
    write_file(path, f'{{"rows": {{\n{body}\n}},\n"versions": {json.dumps(versions(), sort_keys=True)}}}\n', force=True)
