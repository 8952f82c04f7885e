"""Graphs of expressions worked out for arrays: many scenarios at once, in NumPy's broadcasting.

Integers stay exact. A node whose range lies within 64 bits is an int64 array; one that may leave them is
an array of Python's integers, which is slow, and is used there only. A division by zero raises, as it does
for plain numbers.

A range of one value makes a node a constant, and a condition that can only go one way leaves one branch:
what the scenarios have in common is worked out once, in plain Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.expression import Expression, in_order, is_node
from modelmeter.cost.ranges import Range, ranges

Array: TypeAlias = npt.NDArray[Any]

_INT64_END = 2**63

INTEGER, WIDE, FLOAT, CONDITION = "integer", "wide", "float", "condition"
"""What an array holds: int64, Python integers, float64, or truth values."""

_UFUNCS: Mapping[str, np.ufunc] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "floordiv": np.floor_divide,
    "truediv": np.true_divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "equal": np.equal,
    "less": np.less,
}


BLOCK = 2**17
"""Scenarios that are worked out together: enough to be worth a step, few enough for arrays to stay in a cache."""


def evaluate_arrays(
    roots: Sequence[Number], values: Mapping[str, Any], first: Iterable[Number] = (), *, block: int = BLOCK
) -> list[Any]:
    """The roots for all combinations of some keys' values.

    ``values`` gives each key a number, or an array with one axis for each of the things that vary, its own
    of full length and the others of length 1 (see ``whole_numbers``). So are the results: numbers, or
    arrays whose axes are 1 where nothing changes along them.

    ``first`` are nodes to be worked out before the rest, in this order; they change no result, only how
    long arrays are kept.
    """
    program = _Program(roots, values, first)
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    results = [np.empty(shape, dtype) if shape else None for shape, dtype in program.results]
    for place in _blocks(np.broadcast_shapes(*(array.shape for array in arrays.values())), block):
        part = {name: array[_within(array, place)] for name, array in arrays.items()}
        for number, found in enumerate(program.run(part)):
            result = results[number]
            if result is None:
                results[number] = found
            elif isinstance(result, np.ndarray):
                result[_within(result, place)] = found
    return results


def _blocks(shape: tuple[int, ...], most: int) -> Iterator[tuple[slice, ...]]:
    """Parts of at most so many scenarios, the first axes cut finest."""
    sizes = list(shape)
    for axis in range(len(shape)):
        rest = prod(sizes) // sizes[axis]
        sizes[axis] = min(sizes[axis], max(1, most // rest))
    starts = [range(0, full, size) for full, size in zip(shape, sizes, strict=True)]
    for place in product(*starts):
        yield tuple(slice(start, start + size) for start, size in zip(place, sizes, strict=True))


def _within(array: Array, place: tuple[slice, ...]) -> tuple[slice, ...]:
    """A part of an array whose axes may be 1."""
    return tuple(cut if length > 1 else slice(None) for length, cut in zip(array.shape, place, strict=True))


class _Program:
    """Steps that work out some roots; see ``evaluate_arrays``."""

    def __init__(self, roots: Sequence[Number], values: Mapping[str, Any], first: Iterable[Number]) -> None:
        order = in_order([*first, *roots])
        self._keys = {node.arguments[0]: node for node in order if node.operation == "key"}
        self._ranges = ranges(order, {name: _range_of(values[name]) for name in self._keys})
        simpler = _Simpler(order, self._ranges)
        self._slots: list[Any] = []
        self._steps: list[tuple[Callable[..., Any], int, tuple[int, ...], tuple[int, ...]]] = []
        self._places: dict[Any, int] = {}
        self._kinds: dict[int, str] = {}
        self._shapes: dict[int, tuple[int, ...]] = {}
        ends = [simpler.of(root) for root in roots]
        for node in _needed(order, ends, simpler):
            if node.operation == "key":
                self._write_key(node, values[node.arguments[0]])
            else:
                self._write(node, [simpler.of(argument) for argument in node.arguments])
        self._ends = [self._place(end) for end in ends]
        self._release()
        self.results = [(self._shapes.get(id(end), ()), _DTYPES.get(self._kind(end))) for end in ends]
        """Shape and type of every root; no shape where it is a number."""

    def run(self, values: Mapping[str, Any]) -> list[Any]:
        """The roots for some of the scenarios."""
        slots = list(self._slots)
        for name, node in self._keys.items():
            if id(node) in self._places:
                slots[self._places[id(node)]] = values[name]
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            for work, result, arguments, done in self._steps:
                slots[result] = work(*[slots[argument] for argument in arguments])
                for place in done:
                    slots[place] = None
        return [slots[place] for place in self._ends]

    # Writing the program --------------------------------------------------------------------------

    def _write_key(self, node: Expression, value: Array) -> None:
        self._kinds[id(node)] = FLOAT if value.dtype.kind == "f" else self._integer(node)
        self._shapes[id(node)] = value.shape
        self._places[id(node)] = self._slot()

    def _write(self, node: Expression, arguments: list[Any]) -> None:
        shapes = [self._shapes[id(argument)] for argument in arguments if is_node(argument)]
        self._shapes[id(node)] = tuple(map(max, *shapes)) if len(shapes) > 1 else shapes[0]
        if node.operation == "where":
            self._write_where(node, arguments)
            return
        kinds = {self._kind(argument) for argument in arguments}
        if FLOAT in kinds or node.operation == "truediv":
            operands = kind = FLOAT
        else:
            kind = self._integer(node)
            operands = WIDE if WIDE in kinds | {kind} else INTEGER
        if node.operation in ("equal", "less"):
            kind = CONDITION
        place = self._step(_UFUNCS[node.operation], *(self._converted(argument, operands) for argument in arguments))
        # Large numbers may have a small result, such as a quotient.
        self._places[id(node)] = self._step(_to_int64, place) if (operands, kind) == (WIDE, INTEGER) else place
        self._kinds[id(node)] = kind

    def _write_where(self, node: Expression, arguments: list[Any]) -> None:
        condition, *branches = arguments
        floats = any(self._kind(branch) == FLOAT for branch in branches)
        kind = FLOAT if floats else self._integer(node)
        if kind == INTEGER and any(self._kind(branch) == WIDE for branch in branches):
            kind = WIDE
        if self._kind(condition) == CONDITION:
            decided = self._place(condition)
        else:
            decided = self._step(np.not_equal, self._place(condition), self._place(0))
        self._kinds[id(node)] = kind
        self._places[id(node)] = self._step(
            np.where, decided, *(self._converted(branch, kind, arrays=True) for branch in branches)
        )

    def _range(self, value: Any) -> Range:
        return self._ranges[id(value)] if is_node(value) else (value, value)

    def _integer(self, value: Any) -> str:
        low, high = self._range(value)
        return INTEGER if low >= -_INT64_END and high < _INT64_END else WIDE

    def _kind(self, value: Any) -> str:
        if is_node(value):
            return self._kinds[id(value)]
        return FLOAT if isinstance(value, float) else self._integer(value)

    def _place(self, value: Any) -> int:
        """Where a node's array is, or a number."""
        if is_node(value):
            return self._places[id(value)]
        return self._constant(value, (type(value), value))

    def _constant(self, value: Any, name: Any) -> int:
        if name not in self._places:
            self._places[name] = self._slot(value)
        return self._places[name]

    def _converted(self, value: Any, kind: str, *, arrays: bool = False) -> int:
        """Where a node's array is as another kind; numbers adapt by themselves, unless arrays are asked for."""
        if not is_node(value):
            if not arrays and kind != WIDE:
                return self._place(value)
            return self._constant(np.array(value, _DTYPES[kind]), (kind, type(value), value))
        own = self._kinds[id(value)]
        # NumPy turns int64 into float64 by itself. Truth values it would add up to a truth value.
        if own == kind or (own == INTEGER and kind == FLOAT):
            return self._places[id(value)]
        name = (kind, id(value))
        if name not in self._places:
            self._places[name] = self._step(_CONVERSIONS[kind], self._places[id(value)])
        return self._places[name]

    def _slot(self, value: Any = None) -> int:
        self._slots.append(value)
        return len(self._slots) - 1

    def _step(self, work: Callable[..., Any], *arguments: int) -> int:
        result = self._slot()
        self._steps.append((work, result, arguments, ()))
        return result

    def _release(self) -> None:
        """Let go of every array at the last step that reads it."""
        keep = {*self._ends, *(place for place, value in enumerate(self._slots) if value is not None)}
        for number in reversed(range(len(self._steps))):
            work, result, arguments, _ = self._steps[number]
            done = tuple({place for place in arguments if place not in keep})
            keep.update(done)
            self._steps[number] = (work, result, arguments, done)


class _Simpler:
    """What a node is equal to, by the ranges: a number, one of its arguments, or itself."""

    def __init__(self, order: Sequence[Expression], found: Mapping[int, Range]) -> None:
        self._found = found
        self._known: dict[int, Any] = {}
        for node in order:
            self._known[id(node)] = self._simpler(node)

    def of(self, value: Any) -> Any:
        """A number or a node that is worked out."""
        return self._known[id(value)] if is_node(value) else value

    def _simpler(self, node: Expression) -> Any:
        low, high = self._found[id(node)]
        if low == high:
            return low
        if node.operation == "key":
            return node
        arguments = [self.of(argument) for argument in node.arguments]
        a, b = arguments[:2]
        match node.operation:
            case "where":
                low, high = self._range(a)
                if low > 0 or high < 0:
                    return b
                if low == high == 0:
                    return arguments[2]
            case "maximum" | "minimum":
                smaller, larger = (b, a) if node.operation == "maximum" else (a, b)
                if self._range(smaller)[1] <= self._range(larger)[0]:
                    return a
                if self._range(larger)[1] <= self._range(smaller)[0]:
                    return b
            case "add" if _is(a, 0):
                return b
            case "mul" if _is(a, 1):
                return b
            case "add" | "sub" if _is(b, 0):
                return a
            case "mul" | "floordiv" if _is(b, 1):
                return a
        return node

    def _range(self, value: Any) -> Range:
        return self._found[id(value)] if is_node(value) else (value, value)


def whole_numbers(numbers: Sequence[int]) -> Array:
    """An array of integers: int64, or Python's own where one is too large."""
    small = all(-_INT64_END <= number < _INT64_END for number in numbers)
    return np.array(numbers, np.int64 if small else object)


def _needed(order: Sequence[Expression], roots: Iterable[Any], simpler: _Simpler) -> list[Expression]:
    """The nodes that some roots are made of, in order."""
    wanted = {id(root) for root in roots if is_node(root)}
    found = []
    for node in reversed(order):
        if id(node) in wanted:
            found.append(node)
            if node.operation != "key":
                wanted.update(id(argument) for argument in map(simpler.of, node.arguments) if is_node(argument))
    return found[::-1]


def _range_of(value: Any) -> Range:
    if not isinstance(value, np.ndarray):
        return value, value
    numbers = value.ravel().tolist()
    return min(numbers), max(numbers)


def _is(value: Any, number: int) -> bool:
    return type(value) is int and value == number


def _to_int64(array: Any) -> Array:
    return np.asarray(array).astype(np.int64)


def _to_float64(array: Any) -> Array:
    return np.asarray(array).astype(np.float64)


def _to_objects(array: Any) -> Array:
    # Truth values become numbers first: Python's True is a number, but prints as none.
    found = np.asarray(array)
    return (found.astype(np.int64) if found.dtype == np.bool_ else found).astype(object)


_DTYPES: Mapping[str, Any] = {INTEGER: np.int64, WIDE: object, FLOAT: np.float64, CONDITION: np.int64}
_CONVERSIONS: Mapping[str, Callable[[Any], Array]] = {INTEGER: _to_int64, WIDE: _to_objects, FLOAT: _to_float64}
