"""Which module call a step of a backward belongs to: the one in whose forward its operation ran.

Autograd numbers its nodes in the order in which they are made. The recorder notes that number
whenever a module call begins or ends; a node then belongs to the call that was innermost when its
number was given. Nodes that collect a parameter's gradient have no number, and belong to the
parameter's owner. Nothing is hung onto modules, tensors or nodes.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import torch
from torch import nn


class ModuleCall:
    """One call of a module, and the call that made it."""

    __slots__ = ("depth", "name", "parent")

    def __init__(self, name: str, parent: ModuleCall | None) -> None:
        self.name = name
        self.parent = parent
        self.depth: int = 0 if parent is None else parent.depth + 1

    def is_within_itself(self) -> bool:
        """Whether the same module is among the calls above."""
        above = self.parent
        while above is not None:
            if above.name == self.name:
                return True
            above = above.parent
        return False


class CallTimeline:
    """Module calls along autograd's numbers: from each mark on, nodes belong to its call."""

    def __init__(self, module: nn.Module, names: dict[int, str]) -> None:
        self._running: list[ModuleCall] = []
        self._numbers: list[int] = []
        self._calls: list[ModuleCall | None] = []
        self._latest: dict[str, ModuleCall] = {}
        self._owners: dict[int, str] = {}
        for submodule in module.modules():
            for parameter in submodule._parameters.values():
                if parameter is not None:
                    self._owners.setdefault(id(parameter), names[id(submodule)])

    def enter(self, name: str, parent: ModuleCall | None = None) -> None:
        """A call begins, within the one that is running or, outside of all, within ``parent``."""
        call = ModuleCall(name, self._running[-1] if self._running else parent)
        self._running.append(call)
        self._latest[name] = call
        self._mark(call)

    def leave(self, left: int) -> None:
        """Calls end, the innermost first, until so many are left."""
        del self._running[left:]
        self._mark(self._running[-1] if self._running else None)

    def latest(self, name: str) -> ModuleCall | None:
        """The last call of a module that began."""
        return self._latest.get(name)

    def call_of(self, node: Any) -> ModuleCall | None:
        """The call whose forward made a node of autograd; None for what was made outside of all calls."""
        if type(node).__name__ == "AccumulateGrad":
            return self._latest.get(self._owners.get(id(node.variable), ""))
        place = bisect_right(self._numbers, node._sequence_nr()) - 1
        return self._calls[place] if place >= 0 else None

    def _mark(self, call: ModuleCall | None) -> None:
        self._numbers.append(torch._C._autograd._get_sequence_nr())
        self._calls.append(call)
