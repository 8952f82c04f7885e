"""How option values are read: whole numbers as they are written, sizes with what looks like an option."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter


def _whole_number(_: Any, tokens: Sequence[Any]) -> int:
    """The parser's own reading rounds ``2.5`` to 2 and takes ``0x10`` for 16."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError("give a whole number") from None


Whole = Annotated[int, Parameter(converter=_whole_number)]
"""A whole number; nothing is rounded."""

Sizes = Annotated[tuple[str, ...], Parameter(negative_iterable=(), allow_leading_hyphen=True)]
"""Sizes of WIDTHxHEIGHT, one for each time that the option is given."""

Flag = Annotated[bool, Parameter(negative=())]
"""A switch without a ``--no-`` form."""

Json = Annotated[bool, Parameter(name="--json", negative=())]
"""The switch that every command has: its answer as JSON on stdout."""
