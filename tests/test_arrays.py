"""Graphs of expressions: worked out for arrays, compiled, and in simpler form, they give what plain Python gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmeter.cost.arithmetic import Number, ceil_div, equal, less, maximum, minimum, where
from modelmeter.cost.arrays import evaluate_arrays, whole_numbers
from modelmeter.cost.compiled import compile_for_numbers
from modelmeter.cost.expression import evaluate_all, in_order, key
from modelmeter.cost.linear import Sums
from modelmeter.cost.ranges import ranges

KEYS = ("a", "b", "c")
HUGE = 2**62

integers = st.one_of(st.integers(-9, 9), st.integers(-(2**40), 2**40), st.integers(-(2**70), 2**70))
sizes = st.one_of(st.integers(0, 9), st.integers(0, 2**40))


@st.composite
def graphs(draw: st.DrawFn, operations: str = "+-*/<=MmW") -> list[Number]:
    """Some roots over three keys. Divisors are positive constants, as in closed forms."""
    known: list[Number] = [key(name) for name in KEYS]
    known += draw(st.lists(st.integers(-5, 5), max_size=2))
    for _ in range(draw(st.integers(1, 14))):
        a, b, c = (draw(st.sampled_from(known)) for _ in range(3))
        match draw(st.sampled_from(operations)):
            case "+":
                known.append(a + b)
            case "-":
                known.append(a - b)
            case "*":
                known.append(a * b)
            case "/":
                known.append(a // draw(st.integers(1, 7)))
            case "<":
                known.append(less(a, b))
            case "=":
                known.append(equal(a, b))
            case "M":
                known.append(maximum(a, b))
            case "m":
                known.append(minimum(a, b))
            case "W":
                known.append(where(less(a, b), b, c))
    return known[len(KEYS) :]


def columns(values: dict[str, list[int]]) -> dict[str, Any]:
    """Each key's values along an axis of its own; a number where there is one."""
    found: dict[str, Any] = {}
    for axis, (name, own) in enumerate(values.items()):
        shape = [len(own) if place == axis else 1 for place in range(len(values))]
        found[name] = own[0] if len(own) == 1 else whole_numbers(own).reshape(shape)
    return found


@settings(max_examples=300, deadline=None)
@given(graphs(), st.tuples(*[st.lists(integers, min_size=1, max_size=3)] * len(KEYS)), st.sampled_from([1, 3, 1000]))
def test_arrays_equal_plain_numbers(roots: list[Number], drawn: tuple[list[int], ...], block: int):
    values = dict(zip(KEYS, drawn, strict=True))
    found = evaluate_arrays(roots, columns(values), roots[::-1], block=block)
    for place in np.ndindex(*map(len, drawn)):
        plain = evaluate_all(
            roots, {name: own[index] for (name, own), index in zip(values.items(), place, strict=True)}
        )
        for got, expected in zip(found, plain, strict=True):
            if isinstance(got, np.ndarray):
                assert got.dtype in (np.int64, object)
                got = got[tuple(0 if length == 1 else index for length, index in zip(got.shape, place, strict=True))]
            assert int(got) == expected


@settings(max_examples=300, deadline=None)
@given(graphs(), st.tuples(*[integers] * len(KEYS)))
def test_compiled_equals_plain_numbers(roots: list[Number], drawn: tuple[int, ...]):
    values = dict(zip(KEYS, drawn, strict=True))
    function, keys = compile_for_numbers(roots)
    found = function(*[values[name] for name in keys])
    assert found == evaluate_all(roots, values)
    assert not any(isinstance(number, bool) for number in found)


@settings(max_examples=300, deadline=None)
@given(graphs(), st.tuples(*[integers] * len(KEYS)), st.tuples(*[st.integers(0, 2**40)] * len(KEYS)))
def test_ranges_hold_every_value(roots: list[Number], lows: tuple[int, ...], widths: tuple[int, ...]):
    ends = {name: (low, low + width) for name, low, width in zip(KEYS, lows, widths, strict=True)}
    order = in_order(roots)
    found = ranges(order, ends)
    for share in (0, 1, 2, 3):
        values = {name: low + (high - low) * share // 3 for name, (low, high) in ends.items()}
        for node, number in zip(order, evaluate_all(list(order), values), strict=True):
            low, high = found[id(node)]
            assert low <= number <= high


@settings(max_examples=300, deadline=None)
@given(graphs(), st.tuples(*[sizes] * len(KEYS)))
def test_simpler_sums_and_maxima_are_equal(roots: list[Number], drawn: tuple[int, ...]):
    values = dict(zip(KEYS, drawn, strict=True))
    sums = Sums(roots)
    total, most = evaluate_all([sums.total(roots), sums.largest(roots)], values)
    plain = evaluate_all(roots, values)
    assert total == sum(plain)
    assert most == max(0, *plain)


def test_moments_that_another_one_exceeds_are_left_out():
    a, b = key("a"), key("b")
    held = a * 3 + b
    moments = [a * 2, held, held - a * 2, a * 5 + b - a * 2]
    assert not any(node.operation == "maximum" for node in in_order([Sums(moments).largest(moments)]))
    # Of these each is larger for some sizes.
    moments = [a, b]
    assert repr(Sums(moments).largest(moments)) == "maximum(a, b)"


def test_only_what_may_leave_64_bits_is_worked_out_with_pythons_integers():
    a = key("a")
    values = {"a": whole_numbers([1, HUGE])}
    small, large, back = evaluate_arrays([a + 1, a * 4, a * 4 // 8], values)
    assert small.dtype == np.int64 and back.dtype == np.int64
    assert large.dtype == object and large.tolist() == [4, 4 * HUGE]
    assert back.tolist() == [0, HUGE // 2]


def test_large_integers_become_floats_where_they_are_divided():
    a, rate = key("a"), key("rate")
    values = {"a": whole_numbers([3, HUGE]).reshape(2, 1), "rate": np.array([[2.0, 0.5]])}
    (found,) = evaluate_arrays([maximum(a * 8 / rate, 1.0)], values)
    assert found.dtype == np.float64
    assert found.tolist() == [[12.0, 48.0], [HUGE * 4.0, HUGE * 16.0]]


def test_what_does_not_change_is_a_number_and_axes_stay_apart():
    a, b = key("a"), key("b")
    values = {"a": whole_numbers([1, 2, 3]).reshape(3, 1), "b": 2**80}
    constant, along_a = evaluate_arrays([b * b, a + 1], values)
    assert constant == 2**160
    assert along_a.shape == (3, 1)


@pytest.mark.parametrize("operation", ["floor", "true"])
def test_a_division_by_zero_raises(operation: str):
    a, b = key("a"), key("b")
    root = a // b if operation == "floor" else a / b
    values = {"a": whole_numbers([1, 2]), "b": whole_numbers([0, 1])}
    with pytest.raises(ArithmeticError):
        evaluate_arrays([root], values)


def test_floor_division_rounds_down():
    a = key("a")
    up, down = evaluate_arrays([ceil_div(a, 4), a // 4], {"a": whole_numbers([-5, -4, 0, 1, 4, 5])})
    assert up.tolist() == [-1, -1, 0, 1, 1, 2]
    assert down.tolist() == [-2, -1, 0, 0, 1, 1]
