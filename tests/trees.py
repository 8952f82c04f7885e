"""Random module trees with known repeats, for property tests of folding."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

WIDTH = 4


class Chain(nn.Module):
    """Parts in series, held in a ModuleList or in attributes of their own."""

    def __init__(self, parts: list[nn.Module], listed: bool) -> None:
        super().__init__()
        self.names = []
        if listed:
            self.parts = nn.ModuleList(parts)
        for index, part in enumerate(parts):
            self.names.append(f"parts.{index}" if listed else f"part_{index}")
            if not listed:
                self.add_module(f"part_{index}", part)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.names:
            x = self.get_submodule(name)(x)
        return x


class Fan(Chain):
    """Parts side by side on one input, their results added."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.get_submodule(name)(x) for name in self.names]).sum(0)


class Again(nn.Module):
    """One part called several times."""

    def __init__(self, part: nn.Module, times: int) -> None:
        super().__init__()
        self.part = part
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = x + self.part(x)
        return x


class Gated(nn.Module):
    """Two parts after one another with a residual, as in a transformer layer."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.first = first
        self.norm2 = nn.LayerNorm(WIDTH)
        self.second = second

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.first(self.norm1(x))
        return x + self.second(self.norm2(x))


Plan = tuple[Any, ...]


def plans() -> st.SearchStrategy[Plan]:
    """Plans of module trees; ``build`` makes equal modules from equal plans."""
    leaves = st.sampled_from([("linear", True), ("linear", False), ("tanh",)])

    def grow(inner: st.SearchStrategy[Plan]) -> st.SearchStrategy[Plan]:
        return st.one_of(
            st.tuples(st.just("series"), inner, st.integers(2, 4)),
            st.tuples(st.just("fan"), inner, st.integers(2, 4)),
            st.tuples(st.just("again"), inner, st.integers(1, 3)),
            st.tuples(st.just("gated"), inner, inner),
            st.tuples(st.just("mixed"), st.lists(inner, min_size=1, max_size=3).map(tuple)),
        )

    return st.recursive(leaves, grow, max_leaves=6)


def build(plan: Plan, *, listed: bool = True) -> nn.Module:
    """The module tree of a plan."""
    kind = plan[0]
    if kind == "linear":
        return nn.Linear(WIDTH, WIDTH, bias=plan[1])
    if kind == "tanh":
        return nn.Tanh()
    if kind in ("series", "fan"):
        parts = [build(plan[1], listed=listed) for _ in range(plan[2])]
        return Chain(parts, listed) if kind == "series" else Fan(parts, listed)
    if kind == "again":
        return Again(build(plan[1], listed=listed), plan[2])
    if kind == "gated":
        return Gated(build(plan[1], listed=listed), build(plan[2], listed=listed))
    return Chain([build(part, listed=listed) for part in plan[1]], listed)
