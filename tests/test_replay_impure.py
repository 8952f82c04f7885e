"""What is no pure function of its tensors is seen to be none, and run each time."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelmeter import TraceOptions, trace
from modelmeter.routing import RandomRouting
from replays import KINDS, RUNS, WIDTH, Counted, Mlp, Stack, documents

INPUT = torch.zeros(4, WIDTH)
FACTORS = torch.ones(3)


class Linear(Counted):
    def __init__(self, layer_idx: int = 0) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        self.count()
        return self.linear(x)


class Branching(Linear):
    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return self.linear(x) if self.layer_idx == 2 else x


class Looking(Linear):
    """Looks up a real value by its index."""

    def forward(self, x: Tensor, table: Tensor | None = None) -> Tensor:
        table = torch.arange(8).view(1, 8) if table is None else table
        for _ in range(int(table[:, self.layer_idx][0])):
            x = super().forward(x)
        return super().forward(x)


class Telling(Linear):
    def forward(self, x: Tensor) -> Tensor:
        print("layer", self.layer_idx)
        return super().forward(x)


class Random(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if random.random() < 2 else x


class Dropping(Linear):
    """Leaves layers out by a real random number, as in training."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if torch.rand(()) < 2 else x


class Global(Linear):
    """Reads a tensor that is no part of it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * FACTORS.sum()


class Listing(Linear):
    """Reads a tensor from elsewhere as a whole."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * len(FACTORS.tolist())


class GlobalWrite(Linear):
    def forward(self, x: Tensor) -> Tensor:
        FACTORS.mul_(1)
        return super().forward(x)


class Setting(Linear):
    def forward(self, x: Tensor) -> Tensor:
        self.last = RUNS["Setting"]
        return super().forward(x)


class Filing(Linear):
    """Writes into an object that it holds."""

    def __init__(self, layer_idx: int = 0) -> None:
        super().__init__(layer_idx)
        self.file = contextlib.ExitStack()

    def forward(self, x: Tensor) -> Tensor:
        self.file.page = RUNS["Filing"]  # type: ignore[attr-defined]
        return super().forward(x)


class Keeping(Linear):
    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        cycle: list[Any] = [x * 2]
        cycle.append(cycle)  # without garbage collection it outlives the call
        return x


class Borrowing(Linear):
    """Calls a module that is not below it."""

    def __init__(self, layer_idx: int = 0) -> None:
        super().__init__(layer_idx)
        self.borrow = lambda x: LENT[0](x)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.borrow(x))


LENT: list[nn.Module] = []


@pytest.mark.parametrize(
    "kind",
    [
        Branching,
        Looking,
        Telling,
        Random,
        Dropping,
        Global,
        Listing,
        GlobalWrite,
        Setting,
        Filing,
        Keeping,
    ],
)
def test_each_is_run_every_time(kind: type[Linear]) -> None:
    module = Stack(*(kind(index) for index in range(5)))
    RUNS.clear()
    replayed, run = documents(module, INPUT)
    assert replayed == run
    calls = 5 + 10 if kind is Looking else 5
    assert RUNS[kind.__name__] == 2 * calls


def test_an_index_that_nobody_reads_makes_no_difference() -> None:
    RUNS.clear()
    replayed, run = documents(Stack(*(Linear(index) for index in range(5))), INPUT)
    assert replayed == run
    assert RUNS["Linear"] == 1 + 5


def test_the_class_of_a_watched_index_is_left_as_it_was() -> None:
    trace(Stack(Linear(0), Linear(1)), INPUT)
    assert "layer_idx" not in vars(Linear)
    broken = Stack(Linear(0), Linear(1), nn.Linear(3, 3))
    with pytest.raises(Exception, match="Linear"):
        trace(broken, INPUT)
    assert "layer_idx" not in vars(Linear)
    assert vars(broken.layers[1])["layer_idx"] == 1


class Slicing(Linear):
    """Reads and writes its slice of a state that all layers share."""

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        hidden = super().forward(x) + state[:, :, self.layer_idx]
        state[:, :, self.layer_idx] = hidden
        return hidden, state


class Sharing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Slicing(index) for index in range(5))

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(4, WIDTH, 5)
        for layer in self.layers:
            x, state = layer(x, state)
        return state.sum(-1) + x


def test_a_slice_of_a_shared_state_is_taken_once_it_has_no_values() -> None:
    RUNS.clear()
    replayed, run = documents(Sharing(), INPUT)
    assert replayed == run
    assert RUNS["Slicing"] == 2 + 5  # the first layer's state is real zeros still


class Collecting(Linear):
    def forward(self, x: Tensor, seen: list[Tensor]) -> Tensor:  # type: ignore[override]
        seen.append(super().forward(x))
        return seen[-1]


class Collector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Collecting() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            seen: list[Tensor] = []
            x = layer(x, seen)
            assert len(seen) == 1
        return x


def test_a_list_that_is_appended_to_is_appended_to_every_time() -> None:
    RUNS.clear()
    replayed, run = documents(Collector(), INPUT)
    assert replayed == run
    assert RUNS["Collecting"] == 2 * 3


class Failing(Linear):
    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        raise ValueError("as expected")


class Handling(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.failing = Failing()

    def forward(self, x: Tensor) -> Tensor:
        with contextlib.suppress(ValueError):
            x = self.failing(x)
        return self.linear(x)


def test_errors_that_are_handled_happen_every_time() -> None:
    RUNS.clear()
    replayed, run = documents(Stack(*(Handling() for _ in range(4))), INPUT)
    assert replayed == run
    assert RUNS["Failing"] == 2 * 4


def test_a_module_that_calls_one_elsewhere_is_run() -> None:
    LENT.clear()
    module = Stack(*(Borrowing() for _ in range(4)), Mlp())

    class Lending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stack = module

        def forward(self, x: Tensor) -> Tensor:
            LENT[:] = [self.stack.layers[-1]]
            return self.stack(x)

    RUNS.clear()
    replayed, run = documents(Lending(), INPUT)
    assert replayed == run
    assert RUNS["Borrowing"] == 2 * 4


class Recursive(Linear):
    def forward(self, x: Tensor, depth: int = 3) -> Tensor:
        x = super().forward(x)
        return self(x, depth - 1) if depth else x


def test_recursion_is_the_same() -> None:
    replayed, run = documents(Stack(*(Recursive() for _ in range(3))), INPUT)
    assert replayed == run


def test_hooks_of_the_user_fire_as_often_as_without_replay() -> None:
    module, fired = Stack(*(Mlp() for _ in range(4))), []
    for layer in module.layers:
        layer.up.register_forward_hook(lambda *_: fired.append(1))  # type: ignore[union-attr]
    trace(module, INPUT)
    assert len(fired) == 4


def test_draws_of_a_random_routing_are_repeated_in_order() -> None:
    module = Stack(*(KINDS["Experts"]() for _ in range(4))).eval()
    RUNS.clear()
    replayed, run = documents(module, INPUT, routing=RandomRouting(5))
    assert replayed == run
    assert RUNS["Experts"] == 2 * 4


def test_nothing_is_replayed_with_real_weights() -> None:
    RUNS.clear()
    trace(Stack(*(Mlp() for _ in range(4))), INPUT, options=TraceOptions(weightless=False))
    assert RUNS["Mlp"] == 4
