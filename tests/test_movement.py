"""Bytes that single operations move, where it is not all inputs and all outputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from modelmeter.tracing import trace


class One(nn.Module):
    """A module that runs one function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


ROWS, COLUMNS = 3, 4
INDEX = torch.tensor([[0, 2], [1, 3], [0, 1]])


@pytest.mark.parametrize(
    ("function", "operator", "read", "written"),
    [
        (torch.zeros_like, "aten.zeros_like", 0, 48),
        (lambda x: torch.full_like(x, 2.0), "aten.full_like", 0, 48),
        (lambda x: x.new_ones(5), "aten.new_ones", 0, 20),
        (lambda x: x.clone().scatter_(1, INDEX, 7.0), "aten.scatter_", 48, 24),
        (lambda x: x.clone().scatter_(1, INDEX, x[:, :2]), "aten.scatter_", 72, 24),
        (lambda x: x.to(torch.int64).scatter_(1, INDEX, INDEX), "aten.scatter_", 96, 48),
        (lambda x: x.clone().index_copy_(0, torch.tensor([2]), x[:1]), "aten.index_copy_", 24, 16),
    ],
)
def test_bytes_of_an_operation(function: Callable[[Tensor], Tensor], operator: str, read: int, written: int):
    graph = trace(One(function), torch.zeros(ROWS, COLUMNS))
    cost = graph.operators["One"][operator]
    assert (cost.bytes_read, cost.bytes_written) == (read, written)
