"""Folding: repeats are found by structure alone, and nothing is lost."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from modelmeter import CallGraph, Page, Scenario, TraceOptions, trace
from modelmeter.callgraph.folded import Family, FoldedGraph
from modelmeter.callgraph.folding import fold
from modelmeter.patterns import pattern, ranges
from modelmeter.routing import RecordedRouting
from small import SMALL_SIZES, small_config
from trees import WIDTH, Again, build, plans


def traced(module: nn.Module, *inputs: Tensor) -> CallGraph:
    return trace(module, *(inputs or (torch.zeros(1, WIDTH),)))


def partition(folded: FoldedGraph, name: Callable[[str], str] = str) -> set[tuple[frozenset[str], str, int]]:
    """Families up to names: members, repetition and count."""
    return {
        (frozenset(map(name, family.members)), family.repetition, family.count) for family in folded.families.values()
    }


def family(folded: FoldedGraph, class_name: str) -> Family:
    (found,) = [f for f in folded.families.values() if f.class_name == class_name]
    return found


@settings(max_examples=40, deadline=None, derandomize=True)
@given(plans())
def test_unfolding_gives_back_the_call_graph(plan: tuple[object, ...]) -> None:
    graph = traced(build(plan))
    calls, edges, operations = fold(graph).unfold()
    assert calls == graph.call_counts
    assert edges == graph.edges
    assert operations == graph.op_call_counts


@settings(max_examples=40, deadline=None, derandomize=True)
@given(plans(), st.integers(0, 2**16))
def test_folding_does_not_depend_on_names(plan: tuple[object, ...], seed: int) -> None:
    graph = traced(build(plan))
    names = sorted({*graph.module_types, *graph.call_counts})
    fresh = [f"n{number}" for number in range(len(names))]
    random.Random(seed).shuffle(fresh)
    new = dict(zip(names, fresh, strict=True))
    old = {value: key for key, value in new.items()}
    assert partition(fold(renamed(graph, new)), old.__getitem__) == partition(fold(graph))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(plans())
def test_folding_does_not_depend_on_how_modules_are_held(plan: tuple[object, ...]) -> None:
    listed, attributes = (fold(traced(build(plan, listed=way))) for way in (True, False))

    def plain(name: str) -> str:
        return re.sub(r"parts\.(\d+)", r"part_\1", name)

    assert partition(listed, plain) == partition(attributes)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(plans())
def test_costs_of_families_add_up(plan: tuple[object, ...]) -> None:
    graph = traced(build(plan))
    folded = fold(graph)
    assert sum(f.cost.own.matrix_flops for f in folded.families.values()) == graph.total.matrix_flops
    assert sum(f.cost.own.launches for f in folded.families.values()) == graph.total.launches
    assert sum(f.parameters for f in folded.families.values()) == graph.parameter_count


def renamed(graph: CallGraph, new: dict[str, str]) -> CallGraph:
    def edge(text: str) -> str:
        return "->".join(new[name] for name in text.split("->"))

    return evolve(
        graph,
        call_counts={new[k]: v for k, v in graph.call_counts.items()},
        op_call_counts={new[k]: v for k, v in graph.op_call_counts.items()},
        edges={edge(k): v for k, v in graph.edges.items()},
        data_edges={edge(k): v for k, v in graph.data_edges.items()},
        module_children={new[k]: [new[c] for c in v] for k, v in graph.module_children.items()},
        module_types={new[k]: v for k, v in graph.module_types.items()},
        module_classes={new[k]: v for k, v in graph.module_classes.items()},
        module_stages={new[k]: v for k, v in graph.module_stages.items()},
        constructor_params={new[k]: v for k, v in graph.constructor_params.items()},
        parameters={new[k]: v for k, v in graph.parameters.items()},
        costs={new[k]: v for k, v in graph.costs.items()},
        input_metadata={},
        output_metadata={},
        operators={},
        kv_cache={},
        forwards=[],
    )


def test_a_block_called_ten_times_is_parfor_ten() -> None:
    folded = fold(traced(Again(nn.Linear(WIDTH, WIDTH), 10)))
    assert family(folded, "Linear").label == "Linear @ part parfor 10"


def test_series_and_parallel_are_told_apart() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.o(self.q(x) * self.k(x) + self.v(x))

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.attn, self.norm2 = nn.LayerNorm(WIDTH), Attention(), nn.LayerNorm(WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm2(x + self.attn(self.norm1(x)))

    labels = sorted(f.label for f in fold(traced(nn.Sequential(*(Layer() for _ in range(3))))).families.values())
    assert labels == sorted(
        [
            "Sequential @ Sequential",
            "Layer @ [0-2] for 3",
            "LayerNorm @ [0-2].norm1",
            "Attention @ [0-2].attn",
            "Linear @ [0-2].attn.[q,k,v] parfor 3",
            "Linear @ [0-2].attn.o",
            "LayerNorm @ [0-2].norm2",
        ]
    )


def test_skip_connections_do_not_break_a_series() -> None:
    class Down(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Linear(2 * WIDTH, WIDTH)

        def forward(self, x: Tensor, skip: Tensor) -> Tensor:
            return self.conv(torch.cat([x, skip], dim=-1))

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.ModuleList(Down() for _ in range(3))
            self.middle = nn.Tanh()
            self.up = nn.ModuleList(Up() for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            skips = []
            for down in self.down:
                x = down(x)
                skips.append(x)
            x = self.middle(x)
            for up in self.up:
                x = up(x, skips.pop())
            return x

    folded = fold(traced(UNet()))
    assert family(folded, "Down").label == "Down @ down.[0-2] for 3"
    assert family(folded, "Up").label == "Up @ up.[0-2] for 3"


def test_leaves_of_other_configuration_do_not_join_a_series() -> None:
    folded = fold(traced(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4, bias=False))))
    assert Counter(f.label for f in folded.families.values()) == Counter(
        ["Sequential @ Sequential", "Linear @ [0,1] for 2", "Linear @ 2"]
    )


def test_a_bert_folds_to_one_layer() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=5, num_attention_heads=2, intermediate_size=32, vocab_size=50
    )
    folded = fold(trace(transformers.BertModel(config).eval(), torch.ones(1, 6, dtype=torch.int64)))
    assert family(folded, "BertLayer").label == "BertLayer @ encoder.layer.[0-4] for 5"
    (attention,) = [f for f in folded.families.values() if f.class_name.endswith("SelfAttention")]
    assert len(attention.members) == 5


@pytest.fixture(scope="module")
def small() -> CallGraph:
    return small_trace(RecordedRouting([[[0, 1, 2], [3, 4, 6], [7, 0, 1]]]))


def small_trace(routing: RecordedRouting) -> CallGraph:
    scenario = Scenario(pages=(Page(grid=(2, 1)),), decode_steps=1, **SMALL_SIZES)
    return trace("deepseek-ocr", scenario, config=small_config(), options=TraceOptions(routing=routing))


def test_an_expert_without_tokens_is_a_gap_and_no_node(small: CallGraph) -> None:
    folded = fold(small)
    labels = {f.label for f in folded.families.values()}
    assert "DeepseekV2MLP @ layers.[1,2].mlp.experts.[0-4,6,7] parfor 7" in labels
    assert folded.disagreements == []


def test_gaps_are_listed_by_layer_where_layers_differ() -> None:
    first, second = [[0, 1, 2]], [[0, 1, 3]]
    folded = fold(small_trace(RecordedRouting([first, second])))
    (experts,) = [
        f for f in folded.families.values() if f.class_name == "DeepseekV2MLP" and "experts.[" in f.id and "+" in f.id
    ]
    assert experts.id == "layers.1.mlp.experts.[0-2] + layers.2.mlp.experts.[0,1,3]"


def test_windowed_and_global_attention_are_two_families(small: CallGraph) -> None:
    ids = {f.id for f in fold(small).families.values() if f.class_name == "Attention"}
    assert ids == {"sam_model.blocks.[0,2].attn", "sam_model.blocks.1.attn"}


def test_runtime_events_that_contradict_the_graph_are_reported(small: CallGraph) -> None:
    events = [
        {**event, "num_layers": 5} if event["kind"] == "llm_stack" else event
        for event in small.runtime_events
        if event["forward"] == "prefill"
    ]
    for event in events:
        if event["kind"] == "expert_tokens":
            event["counts"] = [*event["counts"][1:], event["counts"][0]]
    found = fold(evolve(small, runtime_events=events)).disagreements
    assert "prefill: layers holds 5 layers, 3 ran" in found
    assert any("gave expert" in line for line in found)


def test_documents_with_five_keys_fold(small: CallGraph) -> None:
    keys = ("call_counts", "edges", "op_call_counts", "module_children", "module_types")
    bare = CallGraph(**{key: getattr(small, key) for key in keys})
    folded = fold(bare)
    assert folded.unfold() == (small.call_counts, small.edges, small.op_call_counts)


def test_recursion_and_shared_modules_fold() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor, depth: int = 2) -> Tensor:
            return self(self.inner(x), depth - 1) if depth else x

    graph = traced(Twice())
    folded = fold(graph)
    assert folded.unfold()[1] == graph.edges
    assert graph.edges["Twice->Twice"] == 2


def test_shared_modules_at_every_level_take_no_longer() -> None:
    levels = 60
    names = [f"{side}{level}" for level in range(levels) for side in "ab"]
    graph = CallGraph(call_counts=dict.fromkeys(["root", *names], 2), module_types=dict.fromkeys(["root", *names], "M"))
    graph.module_children = {"root": names}
    graph.edges = {"root->a0": 1, "root->b0": 1}
    for level in range(1, levels):
        for caller in "ab":
            graph.edges |= {f"{caller}{level - 1}->{callee}{level}": 1 for callee in "ab"}
    folded = fold(graph)
    assert folded.unfold()[1] == graph.edges


@given(st.lists(st.tuples(*[st.integers(0, 3).map(str)] * 3), unique=True, min_size=1, max_size=20))
def test_patterns_name_exactly_their_members(names: list[tuple[str, str, str]]) -> None:
    from modelmeter.callgraph.memory import _expression

    plain = [f"a{x}.{y}.b.{z}" for x, y, z in names]
    expressions = [_expression(part) for part in pattern(plain).split(" + ")]
    every = [f"a{x}.{y}.b.{z}" for x in range(4) for y in range(4) for z in range(4)]
    assert {name for name in every if any(e.fullmatch(name) for e in expressions)} == set(plain)


def test_ranges() -> None:
    assert ranges([0, 1, 3, 4, 6, 7, 9, 10]) == "0,1,3,4,6,7,9,10"
    assert ranges([2, 5, 8, 11]) == "2,5,8,11"
    assert ranges(range(64)) == "0-63"
