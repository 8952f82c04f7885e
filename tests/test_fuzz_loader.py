"""Mutated documents: each loads and folds, or is refused in one line; never a traceback."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from modelmeter import CallGraph, Page, Scenario, trace
from modelmeter.callgraph.difference import difference
from modelmeter.callgraph.folding import fold
from modelmeter.callgraph.memory import memory_by_family
from modelmeter.errors import DocumentError
from modelmeter.schema.checks import check_call_graph
from modelmeter.schema.codec import structure_document
from small import SMALL_SIZES, small_config

STRANGE: tuple[Any, ...] = (
    None, -1, 0, 2**80, 1.5, "", "x", "a->b", "->", "a->b->c", [], {}, [[]], {"a": 1}, True, [None], "\u0000", "é" * 600
)  # fmt: skip


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """A small graph, so that most mutations hit something that matters."""
    config = small_config(num_hidden_layers=2, n_routed_experts=2, num_experts_per_tok=1, first_k_dense_replace=1)
    graph = trace("deepseek-ocr", Scenario(pages=(Page(grid=(1, 1)),), text_tokens=1, **SMALL_SIZES), config=config)
    return json.loads(graph.to_json())


def place(document: dict[str, Any], chance: random.Random) -> tuple[Any, Any]:
    """A container somewhere in the document and a key or an index into it, by a random walk down."""
    container: Any = document
    while True:
        key = chance.choice(list(container)) if isinstance(container, dict) else chance.randrange(len(container))
        inner = container[key]
        if not isinstance(inner, (dict, list)) or not inner or chance.random() < 0.15:
            return container, key
        container = inner


def mutate(document: dict[str, Any], chance: random.Random) -> None:
    """One change somewhere: another value, a copy from elsewhere, a removal, a new key, another name."""
    if not document:
        return
    container, key = place(document, chance)
    kind = chance.randrange(5)
    if kind == 0:
        container[key] = copy.deepcopy(chance.choice(STRANGE))
    elif kind == 1:
        other, other_key = place(document, chance)
        container[key] = copy.deepcopy(other[other_key])
    elif kind == 2:
        del container[key]
    elif isinstance(container, dict):
        name = str(chance.choice(STRANGE)) if kind == 3 else f"{key}x"
        container[name] = container.pop(key) if kind == 4 else copy.deepcopy(chance.choice(STRANGE))
    else:
        container.append(copy.deepcopy(container[key]))


@pytest.mark.parametrize("mutants", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_documents_load_and_fold_or_are_refused(document: dict[str, Any], mutants: int) -> None:
    chance = random.Random(20)
    small = {key: value for key, value in document.items() if key not in ("scenario", "model")}
    text = json.dumps(small)
    whole = structure_document(copy.deepcopy(small), CallGraph, "whole")
    loaded, refused = 0, 0
    messages: list[str] = []
    for _ in range(mutants):
        mutant = json.loads(text)
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            mutate(mutant, chance)
        try:
            graph = structure_document(mutant, CallGraph, "mutant")
            check_call_graph(graph, "mutant")
        except DocumentError as error:
            refused += 1
            messages.append(str(error))
            continue
        loaded += 1
        folded = fold(graph)
        assert folded.unfold()[0] == graph.call_counts
        if loaded % 20 == 0:
            memory_by_family(folded)
            difference(whole, graph)
            repr(graph)
    assert loaded > mutants // 50
    assert refused > mutants // 10
    assert not [message for message in messages if "\n" in message or len(message) > 4000]


def test_truncated_documents_are_refused(document: dict[str, Any], tmp_path: Path) -> None:
    text = json.dumps(document)
    path = tmp_path / "graph.json"
    for length in range(0, len(text), len(text) // 40):
        path.write_text(text[:length], encoding="utf-8")
        with pytest.raises(DocumentError, match="no complete JSON"):
            CallGraph.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "schema version 99"),
        ({"edges": {"layers.0->nowhere": 1}}, "'nowhere', which has no call count"),
        ({"edges": {"layers.0": 1}}, "expected 'caller->callee'"),
        ({"call_counts": {"layers.0": -1}}, "is -1, a count cannot be negative"),
        ({"module_children": {"norm": ["lm_head"], "lm_head": ["norm"]}}, "is below itself"),
        ({"module_children": {"norm": ["lm_head"], "layers.0": ["lm_head"]}}, "a child of 'norm' and of 'layers.0'"),
        ({"surprise": 1}, "surprise"),
        ({"call_counts": {"layers.0": "8"}}, "call_counts"),
    ],
)
def test_what_is_wrong_is_named(document: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "graph.json"
    path.write_text(json.dumps({**document, **change}), encoding="utf-8")
    with pytest.raises(DocumentError) as caught:
        CallGraph.load(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
