"""Names and texts of a model inside Markdown: nothing in them is read as markup."""

from __future__ import annotations

import re


def code(text: str) -> str:
    """A code span, fenced by more backticks in a row than are in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    # Markdown takes one space off both ends, where both are spaces and something else is between them.
    space = " " if longest or not text.strip() or (text[0] == text[-1] == " ") else ""
    return f"{fence}{space}{text or ' '}{space}{fence}"


_SPECIAL = re.compile(r"[\\`*\[\]<>|&~#!]|(?<![^\W_])_|_(?![^\W_])")


def text(plain: str) -> str:
    """Entities for what Markdown or a table would read; an underscore inside a word is none of it."""
    marked = _SPECIAL.sub(lambda match: f"&#{ord(match.group())};", plain)
    return re.sub(r"(?i)(https?|ftp|www|mailto|xmpp)(?=[:.])", lambda m: f"{m[0]}&#8203;", marked)
