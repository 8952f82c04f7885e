"""The operator list: read from a torchinfo-style listing, or derived from a module tree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelmeter.contracts import TargetOperatorList, converter
from modelmeter.contracts.operator_classes import CATEGORY_NAMES, OTHER, RULES, category_of_class
from modelmeter.cost.categories import CATEGORIES
from modelmeter.errors import DocumentError
from modelmeter.schema import CallGraph

ROOT = Path(__file__).parent.parent

CLASSES = {
    "torch.nn.modules.linear.Linear": "linear",
    "torch.nn.modules.conv.Conv2d": "convolution",
    "torch.nn.modules.normalization.LayerNorm": "norm",
    "torch.nn.modules.activation.SiLU": "activation",
    "torch.nn.modules.activation.MultiheadAttention": "attention",
    "torch.nn.modules.sparse.Embedding": "embedding",
    "torch.nn.modules.container.ModuleList": "other",
    "DeepseekV2RMSNorm": "norm",
    "LayerNorm2d": "norm",
    "BatchNorm2d": "norm",
    "MoEGate": "routing",
    "DeepseekV2MoE": "routing",
    "DeepseekV2MLP": "activation",
    "NoTPFeedForward": "activation",
    "LlamaAttention": "attention",
    "LlamaRotaryEmbedding": "positions",
    "CLIPVisionEmbeddings": "embedding",
    "MlpProjector": "linear",
    "PatchEmbed": "convolution",
    "Block": "residual",
    "DeepseekV2DecoderLayer": "residual",
    "DeepseekOCRForCausalLM": "other",
    "Dropout": "other",
}

LISTING: dict[str, Any] = {
    "generated_at": "2026-01-01T00:00:00Z",
    "depth": 3,
    "layers": [
        {
            "class_name": "Linear",
            "class_name_qualified": "torch.nn.modules.linear.Linear",
            "is_torch_builtin": True,
            "count": 60,
            "children": [],
        },
        {
            "class_name": "Block",
            "class_name_qualified": "deepencoder.Block",
            "is_torch_builtin": False,
            "children": ["torch.nn.modules.linear.Linear", "deepencoder.Attention", "deepencoder.Attention"],
        },
    ],
}


@pytest.mark.parametrize(("name", "category"), CLASSES.items())
def test_default_categories(name: str, category: str) -> None:
    assert category_of_class(name) == category


def test_categories_are_those_of_the_costs() -> None:
    known = [name.replace(" ", "_") for name in (*CATEGORIES, OTHER)]
    assert list(CATEGORY_NAMES) == known
    assert {category for _, category in RULES} <= set(known)


def test_a_listing_is_read(tmp_path: Path) -> None:
    path = tmp_path / "torchinfo-unique-layers.json"
    path.write_text(json.dumps(LISTING))
    for given in (path, tmp_path):
        read = TargetOperatorList.load(given)
        assert read.snapshot_id == "2026-01-01T00:00:00Z"
        assert read.layers_json_path == "torchinfo-unique-layers.json"
        block, linear = read.operators
        assert block.class_name == "Block" and block.is_custom and not block.is_pytorch_builtin
        assert block.children_classes == ("deepencoder.Attention", "torch.nn.modules.linear.Linear")
        assert linear.is_pytorch_builtin and linear.default_category_id == "linear"
        assert converter.structure(converter.unstructure(read), TargetOperatorList) == read
        found = {category.category_id: category.match_classes for category in read.categories()}
        assert found["linear"] == ("torch.nn.modules.linear.Linear",)
        assert found["residual"] == ("deepencoder.Block",) and found["other"] == ()


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"layers": None}, "$.layers"),
        ({"layers": [1]}, "$.layers[0]"),
        ({"layers": [{}]}, "$.layers[0].class_name"),
        ({"layers": [{"class_name": 5}]}, "$.layers[0].class_name"),
        ({"layers": [{"class_name": "a\x1b"}]}, "$.layers[0].class_name"),
        ({"layers": [{"class_name": "A"}, {"class_name": "A"}]}, "$.layers[1]"),
        ({"layers": [{"class_name": "A", "class_name_qualified": "x.B"}]}, "$.layers[0].class_name_qualified"),
        ({"layers": [{"class_name": "A", "is_torch_builtin": 1}]}, "$.layers[0].is_torch_builtin"),
        ({"layers": [{"class_name": "A", "children": "BC"}]}, "$.layers[0].children"),
        ({"generated_at": 5}, "$.generated_at"),
    ],
)
def test_what_is_no_listing_is_refused_with_its_place(change: dict[str, Any], place: str, tmp_path: Path) -> None:
    path = tmp_path / "listing.json"
    path.write_text(json.dumps({**LISTING, **change}))
    with pytest.raises(DocumentError) as caught:
        TargetOperatorList.load(path)
    assert str(caught.value).partition("; give")[0].endswith(f"@ {place}") and str(path) in str(caught.value)


def test_a_list_is_derived_from_a_call_graph() -> None:
    graph = CallGraph.load(ROOT / "examples" / "callgraph.json")
    derived = TargetOperatorList.of_call_graph(graph)
    assert {spec.class_name for spec in derived.operators} == {
        name.rpartition(".")[2] for name in graph.module_types.values()
    }
    assert derived == TargetOperatorList.of_call_graph(graph)
    assert len(derived.snapshot_id) == 16
    unnamed = [spec.class_name for spec in derived.operators if spec.default_category_id == OTHER]
    # Those that run no operators of their own, and the whole models.
    assert set(unnamed) <= {
        "DeepseekOCRForCausalLM",
        "DeepseekOCRModel",
        "ImageEncoderViT",
        "ModuleList",
        "NoTPTransformer",
        "Sequential",
        "VitModel",
    }


def test_a_tree_gives_children_and_qualified_names() -> None:
    derived = TargetOperatorList.of_modules(
        {"Net": ["a", "b"], "a": ["a.c"]},
        {"Net": "Net", "a": "Block", "b": "Block", "a.c": "Linear"},
        {"a.c": "torch.nn.modules.linear.Linear"},
    )
    assert [(spec.class_name_qualified, spec.children_classes) for spec in derived.operators] == [
        ("Block", ("torch.nn.modules.linear.Linear",)),
        ("Net", ("Block",)),
        ("torch.nn.modules.linear.Linear", ()),
    ]
    assert [spec.is_pytorch_builtin for spec in derived.operators] == [False, False, True]
