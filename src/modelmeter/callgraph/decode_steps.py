"""Decode steps that were not traced, from those that were: each number of a step on a straight line.

A step attends to one position more than the one before it, so its FLOPs, its bytes and its cache grow by the same
amount every time, or not at all. Three steps show whether they do; where they do not (routing that is drawn, a
sliding window that fills up), the rest has to be traced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from modelmeter.callgraph.cost_tree import ForwardCosts, is_decode
from modelmeter.schema.cost import DECODE, Amount

K = TypeVar("K")

STEPS_THAT_SHOW = 3
"""So many steps say whether numbers lie on a straight line."""


def extended(forwards: Sequence[ForwardCosts], steps: int) -> list[ForwardCosts] | None:
    """The same run with ``steps`` decode steps; None where the traced ones do not show how the others go.

    What is not traced stands as one forward with the sum of its steps, whose cache and peak are the last one's.
    """
    traced = [forward for forward in forwards if is_decode(forward.name)]
    if steps <= len(traced):
        return [forward for forward in forwards if not is_decode(forward.name)] + traced[:steps]
    if len(traced) < STEPS_THAT_SHOW or not _straight(traced[-STEPS_THAT_SHOW:]):
        return None
    return [*forwards, _rest(traced[-2], traced[-1], len(traced), steps)]


def _straight(three: Sequence[ForwardCosts]) -> bool:
    """Whether every number of the second step is the mean of those beside it."""
    first, middle, last = (dict(_numbers(forward)) for forward in three)
    return first.keys() == middle.keys() == last.keys() and all(
        2 * middle[name] == first[name] + last[name] for name in middle
    )


def _numbers(forward: ForwardCosts) -> Iterator[tuple[Any, int]]:
    for entry, amount in forward.entries.items():
        for name, number in zip(Amount._fields, amount, strict=True):
            yield (entry, name), number
    for field in ("calls", "output_bytes", "peak_bytes", "cache_bytes"):
        for family, number in getattr(forward, field).items():
            yield (field, family), number


def _rest(before: ForwardCosts, last: ForwardCosts, traced: int, steps: int) -> ForwardCosts:
    """Steps ``traced + 1`` to ``steps``, where each differs from the one before it as ``last`` from ``before``."""
    missing = steps - traced
    rises = missing * (missing + 1) // 2

    def summed(numbers: Mapping[K, int], earlier: Mapping[K, int]) -> dict[K, int]:
        return {name: missing * number + rises * (number - earlier[name]) for name, number in numbers.items()}

    def at_the_end(numbers: Mapping[K, int], earlier: Mapping[K, int]) -> dict[K, int]:
        return {name: number + missing * (number - earlier[name]) for name, number in numbers.items()}

    return ForwardCosts(
        f"{DECODE} {traced + 1}-{steps}",
        {entry: _amount(amount, before.entries[entry], missing, rises) for entry, amount in last.entries.items()},
        summed(last.calls, before.calls),
        summed(last.output_bytes, before.output_bytes),
        at_the_end(last.peak_bytes, before.peak_bytes),
        at_the_end(last.cache_bytes, before.cache_bytes),
    )


def _amount(last: Amount, before: Amount, missing: int, rises: int) -> Amount:
    return Amount(*(missing * b + rises * (b - a) for a, b in zip(before, last, strict=True)))


def turning_points(configuration: Mapping[str, Any], positions: Iterable[int]) -> list[int]:
    """Sizes of windows and chunks in a configuration that a cache reaches within some positions, sorted.

    There a straight line bends: steps have to be traced beyond it.
    """
    inside = range(min(positions, default=0), max(positions, default=0) + 1)
    found = {
        value
        for key, value in _walk(configuration)
        if type(value) is int and value in inside and ("window" in key or "chunk" in key)
    }
    return sorted(found)


def _walk(configuration: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in configuration.items():
        if isinstance(value, Mapping):
            yield from _walk(value)
        else:
            yield str(key), value
