"""Which of its arguments an operator writes into."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from modelmeter.tracing.operators import Operator

HIDDEN_WRITES: dict[str, tuple[int, ...]] = {"aten.native_batch_norm": (3, 4)}
"""Arguments that an operator writes although its schema does not say so, if the one after them is true."""


@functools.cache
def mutated_arguments(func: Any) -> tuple[tuple[int, str], ...]:
    """Positions and names of the arguments that an operator's schema says it writes."""
    return tuple(
        (position, argument.name)
        for position, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )


def written_by(func: Any, operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    """The tensors that an operator is about to write into."""
    if operator.in_place:
        values = [args[at] if at < len(args) else kwargs.get(name) for at, name in mutated_arguments(func)]
    elif operator.name in HIDDEN_WRITES and args[HIDDEN_WRITES[operator.name][-1] + 1]:
        values = [args[position] for position in HIDDEN_WRITES[operator.name]]
    else:
        return
    for value in values:
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(item, Tensor):
                yield item
