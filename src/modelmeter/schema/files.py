"""Writing results so that nothing is lost: beside the target first, then renamed into place."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from modelmeter.errors import OutputError

UNFINISHED = ".part"
"""How the name of a file ends that is still being written; a process that was killed leaves it behind."""


def check_writable(directory: Path, names: Iterable[str], *, force: bool) -> None:
    """Refuse early what could not be written later: called before the long work begins. Changes nothing.

    Raises OutputError if the folder could not be made or written to, or if one of the files exists and
    ``force`` is not set.
    """
    try:
        existing = directory.absolute()
        while not _exists(existing):
            existing = existing.parent
        if not existing.is_dir():
            raise OutputError(f"{existing} is a file, not a folder", remedy="choose another folder with --out")
        with tempfile.TemporaryFile(dir=existing):
            pass
    except (OSError, ValueError) as error:
        raise _unwritable(directory, error) from None
    for name in names:
        target = directory / name
        if target.is_dir():
            raise OutputError(f"{target} is a folder", remedy="choose another folder with --out")
        if target.exists() and not force:
            raise OutputError(
                f"{target} exists", remedy="overwrite it with --force, or choose another folder with --out"
            )


def write_file(path: Path, content: str, *, force: bool = False) -> Path:
    """Write a file in one piece: after an interruption either the old file is there or the new one.

    Raises OutputError if the file exists and ``force`` is not set, or if it cannot be written.
    """
    write_files({path: content}, force=force)
    return path


def write_files(contents: Mapping[Path, str], *, force: bool = False) -> None:
    """Write files that belong together: none is renamed into place before all are on the disk.

    Raises OutputError if a file exists and ``force`` is not set, or if one cannot be written; then none is.
    """
    for path in contents:
        check_writable(path.parent, [path.name], force=force)
    ready: dict[Path, Path] = {}
    path = Path()
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not tempfile's: its files are the owner's alone, and to read the umask is to change it for all threads.
            temporary = path.parent / f".{path.name[:40]}.{secrets.token_hex(8)}{UNFINISHED}"
            with temporary.open("x", encoding="utf-8", newline="\n") as stream:
                ready[temporary] = path
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        for temporary, path in list(ready.items()):
            os.replace(temporary, path)
            del ready[temporary]
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from None
    finally:
        for temporary in ready:
            temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: Exception) -> OutputError:
    reason = getattr(error, "strerror", None) or str(error)
    return OutputError(f"cannot write {path}: {reason}", remedy="free space, or choose another folder with --out")


def _exists(path: Path) -> bool:
    """Unlike ``Path.exists``, this tells what is not there from what cannot be."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
