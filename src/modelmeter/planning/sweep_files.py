"""A sweep's unfinished work: a folder beside the result, with every finished chunk and what they are chunks of.

``results.csv.partial/`` holds ``manifest.json``, and for each chunk its rows and a JSON file with their hash and a
summary, written last. Files are written beside and renamed, so a killed process leaves whole chunks or none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from modelmeter.errors import OutputError
from modelmeter.schema.files import UNFINISHED

MANIFEST = "manifest.json"
WHOLE = "whole"

_OWN = re.compile(rf"(manifest\.json|chunk-\d+\.(csv|parquet|json)|whole\.(csv|parquet))({re.escape(UNFINISHED)})?")

_DIFFERENCES = {
    "version": "of another version of ModelMeter",
    "columns": "with other columns",
    "format": "in another format",
}
"""What tells one unfinished sweep from another, besides its specification."""


@frozen
class Unfinished:
    """The folder of a result's unfinished work."""

    target: Path

    @property
    def folder(self) -> Path:
        """It lies beside the result and is named after it."""
        return self.target.with_name(f"{self.target.name}.partial")

    @property
    def whole(self) -> Path:
        """All rows put together, before they are put in place."""
        return self.folder / f"{WHOLE}{self.target.suffix.lower()}"

    def rows(self, number: int) -> Path:
        """A chunk's rows."""
        return self.folder / f"chunk-{number:06}{self.target.suffix.lower()}"

    def check(self, manifest: Mapping[str, Any], *, force: bool) -> None:
        """Refuse a folder with the work of another sweep, or with what is no sweep's; changes nothing.

        Raises OutputError; other work is not refused with ``force``.
        """
        if not self.folder.exists():
            return
        foreign = not self.folder.is_dir() or [each for each in self.folder.iterdir() if not _OWN.fullmatch(each.name)]
        if foreign:
            raise OutputError(f"{self.folder} is in the way", remedy="move it, or choose another file with --out")
        found = self._manifest()
        if found is not None and found != manifest and not force:
            names = [words for key, words in _DIFFERENCES.items() if found.get(key) != manifest[key]]
            raise OutputError(
                f"{self.folder} holds an unfinished sweep {names[0] if names else 'of another specification'}",
                remedy="finish that one, discard it with --force, or choose another file with --out",
            )

    @contextlib.contextmanager
    def opened(self, manifest: Mapping[str, Any]) -> Iterator[None]:
        """The folder, for this process alone, with the work of this sweep or none.

        Raises OutputError for one that another process works in, and for what cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _alone(self.folder, self.target):
                if self._manifest() != manifest:
                    self._discard()
                    _put(self.folder / MANIFEST, json.dumps(manifest, sort_keys=True).encode())
                yield
        except OSError as error:
            raise OutputError(
                f"cannot write {self.folder}: {error.strerror or error}",
                remedy="free space and run again, or choose another file with --out",
            ) from None

    def summary(self, number: int) -> dict[str, Any] | None:
        """What a finished chunk's summary says; None where the chunk is not finished, or damaged."""
        try:
            kept = json.loads(self._summary(number).read_text(encoding="utf-8"))
            with self.rows(number).open("rb") as stream:
                whole = hashlib.file_digest(stream, "sha256").hexdigest() == kept["sha256"]
            found: dict[str, Any] = kept["summary"]
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return found if whole else None

    def put(self, number: int, rows: bytes, summary: Mapping[str, Any]) -> None:
        """Keep a finished chunk."""
        _put(self.rows(number), rows)
        kept = {"sha256": hashlib.sha256(rows).hexdigest(), "summary": summary}
        _put(self._summary(number), json.dumps(kept, sort_keys=True).encode())

    def finish(self) -> None:
        """Put the whole in place; the folder goes."""
        with self.whole.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(self.whole, self.target)
        self._discard()
        self.folder.rmdir()

    def _manifest(self) -> Any:
        """None where there is none that can be read: then nothing is worth keeping."""
        try:
            return json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _summary(self, number: int) -> Path:
        return self.folder / f"chunk-{number:06}.json"

    def _discard(self) -> None:
        """Remove what is a sweep's, the manifest first: what is left without it is nobody's work."""
        own = [path for path in self.folder.iterdir() if _OWN.fullmatch(path.name)]
        for path in sorted(own, key=lambda path: path.name != MANIFEST):
            path.unlink()


def _put(path: Path, content: bytes) -> None:
    """Write a file in one piece."""
    beside = path.with_name(path.name + UNFINISHED)
    with beside.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(beside, path)


@contextlib.contextmanager
def _alone(folder: Path, target: Path) -> Iterator[None]:
    """Lock a folder where the system can; the lock goes with the process, however it ends."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError):
            import fcntl

            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(
                    f"another process is writing {target}", remedy="wait for it, or choose another file with --out"
                ) from None
        yield
