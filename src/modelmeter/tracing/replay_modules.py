"""What a module and all below it are, as a key: classes, attributes, buffers, parameters, and the tree itself.

It is taken anew for every call, so that whatever was set, appended or written since makes another key.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from torch import nn

from modelmeter.tracing.replay_description import PLAIN, CannotDescribeError, Description
from modelmeter.tracing.replay_places import WatchedPlace

_TENSORS = ("_parameters", "_buffers")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_INTERNAL = frozenset(vars(nn.Module())) - {"training", "_modules", *_TENSORS, *_HOOKS}
"""Attributes that every module has and no forward reads."""

Place = tuple[int, str, int]
"""Number of a module in its tree, an attribute that only says which one of many it is, and its value."""


class ModuleReader:
    """Describes modules. ``own_forward`` tells a wrapper of the recorder, ``probed`` one of a runtime patch."""

    def __init__(
        self, own_forward: Callable[[Any], bool], probed: frozenset[tuple[int, str]], names: dict[int, str]
    ) -> None:
        self._own_forward = own_forward
        self._probed = probed
        self._names = names

    def read(self, module: nn.Module, description: Description) -> tuple[Hashable, tuple[Place, ...], tuple[str, ...]]:
        """Key of a module's tree, what in it is bookkeeping, and the ids of its modules in order.

        Raises CannotDescribeError if something below the module has hooks, or attributes without a key.
        """
        numbers: dict[int, int] = {}
        places: list[Place] = []
        names: list[str] = []
        key = self._tree(module, description, numbers, places, names)
        return key, tuple(places), tuple(names)

    def _tree(
        self,
        module: nn.Module,
        description: Description,
        numbers: dict[int, int],
        places: list[Place],
        names: list[str],
    ) -> Hashable:
        number = numbers.get(id(module))
        if number is not None:
            return "again", number
        name = self._names.get(id(module))
        if name is None:
            raise CannotDescribeError(f"a {type(module).__name__} was added while the model ran")
        number = numbers[id(module)] = len(numbers)
        names.append(name)
        parts: list[Hashable] = [description.of(type(module))]
        for attribute, value in vars(module).items():
            if attribute in _INTERNAL:
                continue
            if type(value) in PLAIN and type(value) is not int:
                parts.append((attribute, type(value), value))
                continue
            if attribute in _HOOKS:
                if value and number:
                    raise CannotDescribeError(f"{name} has hooks")
                continue
            if attribute == "_modules":
                for child_name, child in value.items():
                    below = None if child is None else self._tree(child, description, numbers, places, names)
                    parts.append((child_name, below))
            elif attribute in _TENSORS:
                for key, tensor in value.items():
                    parts.append((key, None if tensor is None else description.tensor(tensor, own=True)))
            elif type(value) is int and isinstance(getattr(type(module), attribute, None), WatchedPlace):
                parts.append(attribute)
                places.append((number, attribute, value))
            elif attribute == "forward" and self._own_forward(value):
                continue
            elif (id(module), attribute) in self._probed:
                parts.append(("probed", attribute))
            elif attribute == "forward":
                parts.append((attribute, description.of(getattr(value, "__wrapped__", value), own=True)))
            else:
                parts.append((attribute, description.of(value, own=True)))
        return tuple(parts)
