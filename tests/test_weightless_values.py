"""The value policy: what Python and index arithmetic get where a shape-only tensor has no value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modelmeter.routing import RandomRouting, RecordedRouting, WorstRouting
from test_weightless import rules, shape_only, within


def test_scalars_of_every_kind() -> None:
    def body(m: Any, x: Tensor) -> Any:
        y = x @ m.weight
        one = y[0, 0]
        counted = torch.zeros(2, dtype=torch.int64).copy_(y[0, :2])
        flags = torch.zeros(2, dtype=torch.bool).copy_(y[0, :2])
        return (
            [one.item(), float(one), int(one), bool(one), one.tolist(), f"{one:.1f}"],
            [counted[0].item(), int(counted[1]), bool(counted[0]), counted.tolist()],
            [flags[0].item(), bool(flags[1]), flags.tolist()],
            [y.numpy().sum(), y.cpu().numpy().shape, y.detach().cpu().float().numpy()[0, 0], np.asarray(y).max()],
        )

    (floats, integers, booleans, arrays), graph = within(body)
    assert floats == [1.0, 1.0, 1, True, 1.0, "1.0"]
    assert integers == [0, 0, False, [0, 0]]
    assert booleans == [False, False, [False, False]]
    assert arrays == [16, (4, 4), 1, 1]
    assert {
        ("aten._local_scalar_dense", "floats are 1"),
        ("aten._local_scalar_dense", "integers are 0"),
        ("aten._local_scalar_dense", "booleans are false"),
        ("Tensor.numpy", "floats are 1"),
        ("Tensor.__array__", "floats are 1"),
        ("Tensor.tolist", "integers are 0"),
    } <= rules(graph)


def test_comparisons_are_false_except_with_itself_and_for_being_finite() -> None:
    def body(m: Any, x: Tensor) -> Any:
        y = x @ m.weight
        true = [
            torch.equal(y, y), torch.equal(y, y.view(4, 4)), (y == y).all(), (y <= y).all(), torch.isfinite(y).all(),
            torch.allclose(y, y), y.any(), (y != float("inf")).all(),
        ]  # fmt: skip
        false = [
            torch.equal(y, y + 1), (y > 0).any(), y.sum() > 0, y.sum() < 0, torch.isnan(y).any(), torch.isinf(y).any(),
            torch.allclose(y, y + 1), (y != y).any(), (y == y + 1).any(), y.mean() == 0,
        ]  # fmt: skip
        taken = "positive" if y.sum() > 0 else "not positive"
        return [bool(v) for v in true], [bool(v) for v in false], taken

    (true, false, taken), graph = within(body)
    assert all(true) and not any(false) and taken == "not positive"
    assert ("aten.gt", "comparisons are false") in rules(graph)
    assert ("aten.eq", "a thing equals itself") in rules(graph)


def test_sizes_that_depend_on_data() -> None:
    def body(m: Any, x: Tensor) -> Any:
        y = x @ m.weight
        half = x.cumsum(0) > 2
        unknown = y > 0
        return {
            "nonzero of floats": y.nonzero().shape,
            "nonzero of a false mask": unknown.nonzero().shape,
            "argwhere": torch.argwhere(y).shape,
            "where": torch.where(unknown)[0].shape,
            "nonzero as tuple": y.nonzero(as_tuple=True)[1].shape,
            "select, real mask": torch.masked_select(y, half).shape,
            "select, unknown mask": torch.masked_select(x, unknown).shape,
            "select, all true": torch.masked_select(y, torch.isfinite(y)).shape,
            "select, broadcast mask": torch.masked_select(y, half[:, 0]).shape,
            "select, broadcast source": torch.masked_select(y[0], half).shape,
            "unique": torch.unique(y).shape,
            "unique rows": torch.unique(y, dim=0).shape,
            "unique consecutive": torch.unique_consecutive(y).shape,
            "repeat, real counts": y.repeat_interleave(torch.tensor([1, 0, 2, 2]), dim=0).shape,
            "repeat, cast counts": y.repeat_interleave(y[0].long(), dim=0).shape,
            "repeat, fixed": y.repeat_interleave(3, dim=1).shape,
        }

    shapes, graph = within(body)
    assert {name: tuple(shape) for name, shape in shapes.items()} == {
        "nonzero of floats": (16, 2),
        "nonzero of a false mask": (0, 2),
        "argwhere": (16, 2),
        "where": (0,),
        "nonzero as tuple": (16,),
        "select, real mask": (8,),
        "select, unknown mask": (0,),
        "select, all true": (16,),
        "select, broadcast mask": (8,),
        "select, broadcast source": (8,),
        "unique": (16,),
        "unique rows": (4, 4),
        "unique consecutive": (16,),
        "repeat, real counts": (5, 4),
        "repeat, cast counts": (4, 4),
        "repeat, fixed": (4, 12),
    }
    assert ("aten.unique", "all elements differ") in rules(graph)
    assert ("aten.nonzero", "floats are not zero") in rules(graph)


def test_selecting_by_an_all_true_mask_gives_the_real_elements() -> None:
    result, _ = within(lambda m, x: torch.masked_select(torch.arange(4), torch.isfinite((x @ m.weight)[0])))
    assert result.tolist() == [0, 1, 2, 3]


def test_counts_of_shape_only_integers() -> None:
    def body(m: Any, x: Tensor) -> Any:
        unknown = torch.zeros(3, dtype=torch.int64).copy_((x @ m.weight)[0, :3])
        weighed = torch.bincount(torch.tensor([0, 2]), weights=(x @ m.weight)[0, :2])
        return unknown.bincount(minlength=5).tolist(), weighed, torch.count_nonzero(x @ m.weight).item()

    (counts, weighed, nonzero), graph = within(body)
    assert counts == [3, 0, 0, 0, 0] and nonzero == 16
    assert shape_only(weighed) and weighed.shape == (3,)
    assert ("aten.bincount", "integers are 0") in rules(graph)


def test_floats_cast_to_integers_are_one_and_slice() -> None:
    def body(m: Any, x: Tensor) -> Any:
        counts = (x @ m.weight)[0].to(torch.int64)
        n = counts[0]
        return counts.tolist(), x[:n].shape, x[n].shape, list(range(n)), torch.split(x, (counts).tolist())[3].shape

    (counts, sliced, picked, ranged, split), graph = within(body)
    assert counts == [1, 1, 1, 1] and sliced == (1, 4) and picked == (4,) and ranged == [0] and split == (1, 4)
    assert ("aten._to_copy", "floats are cast to 1") in rules(graph)


def test_integers_made_in_the_shape_of_floats_have_their_true_values() -> None:
    def body(m: Any, x: Tensor) -> Any:
        y = x @ m.weight
        filled = torch.empty_like(y, dtype=torch.int64)
        filled[:] = 5
        return [
            torch.ones_like(y, dtype=torch.bool).all().item(),
            torch.zeros_like(y, dtype=torch.int64).sum().item(),
            torch.full_like(y, 7, dtype=torch.int64)[0, 0].item(),
            y.new_full((2,), 9, dtype=torch.int64).tolist(),
            y.new_ones(2, dtype=torch.bool).tolist(),
            y.new_zeros(2, dtype=torch.int64).tolist(),
            filled.sum().item(),
        ]

    values, graph = within(body)
    assert values == [True, 0, 7, [9, 9], [True, True], [0, 0], 80]
    assert graph.assumptions == []


def test_top_k_arg_max_and_sort_of_experts_follow_the_routing_policy() -> None:
    def body(m: Any, x: Tensor) -> Any:
        scores = x @ m.router
        top = scores.topk(3).indices
        return (
            top.tolist(), scores.argmax(-1).tolist(), scores.max(-1).indices.tolist(),
            scores.sort(-1, descending=True).indices[:, :2].tolist(),
            F.one_hot(top, 8).sum((0, 1)).tolist(), top.flatten().bincount(minlength=8).tolist(),
        )  # fmt: skip

    (top, best, largest, order, hot, counts), graph = within(body)
    assert top == [[0, 1, 2], [3, 4, 5], [6, 7, 0], [1, 2, 3]]
    assert best == largest == [0, 1, 2, 3]
    assert [row[0] for row in order] == [0, 1, 2, 3], "a sort must not send every token to the same experts"
    assert hot == counts == [2, 2, 2, 2, 1, 1, 1, 1]
    assert ("aten.topk", "routing balanced") in rules(graph)
    (top, *_), _ = within(body, routing=WorstRouting())
    assert top == [[0, 1, 2]] * 4


@pytest.mark.parametrize("routing", [RandomRouting(3), RecordedRouting([[[5, 0, 2]] * 4])], ids=lambda r: r.name)
def test_a_sort_of_experts_is_a_permutation_that_begins_as_the_policy_says(routing: Any) -> None:
    order, _ = within(lambda m, x: (x @ m.router).argsort(-1).tolist(), routing=routing)
    assert all(sorted(row) == list(range(8)) for row in order)
    if isinstance(routing, RecordedRouting):
        assert [row[:3] for row in order] == [[5, 0, 2]] * 4


def test_other_orders_are_permutations() -> None:
    def body(m: Any, x: Tensor) -> Any:
        y = x @ m.weight
        return [
            y.sort(0).indices[:, 1].tolist(), y.argsort(1)[2].tolist(), y.argsort(dim=1, stable=True)[0].tolist(),
            y.topk(2, dim=0).indices[:, 0].tolist(), y.softmax(-1).multinomial(2)[0].tolist(),
            y[:, y[0].argsort()].shape, y.argmax().item(), (x @ m.router).sort(0).indices[:, 5].tolist(),
        ]  # fmt: skip

    values, graph = within(body)
    four = [0, 1, 2, 3]
    assert values == [four, four, four, [0, 1], [0, 1], (4, 4), 0, four]
    assert {("aten.sort", "in order"), ("aten.argmax", "zero")} <= rules(graph)


def test_tensors_of_shape_only_scalars() -> None:
    def body(m: Any, x: Tensor) -> Any:
        y = x @ m.weight
        return [
            torch.tensor([y[0, 0], 2.0]).tolist(),
            torch.tensor([[y[0, 0].long(), 3], [4, 5]]).tolist(),
            torch.as_tensor([y[0, 0]]).tolist(),
            torch.tensor(y).shape,
            torch.as_tensor(y) is y,
            shape_only(torch.stack([y[0, 0], y[0, 1]])),
        ]

    with pytest.warns(UserWarning, match="copy construct"):
        values, graph = within(body)
    assert values == [[1.0, 2.0], [[1, 3], [4, 5]], [1.0], (4, 4), True, True]
    assert ("torch.tensor", "floats are 1") in rules(graph)
