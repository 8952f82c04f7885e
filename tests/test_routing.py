"""Routing policies: what every table must be, and what each policy promises."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmeter.errors import ScenarioError, UnknownNameError
from modelmeter.routing import (
    BalancedRouting,
    RandomRouting,
    RecordedRouting,
    RoutingPolicy,
    WorstRouting,
    ZipfRouting,
    parse_routing,
)

POLICIES = st.one_of(
    st.just(BalancedRouting()),
    st.just(WorstRouting()),
    st.builds(ZipfRouting, st.floats(0, 100)),
    st.builds(RandomRouting, st.integers(0, 2**31)),
)


@st.composite
def problems(draw: st.DrawFn) -> tuple[int, int, int]:
    """Tokens, experts, and experts a token."""
    experts = draw(st.integers(1, 70))
    return draw(st.integers(0, 90)), experts, draw(st.integers(1, experts))


@given(POLICIES, problems(), st.integers(0, 3), st.integers(0, 3))
def test_every_token_takes_distinct_experts(
    policy: RoutingPolicy, problem: tuple[int, int, int], call: int, forward: int
) -> None:
    tokens, experts, top_k = problem
    table = policy.table(tokens, experts, top_k, call=call, forward=forward)
    assert table.shape == (tokens, top_k)
    assert table.dtype == np.int64
    assert all(len(set(row)) == top_k for row in table.tolist())
    assert not table.size or (table.min() >= 0 and table.max() < experts)
    again = policy.table(tokens, experts, top_k, call=call, forward=forward)
    np.testing.assert_array_equal(table, again)


@given(problems())
def test_balanced_is_the_formula(problem: tuple[int, int, int]) -> None:
    tokens, experts, top_k = problem
    table = BalancedRouting().table(tokens, experts, top_k, call=2, forward=1)
    assert table.tolist() == [[(t * top_k + j) % experts for j in range(top_k)] for t in range(tokens)]
    loads = np.bincount(table.ravel(), minlength=experts)
    assert loads.max() - loads.min() <= 1


@given(problems(), st.floats(0, 100))
def test_zipf_loads(problem: tuple[int, int, int], alpha: float) -> None:
    tokens, experts, top_k = problem
    policy = ZipfRouting(alpha)
    loads = policy.loads(tokens, experts, top_k)
    assert loads.sum() == tokens * top_k
    assert loads.min() >= 0 and loads.max() <= tokens
    assert all(a >= b for a, b in pairwise(loads))
    table = policy.table(tokens, experts, top_k)
    np.testing.assert_array_equal(np.bincount(table.ravel(), minlength=experts), loads)


def test_zipf_follows_its_law_where_nothing_is_full() -> None:
    loads = ZipfRouting(1.0).loads(10_000, 16, 2)
    harmonic = sum(1 / e for e in range(1, 17))
    for expert, load in enumerate(loads, start=1):
        assert abs(load - 20_000 / (expert * harmonic)) < 1
    even = ZipfRouting(0.0).loads(100, 8, 2)
    assert even.tolist() == [25] * 8


def test_worst_loads_the_same_few() -> None:
    assert WorstRouting().table(3, 9, 2).tolist() == [[0, 1]] * 3


def test_random_differs_by_seed_decision_and_forward() -> None:
    def table(seed: int, call: int, forward: int) -> str:
        return str(RandomRouting(seed).table(20, 64, 6, call=call, forward=forward).tolist())

    assert len({table(1, 0, 0), table(2, 0, 0), table(1, 1, 0), table(1, 0, 1)}) == 4


@pytest.mark.parametrize("policy", [BalancedRouting(), WorstRouting(), ZipfRouting(1.0), RandomRouting(1)])
@pytest.mark.parametrize(("tokens", "experts", "top_k"), [(3, 4, 5), (3, 4, 0), (-1, 4, 2), (1, 0, 1)])
def test_impossible_problems(policy: RoutingPolicy, tokens: int, experts: int, top_k: int) -> None:
    with pytest.raises(ScenarioError, match="cannot route"):
        policy.table(tokens, experts, top_k)


def test_recorded_tables_repeat_and_are_cut() -> None:
    policy = RecordedRouting([[[0, 1], [2, 3]], [[4, 5]]], decisions_per_forward=1)
    assert policy.table(3, 6, 2, call=0).tolist() == [[0, 1], [2, 3], [0, 1]]
    assert policy.table(1, 6, 2, call=0).tolist() == [[0, 1]]
    assert policy.table(2, 6, 2, call=1).tolist() == [[4, 5], [4, 5]]
    assert policy.table(1, 6, 2, call=2).tolist() == [[0, 1]]
    assert policy.table(1, 6, 2, call=0, forward=1).tolist() == [[4, 5]]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([[[0, 0]]], "twice"),
        ([[]], "non-empty"),
        ([[[0.5, 1]]], "non-empty list"),
        ([[["a"]]], "non-empty list"),
        ([[1, 2]], "non-empty list"),
        ([[[True, False]]], "non-empty list"),
        ([], "there is no table"),
    ],
)
def test_bad_recorded_tables(tables: list[object], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        RecordedRouting(tables)


def test_recorded_table_that_does_not_fit_the_model() -> None:
    policy = RecordedRouting([[[0, 7]]])
    with pytest.raises(ScenarioError, match="names expert 7, the model has 4"):
        policy.table(1, 4, 2)
    with pytest.raises(ScenarioError, match="has 2 experts a token, the model takes 3"):
        policy.table(1, 9, 3)
    with pytest.raises(ScenarioError, match="names expert -1"):
        RecordedRouting([[[-1, 2]]]).table(1, 4, 2)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("balanced", BalancedRouting()),
        ("worst", WorstRouting()),
        ("zipf:1.2", ZipfRouting(1.2)),
        ("zipf:0", ZipfRouting(0.0)),
        ("random:7", RandomRouting(7)),
    ],
)
def test_names_are_read_and_written(text: str, policy: RoutingPolicy) -> None:
    assert parse_routing(text) == policy
    assert parse_routing(policy.name) == policy


@given(st.floats(0, 100))
def test_any_zipf_name_is_its_policy(alpha: float) -> None:
    policy = ZipfRouting(alpha)
    assert parse_routing(policy.name) == policy


@pytest.mark.parametrize(
    "text", ["zipf:", "zipf:x", "zipf:-1", "zipf:nan", "zipf:inf", "random:", "random:-1", "random:1.5"]
)
def test_bad_parameters(text: str) -> None:
    with pytest.raises(ScenarioError, match="no valid parameter"):
        parse_routing(text)


@pytest.mark.parametrize(("text", "near"), [("balance", "balanced"), ("wurst", "worst"), ("Zipf:1", "zipf:ALPHA")])
def test_unknown_policies_get_the_nearest(text: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"did you mean '{near}'"):
        parse_routing(text)


@pytest.fixture
def table_file(tmp_path: Path) -> Callable[[object], str]:
    def write(content: object) -> str:
        path = tmp_path / "table.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


def test_table_files(table_file: Callable[[object], str]) -> None:
    one = parse_routing(table_file([[0, 1], [2, 3]]))
    assert one.name == "table:table.json"
    assert one.table(2, 4, 2, call=5).tolist() == [[0, 1], [2, 3]]
    per_decision = parse_routing(table_file([[[0, 1]], [[2, 3]]]))
    assert per_decision.table(1, 4, 2, call=1).tolist() == [[2, 3]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "no JSON"),
        ("", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ([[0, 1], [2]], "different lengths"),
        ([[[0, 1]], [[2]], [[0, 1], [2]]], "different lengths"),
        ([], "non-empty"),
        ({"a": 1}, "non-empty"),
        (3, "non-empty"),
        ([["a", "b"]], "non-empty"),
        ([[0.5]], "non-empty"),
        ([[0, 10**30]], "non-empty"),
    ],
)
def test_bad_table_files(table_file: Callable[[object], str], content: object, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        parse_routing(table_file(content))


def test_table_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot read the routing table"):
        parse_routing(str(tmp_path / "missing.json"))
    folder = tmp_path / "folder.json"
    folder.mkdir()
    with pytest.raises(ScenarioError, match="cannot read the routing table"):
        parse_routing(str(folder))
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScenarioError, match="no JSON"):
        parse_routing(str(binary))
