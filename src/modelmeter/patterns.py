"""Names of many modules as one: ``layers.[1-11].mlp.experts.[0-63]``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Parts = tuple[str, ...]


def ranges(numbers: Iterable[int]) -> str:
    """0, 1, 2, 5, 6 as ``0-2,5,6``: a run of two is no range."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{a}-{b}" if b > a + 1 else f"{a},{b}" if b > a else f"{a}" for a, b in runs)


def one_of(values: Iterable[str]) -> str:
    """Alternatives for one part of a name: numbers as ranges, others in the order given."""
    distinct = list(dict.fromkeys(values))
    if len(distinct) == 1:
        return distinct[0]
    numbers = [value for value in distinct if value.isdecimal()]
    words = [value for value in distinct if not value.isdecimal()]
    return "[" + ",".join(([ranges(map(int, numbers))] if numbers else []) + words) + "]"


def pattern(names: Sequence[str]) -> str:
    """One pattern for many names, or several joined by `` + `` where no product of alternatives fits.

    Names that lack a member stay apart: ``a.[0-2].[0-63] + a.3.[0-12,14-63]``.
    """
    by_length: dict[int, list[Parts]] = {}
    for name in names:
        parts = tuple(name.split("."))
        by_length.setdefault(len(parts), []).append(parts)
    shown: list[str] = []
    for length, group in by_length.items():
        shown += [".".join(one_of(values) for values in product) for product in _products(group, length)]
    return " + ".join(shown)


def _products(names: Sequence[Parts], length: int) -> list[list[tuple[str, ...]]]:
    """Disjoint products of alternatives that cover the names: last part first, then what is equal before it."""
    rows: dict[tuple[tuple[str, ...], ...], None] = {tuple((part,) for part in name): None for name in names}
    for place in range(length - 1, -1, -1):
        merged: dict[tuple[tuple[str, ...], ...], list[str]] = {}
        for row in rows:
            rest = row[:place] + row[place + 1 :]
            merged.setdefault(rest, []).extend(row[place])
        rows = {(*rest[:place], tuple(dict.fromkeys(values)), *rest[place:]): None for rest, values in merged.items()}
    return [list(row) for row in rows]


def expand(text: str) -> list[str]:
    """The names that a pattern stands for: the inverse of ``pattern``, in order."""
    names: list[str] = []
    for one in text.split(" + "):
        found = [""]
        for part in _parts(one):
            found = [f"{name}.{value}" if name else value for name in found for value in _alternatives(part)]
        names += found
    return names


def last_part(text: str) -> str:
    """The last part of a pattern: ``[q_proj,k_proj,v_proj]`` of ``layers.[0-11].self_attn.[q_proj,k_proj,v_proj]``."""
    return _parts(text)[-1]


def _parts(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if letter == "." and not depth:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def _alternatives(part: str) -> list[str]:
    if not part.startswith("["):
        return [part]
    values: list[str] = []
    for one in part[1:-1].split(","):
        first, dash, last = one.partition("-")
        if dash and first.isdecimal() and last.isdecimal():
            values += [str(number) for number in range(int(first), int(last) + 1)]
        else:
            values.append(one)
    return values


def static_order(children: Mapping[str, Sequence[str]], names: Iterable[str]) -> dict[str, int]:
    """Rank of every module in the static tree, parents before children, in the order of registration."""
    order: dict[str, int] = {}
    below = {child for owned in children.values() for child in owned}
    stack = [name for name in [*children, *names] if name not in below][::-1]
    while stack:
        name = stack.pop()
        if name in order:
            continue
        order[name] = len(order)
        stack.extend(reversed(children.get(name, ())))
    for name in names:
        order.setdefault(name, len(order))
    return order
