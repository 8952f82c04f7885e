"""Types of the contract's fields: plain types to a type checker, with what the codec and the schemas hold them to."""

from __future__ import annotations

from typing import Annotated, Any

from modelmeter.schema.constraints import AtLeast, KeysOf, OneOf, PlainData, Written
from modelmeter.schema.scenario import Scenario

VISION_BACKBONES = ("sam_vit_b", "clip_vit_l", "other")
DOC_KINDS = ("text_heavy", "mixed_layout", "image_rich", "synthetic")
REPORT_STAGES = ("vision", "projector", "prefill", "decode", "other")
REPETITIONS = ("none", "for", "parfor")
RUN_STATES = ("queued", "running", "done", "failed")
BOUNDS = ("", "compute", "memory", "launch", "network")
"""What a part of the run waits for; empty where it takes no time."""

ACCEPTED_STATES = ("queued", "running")

Count = Annotated[int, AtLeast(0)]
"""A whole number that is not negative."""

Amount = Annotated[float, AtLeast(0)]
"""A finite number that is not negative; the unit is in the field's name."""

Name = Annotated[str, Written(r"^[^\x00-\x1f\x7f]{1,1000}$", "one line of text")]

Identifier = Annotated[
    str, Written(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", "an id of letters, digits, '.', '_' and '-', at most 128")
]
"""An id that may be a folder's name: it leads out of no folder."""

# No root, drive, scheme or '~', no empty part, no '.' and no '..': where the report goes, its paths go.
_PART = r"(?!\.{1,2}(?:/|$))[^/\\:\x00-\x1f\x7f]+"
RelativePath = Annotated[
    str,
    Written(rf"^(?!~){_PART}(?:/{_PART})*/?$", "a path relative to the report, below its folder, with '/'"),
]

VisionBackbone = Annotated[str, OneOf(VISION_BACKBONES)]
DocKind = Annotated[str, OneOf(DOC_KINDS)]
Stage = Annotated[str, OneOf(REPORT_STAGES)]
Bound = Annotated[str, OneOf(BOUNDS)]
Repetition = Annotated[str, OneOf(REPETITIONS)]
RunState = Annotated[str, OneOf(RUN_STATES)]
AcceptedState = Annotated[str, OneOf(ACCEPTED_STATES)]

FreeData = Annotated[dict[str, Any], PlainData()]
"""An object whose keys the contract does not say; numbers in it are finite, and all is what JSON can hold."""

ScenarioKeys = Annotated[dict[str, Any], PlainData(), KeysOf(Scenario)]
"""Some keys of a scenario, by name, type and value; what is left out keeps its value."""
