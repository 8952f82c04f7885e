"""Weightless execution: real until it meets a weight, and no write is ever lost."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from modelmeter import TraceOptions, trace


class Body(nn.Module):
    """Runs a function of itself and x within a trace; ``num_experts`` makes 8 columns a router's."""

    def __init__(self, body: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.router = nn.Parameter(torch.randn(4, 8))
        self.register_buffer("memory", torch.zeros(4, 4))
        self.num_experts = 8
        self.body = [body]

    def forward(self, x: Tensor) -> Any:
        return self.body[0](self, x)


def within(body: Callable[[Any, Tensor], Any], **options: Any) -> tuple[Any, Any]:
    """What a body returns within a trace, and the graph."""
    kept: list[Any] = []
    graph = trace(Body(lambda m, x: kept.append(body(m, x))), torch.ones(4, 4), options=TraceOptions(**options))
    return kept[0], graph


def shape_only(value: Tensor) -> bool:
    return isinstance(value, FakeTensor)


def rules(graph: Any) -> set[tuple[str, str]]:
    return {(a.operator, a.rule) for a in graph.assumptions}


def test_what_meets_no_weight_is_computed_for_real() -> None:
    def body(m: Any, x: Tensor) -> Any:
        positions = torch.arange(4) * 3
        causal = torch.full((4, 4), -1.0).triu(1) + x
        y = x @ m.weight
        branch = "taken" if causal.sum() > 0 else "not"
        return positions.tolist(), causal, y + causal, branch, positions[causal[0] > 0.5]

    (positions, causal, met, branch, picked), graph = within(body)
    assert positions == [0, 3, 6, 9]
    assert not shape_only(causal) and causal[0].tolist() == [1, 0, 0, 0]
    assert shape_only(met) and met.shape == (4, 4)
    assert branch == "taken" and picked.tolist() == [0]
    assert graph.assumptions == []


WRITES: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "add_": lambda z, y: z.add_(y),
    "index_add_": lambda z, y: z.index_add_(0, torch.tensor([1, 2]), y[:2]),
    "setitem": lambda z, y: z.__setitem__(slice(2), y[:2]),
    "real mask": lambda z, y: z.__setitem__(torch.eye(4, dtype=torch.bool), y[0]),
    "copy_": lambda z, y: z.copy_(y),
    "out=": lambda z, y: torch.add(y, 1, out=z),
    "two outs": lambda z, y: torch.max(y, 0, keepdim=True, out=(z[:1], torch.zeros(1, 4, dtype=torch.int64))),
    "view": lambda z, y: z[1].unsqueeze(0).T.mul_(y[:, :1]),
    "foreach": lambda z, y: torch._foreach_add_([torch.zeros(4), z], [y[0], y]),
    "masked_scatter_": lambda z, y: z.masked_scatter_(torch.ones(4, 4) > 0, y),
    "scatter_": lambda z, y: z.scatter_(0, torch.zeros(1, 4, dtype=torch.int64), y),
    "index_put_": lambda z, y: z.index_put_((torch.tensor([0]),), y[:1], accumulate=True),
    "data": lambda z, y: setattr(z, "data", y * 2),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_shape_only_write_makes_the_storage_and_all_its_views_shape_only(write: Callable[..., Any]) -> None:
    def body(m: Any, x: Tensor) -> Any:
        z = torch.zeros(4, 4)
        before = z.view(16)
        flat = before if write is not WRITES["data"] else z
        write(z, x @ m.weight)
        return [t + 0 for t in (z, z[3], z.T, flat, z.detach(), z.data, z.view(torch.int32))]

    results, _ = within(body)
    assert all(map(shape_only, results))


def test_a_write_into_numpy_memory_is_not_read_back_as_zeros() -> None:
    def body(m: Any, x: Tensor) -> Any:
        z = torch.from_numpy(np.zeros((4, 4), dtype=np.float32))
        z.copy_(x @ m.weight)
        return (
            z.numpy().tolist(),
            z.tolist(),
            z[0, 0].item(),
            torch.tensor([z[0, 0], 5.0]).tolist(),
            np.asarray(z).sum(),
        )

    (whole, listed, one, made, total), graph = within(body)
    assert whole == listed == [[1.0] * 4] * 4 and one == 1.0 and made == [1.0, 5.0] and total == 16
    assert ("torch.tensor", "floats are 1") in rules(graph)


def test_copies_of_what_became_shape_only_are_shape_only() -> None:
    def body(m: Any, x: Tensor) -> Any:
        z = torch.zeros(4, 4)
        z.add_(m.weight)
        twice = copy.deepcopy([z, z])
        return [z.clone(), z.contiguous() + 0, twice[0], copy.deepcopy(m.weight)], twice[0] is twice[1]

    (copies, tied), _ = within(body)
    assert all(map(shape_only, copies)) and tied
    assert isinstance(copies[3], nn.Parameter)


def test_real_tensors_next_to_a_written_one_stay_real() -> None:
    def body(m: Any, x: Tensor) -> Any:
        a, b = torch.zeros(4), torch.zeros(4)
        a.add_(m.weight[0])
        b[(x @ m.weight)[0] > 0] = 3.0  # the policy's mask is real, and false
        return b

    result, _ = within(body)
    assert not shape_only(result) and result.tolist() == [0, 0, 0, 0]


def test_in_place_changes_of_shape_are_kept() -> None:
    def body(m: Any, x: Tensor) -> Any:
        z = torch.zeros(2, 3)
        z.add_(m.weight[0, 0])
        z.t_()
        z.unsqueeze_(0)
        grown = torch.zeros(2)
        grown.add_(m.weight[0, 0])
        grown.resize_(5)
        return z + 0, grown + 0

    (z, grown), _ = within(body)
    assert shape_only(z) and z.shape == (1, 3, 2)
    assert shape_only(grown) and grown.shape == (5,)


class Writer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, cache: Tensor, x: Tensor) -> None:
        cache[:, 1:3] = self.linear(x)


class Reader(nn.Module):
    """Keeps a preallocated cache, has a submodule write into it, and reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.writer = Writer()
        self.register_buffer("cache", torch.zeros(2, 8, 4))
        self.plain = torch.zeros(2, 8, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.writer(self.cache, x)
        self.writer(self.plain, x)
        return self.cache[:, :3] * 2, self.plain.sum()


def test_a_submodule_s_write_is_seen_by_its_caller_and_the_module_keeps_its_tensors() -> None:
    module = Reader()
    cache, plain = module.cache, module.plain
    seen: list[bool] = []
    module.register_forward_hook(lambda _, __, out: seen.extend(map(shape_only, out)))
    trace(module, torch.ones(2, 2, 4))
    assert seen == [True, True]
    assert module.cache is cache and module.plain is plain
    assert cache.shape == (2, 8, 4) and type(cache) is Tensor and cache.sum() == 0


def test_batch_norm_in_training_writes_its_statistics() -> None:
    norm = nn.BatchNorm1d(4)

    class Trained(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.norm = nn.Linear(4, 4), norm

        def forward(self, x: Tensor) -> bool:
            self.norm(self.linear(x))
            return shape_only(self.norm.running_mean + 0)

    module = Trained().train()
    told: list[bool] = []
    module.register_forward_hook(lambda _, __, out: told.append(out))
    trace(module, torch.ones(3, 4))
    assert told == [True]
    assert norm.running_mean is not None and norm.running_mean.tolist() == [0, 0, 0, 0]


def test_boolean_masks_get_and_set() -> None:
    def body(m: Any, x: Tensor) -> Any:
        y = x @ m.weight
        real = torch.tensor([True, False, True, False])
        y[real] = 0.0
        unknown = y[:, 0] > 0
        y[unknown] = y[unknown] * 2
        return (
            y[real].shape,
            y[real, 1:3].shape,
            y[unknown].shape,
            y[torch.isfinite(y)].shape,
            x[torch.isfinite(y)].shape,
        )

    shapes, _ = within(body)
    assert shapes == ((2, 4), (2, 2), (0, 4), (16,), (16,))


def test_bounds() -> None:
    def body(m: Any, x: Tensor) -> Any:
        large = torch.ones(64, 64) * 2
        counted = torch.arange(0.0, 5000.0)
        small = torch.ones(4, 4) * 2
        y = (x @ m.weight).repeat(40, 40)
        return large, counted, small, torch.isfinite(y), bool(torch.isfinite(y).all()), bool((y > 0).any())

    (large, counted, small, finite, all_finite, any_above), graph = within(body, real_limit_bytes=4096)
    assert shape_only(large) and shape_only(counted) and shape_only(finite) and not shape_only(small)
    assert all_finite and not any_above
    above = {a.operator for a in graph.assumptions if a.rule == "above 4096 bytes, so shape-only"}
    assert {"aten.ones", "aten.arange", "aten.ne", "aten.gt"} <= above


def test_routing_tables_have_values_whatever_their_size() -> None:
    (experts, order), _ = within(
        lambda m, x: ((x @ m.router).repeat(99, 1).topk(2).indices, (x @ m.weight).repeat(99, 1).argsort(0)),
        real_limit_bytes=512,
    )
    assert not shape_only(experts) and experts.tolist()[1] == [2, 3]
    assert shape_only(order)
