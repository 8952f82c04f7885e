"""A Markdown page built with mdutils: headings, paragraphs, tables, formulas, links."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from modelmeter.errors import MissingDependencyError
from modelmeter.render.labels import shorten
from modelmeter.render.markdown_text import code, text

MOST_IN_CELL = 200

_NUMBER = re.compile(r"-?|-?[0-9][0-9,.]*%?")


class Page:
    """One page. Texts are Markdown: names that come from a model go through ``name`` or ``mono`` first."""

    def __init__(self, title: str) -> None:
        try:
            from mdutils.mdutils import MdUtils
        except ImportError:
            raise MissingDependencyError(
                "documents are written with mdutils, which is not installed",
                remedy="install modelmeter[report]",
            ) from None
        self._file = MdUtils(file_name="", title=title, title_header_style="atx")

    def heading(self, title: str, level: int = 2) -> None:
        """A heading; mdutils puts no empty line before it."""
        self._file.new_line()
        self._file.new_header(level, title, add_table_of_contents="n")

    def paragraph(self, markdown: str) -> None:
        """A paragraph."""
        self._file.new_line()
        self._file.new_line(markdown)
        self._file.new_line()

    def bullets(self, items: Iterable[str]) -> None:
        """A list."""
        self._file.new_list(list(items))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table; columns in which only numbers stand are aligned to the right."""
        cells = [list(columns), *(list(row) for row in rows)]
        aligned = ["right" if _numbers(column) else "left" for column in zip(*cells[1:], strict=True)]
        aligned = aligned or ["left"] * len(columns)
        self._file.new_line()
        self._file.new_table_array(cells, text_align=aligned)

    def formula(self, latex: str) -> None:
        """A formula on lines of its own."""
        self.paragraph(f"$$\n{latex}\n$$")

    def picture(self, alternative: str, path: str) -> None:
        """A picture."""
        self.paragraph(self._file.new_inline_image(alternative, path))

    def text(self) -> str:
        """The page, with one empty line between its parts and a line break at its end."""
        lines: list[str] = []
        for line in self._file.get_md_text().split("\n"):
            kept = line.rstrip()
            if kept or (lines and lines[-1]):
                lines.append(kept)
        return "\n".join(lines).rstrip("\n") + "\n"


def _numbers(column: Sequence[str]) -> bool:
    return all(_NUMBER.fullmatch(cell) for cell in column) and any(cell not in ("", "-") for cell in column)


def name(plain: str, most: int = MOST_IN_CELL) -> str:
    """A name from a model as Markdown text."""
    return text(shorten(plain, most))


def mono(plain: str, most: int = MOST_IN_CELL) -> str:
    """A name from a model in a code span."""
    return code(shorten(plain, most))


def link(markdown: str, path: str) -> str:
    """A link within the documents."""
    return f"[{markdown}]({path})"
