"""Writing results so that nothing is lost: beside the target first, then renamed into place."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from modelmeter.errors import OutputError


def check_writable(directory: Path, names: Iterable[str], *, force: bool) -> None:
    """Refuse early what could not be written later: called before the long work begins.

    Raises OutputError if the folder cannot be made or written to, or if one of the files exists and
    ``force`` is not set. Makes the folder if it is missing.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(
            f"cannot write into {directory}: {reason}", remedy="choose another folder with --out"
        ) from None
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
    check_writable(path.parent, [path.name], force=force)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".part")
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror}", remedy="free space or choose another folder"
        ) from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
    return path


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
