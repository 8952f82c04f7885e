"""Which operators are stand-ins: what they stand for, and their FLOPs from shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

NAMESPACE = "stand_in"
"""The operators' namespace: a document names them ``stand_in.flash_attention``."""

Flops = Callable[..., int]
"""Takes the operator's own arguments and its result as ``out``; gives an exact integer."""


def no_flops(*_: Any, **__: Any) -> int:
    """For operators without products of matrices."""
    return 0


@frozen
class StandIn:
    """One operator; ``stands_for`` is the rule in a document's assumptions."""

    stands_for: str
    vector: Flops
    matrix: Flops | None = None


STAND_INS: dict[str, StandIn] = {}
"""Operator name without overload (``stand_in.flash_attention``) to what is known of it."""


def register(name: str, stand_in: StandIn) -> None:
    """Make an operator known; a second one of the same name is refused."""
    full = f"{NAMESPACE}.{name}"
    if full in STAND_INS:
        raise ValueError(f"{full} is registered already")
    STAND_INS[full] = stand_in
