"""Which inputs a forward runs on: those that its signature says, or the next ones where it stumbles over them.

An argument that it asks for is added; else the layout of its picture, then of its sound, then of its prompt,
is the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from attrs import evolve, frozen
from torch import nn

from modelmeter.errors import ModelMeterError, ScenarioError, TracingError, UsageError
from modelmeter.schema.callgraph import CallGraph
from modelmeter.tracing.hugging_face.complaints import argument_asked_for
from modelmeter.tracing.hugging_face.configuration import one_line
from modelmeter.tracing.hugging_face.documented import is_documented
from modelmeter.tracing.hugging_face.example import forward_arguments
from modelmeter.tracing.hugging_face.layouts import PICTURE_LAYOUTS, PROMPT_LAYOUTS, SOUND_LAYOUTS
from modelmeter.tracing.hugging_face.makers import MAKERS
from modelmeter.tracing.hugging_face.media import PICTURES, SOUNDS

_NEVER = ("inputs_embeds", "past_key_values", "labels", "head_mask", "position_ids", "cache_position")
"""What a message may name, and a prompt makes needless."""


@frozen
class Attempt:
    """Optional arguments that are given too, and the layouts of media: 0 as processor and configuration say."""

    also: tuple[str, ...] = ()
    layouts: tuple[int, int, int] = (0, 0, 0)
    """Of picture, sound and prompt."""


def first_that_runs(
    module: nn.Module,
    traced: Callable[[Attempt], CallGraph],
    *,
    given: Collection[str],
    codebooks: int,
    prefilled: Callable[[], bool],
) -> CallGraph:
    """The trace of the first attempt that runs; raises the error of the last one without other layouts if none does.

    ``given`` are the user's own inputs, which are not replaced; ``codebooks`` says how many ids a position of
    the prompt may have. What fails after the first forward
    (``prefilled``), or because of the scenario, is not the inputs' fault.
    """
    arguments = forward_arguments(module)
    candidates = {
        name
        for name in arguments
        if name not in given
        and name not in _NEVER
        and "label" not in name
        and (name in MAKERS or is_documented(module, name))
    }
    most = (
        len(PICTURE_LAYOUTS) if any(name in arguments and name not in given for name in PICTURES) else 0,
        len(SOUND_LAYOUTS) if any(name in arguments and name not in given for name in SOUNDS) else 0,
        len(PROMPT_LAYOUTS) if codebooks > 1 else 0,
    )
    told: Exception | None = None
    attempt: Attempt | None = Attempt()
    while attempt is not None:
        try:
            return traced(attempt)
        except Exception as error:
            if told is None or not any(attempt.layouts):
                told = error
            if prefilled() or isinstance(error, (ScenarioError, UsageError)):
                break
            attempt = _next(attempt, argument_asked_for(error, candidates - {*attempt.also}), most)
    assert told is not None
    if isinstance(told, ModelMeterError):
        raise told
    raise TracingError(
        f"the features of its images or sounds raised {type(told).__name__}: {one_line(told)}",
        remedy="check the configuration, or give your own inputs in a file for --inputs",
    ) from told


def _next(attempt: Attempt, asked_for: str | None, most: tuple[int, int, int]) -> Attempt | None:
    """With one argument more, or with the next layout of one input and the first ones of the others."""
    if asked_for is not None:
        return evolve(attempt, also=(*attempt.also, asked_for))
    now = attempt.layouts
    turn = next((place for place, layout in enumerate(now) if layout), 0)
    while turn < len(most) and now[turn] >= most[turn]:
        turn += 1
        now = (0, 0, 0)  # none of its layouts runs: the next input's turn
    if turn == len(most):
        return None
    picture, sound, prompt = (layout + (place == turn) for place, layout in enumerate(now))
    return Attempt(attempt.also, (picture, sound, prompt))
