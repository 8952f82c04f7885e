"""A trace that replays repeated modules gives the document of one that runs them."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from modelmeter import Page, Scenario, TraceOptions, build_weightless
from modelmeter.families.deepseek_ocr import FAMILY, published_config
from modelmeter.routing import RandomRouting, ZipfRouting
from modelmeter.tracing import trace_family
from replays import KINDS, PURE, RUNS, WIDTH, Mlp, Stack, documents

INPUT = torch.zeros(4, WIDTH)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    unit=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=3),
    repeats=st.integers(1, 4),
    shared=st.booleans(),
    training=st.booleans(),
    nested=st.booleans(),
    routing=st.sampled_from([ZipfRouting(1.0), RandomRouting(3)]),
)
def test_any_stack_gives_the_same_document(
    unit: list[str], repeats: int, shared: bool, training: bool, nested: bool, routing: ZipfRouting | RandomRouting
) -> None:
    once = [KINDS[name]() for name in unit]
    layers = [once if shared else [KINDS[name]() for name in unit] for _ in range(repeats)]
    if nested:
        module = Stack(*(nn.Sequential(*layer) for layer in layers))
    else:
        module = Stack(*(part for layer in layers for part in layer))
    module.train(training)
    replayed, run = documents(module, INPUT, routing=routing, tensor_details=True, forward_operators=True)
    assert replayed == run


@pytest.mark.parametrize("kind", PURE)
def test_equal_modules_run_once(kind: str) -> None:
    module = Stack(*(KINDS[kind]() for _ in range(6))).eval()
    RUNS.clear()
    replayed, run = documents(module, INPUT)
    assert replayed == run
    with_replay = RUNS[kind] - 6  # the trace without replay ran all six
    assert with_replay == 1


def test_a_module_called_again_is_recorded_the_second_time() -> None:
    one = Mlp()
    RUNS.clear()
    replayed, run = documents(Stack(one, one, one, one), INPUT)
    assert replayed == run
    assert RUNS["Mlp"] == 2 + 4


class ByCount(nn.Module):
    """Does as much work as a real number says."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        for _ in range(int(count)):
            x = self.linear(x)
        return x


class Counts(nn.Module):
    """Equal modules, each with a number of its own."""

    def __init__(self, numbers: list[int]) -> None:
        super().__init__()
        self.numbers = numbers
        self.parts = nn.ModuleList(ByCount() for _ in numbers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part, number in zip(self.parts, self.numbers, strict=True):
            x = part(x, torch.tensor(number))
        return x


def test_real_values_tell_calls_apart() -> None:
    replayed, run = documents(Counts([1, 3, 1, 2, 3]), INPUT)
    assert replayed == run
    calls = json.loads(replayed)["call_counts"]
    assert [calls[f"parts.{place}.linear"] for place in range(5)] == [1, 3, 1, 2, 3]


def test_deepseek_ocr_at_full_size_is_the_same_byte_for_byte() -> None:
    scenario = Scenario(pages=(Page(grid=(3, 2)),), decode_steps=2)
    module = build_weightless(lambda: FAMILY.build(published_config(), scenario))
    made = [
        trace_family(FAMILY, scenario, published_config(), module=module, options=TraceOptions(replay=replay))
        for replay in (True, False)
    ]
    assert made[0].to_json() == made[1].to_json()
