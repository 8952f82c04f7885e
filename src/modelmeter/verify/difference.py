"""One number that the two sides do not agree on."""

from __future__ import annotations

from attrs import frozen


@frozen
class Difference:
    """A module, a number of it, and what either side says. ``forward`` is prefill, decode, or all of them."""

    module: str
    forward: str
    metric: str
    closed: int | str
    traced: int | str
    excused: bool = False
    reason: str = ""
