"""Colours of the stages, told apart also by those who see fewer colours, and widths that follow cost."""

from __future__ import annotations

import math

from attrs import frozen

from modelmeter.callgraph.folded import FoldedGraph


@frozen
class Colour:
    """Fill and line of a stage's nodes, and its name in the terminal and in Chrome's trace viewer."""

    fill: str
    line: str
    terminal: str
    chrome: str


COLOURS = {
    "vision": Colour("#dbeafe", "#2563a8", "blue", "thread_state_running"),
    "projector": Colour("#ede3fa", "#7443b0", "magenta", "thread_state_iowait"),
    "prefill": Colour("#fdebd0", "#b4620f", "yellow", "thread_state_runnable"),
    "decode": Colour("#d8f2dc", "#217a45", "green", "thread_state_sleeping"),
    "other": Colour("#eeeeee", "#5c6068", "default", "generic_work"),
}

SEVERAL = Colour("#ffffff", "#33373d", "bold", "generic_work")
"""Callers of more than one stage."""


def stages_below(folded: FoldedGraph) -> dict[str, str | None]:
    """The stage of each family and all below it, None where they have several."""
    found: dict[str, set[str]] = {name: {family.stage} for name, family in folded.families.items()}
    for name in sorted(found, key=lambda name: -folded.depths[name]):
        parent = folded.parents.get(name)
        if parent is not None:
            found[parent] |= found[name]
    return {name: next(iter(stages)) if len(stages) == 1 else None for name, stages in found.items()}


def colour(stage: str | None) -> Colour:
    """The colour of a stage, or of callers of several."""
    return SEVERAL if stage is None else COLOURS.get(stage, COLOURS["other"])


def pen_width(value: int, whole: int, widest: float = 6.0) -> float:
    """A line's width: its area grows with cost, and no cost is still a line."""
    share = min(1.0, value / whole) if whole > 0 else 0.0
    return round(0.6 + (widest - 0.6) * math.sqrt(share), 2)
