"""During which expert's run most is live: one that is larger, or one for which more results wait."""

from __future__ import annotations

from attrs import evolve

from modelmeter.cost.arithmetic import Number, less, where
from modelmeter.cost.layers.feed_forward import Load
from modelmeter.families.deepseek_ocr.config import DecoderConfig


def heavier(decoder: DecoderConfig, load: Load, copies: Number, experts: int) -> Load:
    """A balanced load with the expert during whose run most is live: the last one, or the last with one copy more."""
    fewer = copies // experts
    with_one_more = copies - fewer * experts
    last, earlier = (load.running, copies - load.running), (fewer + 1, (with_one_more - 1) * (fewer + 1))
    is_earlier = less(0, with_one_more) * less(live_elements(decoder, *last), live_elements(decoder, *earlier))
    running, waiting = (where(is_earlier, *pair) for pair in zip(earlier, last, strict=True))
    return evolve(load, running=running, waiting=waiting)


def live_elements(decoder: DecoderConfig, running: Number, waiting: Number) -> Number:
    """Elements that are live while an expert runs: what its ``running`` copies take, and ``waiting`` results.

    A copy takes three intermediate vectors at most, or one and its result.
    """
    hidden, inner = decoder.hidden_size, decoder.moe_intermediate_size
    return waiting * hidden + running * max(3 * inner, inner + hidden)
