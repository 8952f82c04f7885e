"""A graph of expressions as few characters as a page can hold, and back.

``ops`` has a letter for each node, by ``LETTERS``; ``args`` the arguments of all nodes one after another.
An argument is how many nodes before its own it stands; of a number or a key it is its place in
``numbers`` or ``keys``. What a letter means, and how many arguments it takes, goes along as ``operations``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelmeter.cost.arithmetic import Number
from modelmeter.planning.expressions import write_graph

LETTERS = {
    "number": "n",
    "key": "k",
    "add": "+",
    "sub": "-",
    "mul": "*",
    "floordiv": "d",
    "truediv": "/",
    "maximum": "M",
    "minimum": "m",
    "equal": "=",
    "less": "<",
    "where": "?",
}
"""A letter for every operation of ``planning.expressions``."""

_ARITY = {"number": 1, "key": 1, "where": 3}


def compact_graph(variants: Sequence[Mapping[str, Number]]) -> dict[str, Any]:
    """One graph for some variants: ``names`` of roots, and for each variant the places of its roots.

    What a variant lacks is 0 in it.
    """
    names = list(dict.fromkeys(name for variant in variants for name in variant))
    asked = {f"{number}/{name}": variant.get(name, 0) for number, variant in enumerate(variants) for name in names}
    nodes, places = write_graph(asked)
    numbers: list[Any] = []
    keys: list[str] = []
    letters, arguments = [], []
    for place, (operation, *given) in enumerate(nodes):
        letters.append(LETTERS[operation])
        if operation == "number":
            arguments.append(len(numbers))
            numbers.append(given[0])
        elif operation == "key":
            arguments.append(len(keys))
            keys.append(given[0])
        else:
            arguments += [place - argument for argument in given]
    return {
        "args": arguments,
        "keys": keys,
        "names": names,
        "numbers": numbers,
        "operations": {letter: [name, _ARITY.get(name, 2)] for name, letter in LETTERS.items()},
        "ops": "".join(letters),
        "roots": [[places[f"{number}/{name}"] for name in names] for number in range(len(variants))],
    }
