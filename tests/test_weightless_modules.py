"""Modules of every structure: shared, recursive, entered directly, with odd inputs and outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from modelmeter import trace


@dataclasses.dataclass
class Pair:
    left: Tensor
    right: Tensor | None = None


class Named(NamedTuple):
    one: Tensor
    two: tuple[Tensor, ...]


class Returns(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.linear, self.kind = nn.Linear(3, 3), kind

    def forward(self, *, x: Any, **more: Any) -> Any:
        tensor = x
        while not isinstance(tensor, Tensor):
            tensor = (
                tensor.left
                if isinstance(tensor, Pair)
                else next(iter(tensor.values() if isinstance(tensor, dict) else tensor))
            )
        y = self.linear(tensor)
        outputs: dict[str, Any] = {
            "none": None,
            "dict": {"a": y, "b": [y, 3]},
            "dataclass": Pair(y),
            "nested": ((y, (y,)), [y]),
            "named": Named(y, (y,)),
            "generator": (y * i for i in range(2)),
        }
        return outputs[self.kind]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("none", []),
        ("dict", ["output.a", "output.b[0]"]),
        ("dataclass", ["output.left"]),
        ("nested", ["output[0][0]", "output[0][1][0]", "output[1][0]"]),
        ("named", ["output.one", "output.two[0]"]),
        ("generator", []),
    ],
)
@pytest.mark.parametrize("given", ["dict", "dataclass", "nested", "generator"])
def test_inputs_and_outputs_of_every_kind(kind: str, names: list[str], given: str) -> None:
    x = torch.ones(2, 3)
    inputs: dict[str, Any] = {"dict": {"k": x}, "dataclass": Pair(x), "nested": ([x],), "generator": (t for t in [x])}
    graph = trace(Returns(kind), x=inputs[given])
    assert [t.argument for s in graph.output_metadata["Returns"] for t in s.tensors] == names
    assert graph.call_counts == {"Returns": 1, "linear": 1}
    expected = {"dict": ["x.k"], "dataclass": ["x.left"], "nested": ["x[0][0]"], "generator": []}[given]
    assert [t.argument for t in graph.input_metadata["Returns"][0].tensors] == expected


def test_a_module_entered_through_forward_is_recorded() -> None:
    class Direct(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear.forward(x) + self.linear(x)

    graph = trace(Direct(), torch.ones(1, 4))
    assert graph.edges == {"Direct->linear": 2}
    assert graph.costs["linear"].total.matrix_flops == 64


def test_a_shared_module_is_one_module_called_often() -> None:
    shared = nn.Linear(4, 4)
    graph = trace(nn.Sequential(*[shared] * 10), torch.ones(1, 4))
    assert graph.call_counts == {"Sequential": 1, "0": 10} and graph.parameter_count == 20
    assert graph.data_edges == {"0->0": 9}


def test_a_module_that_calls_itself_counts_once_in_its_total() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor, depth: int = 3) -> Tensor:
            x = self.linear(x)
            return x if depth == 1 else self(x, depth - 1)

    graph = trace(Nested(), torch.ones(1, 4))
    assert graph.call_counts == {"Nested": 3, "linear": 3}
    assert graph.edges == {"Nested->linear": 3, "Nested->Nested": 2}
    assert graph.costs["Nested"].total.matrix_flops == 3 * 32 == graph.total.matrix_flops


def test_a_buffer_registered_during_the_forward_is_used_by_the_next_call() -> None:
    class Remembers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            if not hasattr(self, "table"):
                self.register_buffer("table", torch.arange(8.0).outer(torch.ones(4)), persistent=False)
            return self.linear(x) + self.table[x.shape[0]]

    module = Remembers()
    assert trace(nn.Sequential(module, module), torch.ones(2, 4)).call_counts["0"] == 2
    assert module.table[3].tolist() == [3.0] * 4, "what is computed for real stays, as after a real run"


def layers() -> Iterator[tuple[str, nn.Module, tuple[Any, ...]]]:
    x, image, ids = torch.randn(2, 5, 8), torch.randn(2, 4, 9, 9), torch.tensor([[1, 2, 3], [4, 0, 5]])
    yield "LSTM", nn.LSTM(8, 6, 2, bidirectional=True), (x,)
    yield "GRU", nn.GRU(8, 6), (x,)
    yield "attention", nn.MultiheadAttention(8, 2, batch_first=True), (x, x, x)
    yield "attention, slow", nn.MultiheadAttention(8, 2), (x, x, x)
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    yield "encoder", nn.TransformerEncoder(encoder, 2), (x,)
    yield "transposed", nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (image,)
    yield "bilinear", nn.Bilinear(8, 8, 3), (x, x)
    yield "norms", nn.Sequential(nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True)), (image,)
    yield "embedding", nn.Embedding(9, 4, padding_idx=0, max_norm=1.0), (ids,)
    yield "interpolate", nn.Sequential(nn.Conv2d(4, 4, 1), nn.Upsample(scale_factor=2, mode="bicubic")), (image,)
    yield "pool", nn.Sequential(nn.Conv2d(4, 4, 1), nn.MaxPool2d(2, return_indices=True)), (image,)
    yield "pixels", nn.Sequential(nn.Conv2d(4, 4, 1), nn.PixelShuffle(2), nn.Unfold(2)), (image,)
    yield "adaptive", nn.AdaptiveLogSoftmaxWithLoss(8, 10, [4, 7]), (torch.randn(6, 8), torch.arange(6))


LAYERS = {name: (module.eval(), args) for name, module, args in layers()}


@pytest.mark.parametrize(("module", "args"), LAYERS.values(), ids=LAYERS)
def test_torch_s_own_layers_as_for_real(module: nn.Module, args: tuple[Any, ...]) -> None:
    from test_weightless_equals_real import assert_same_documents

    assert_same_documents(module, *args)


def test_the_bag_of_an_embedding_bag() -> None:
    graph = trace(nn.EmbeddingBag(9, 4, mode="mean"), torch.tensor([[1, 2], [3, 4]]))
    assert graph.output_metadata["EmbeddingBag"][0].tensors[0].shape == (2, 4)


def test_padded_sequences_stay_padded_in_an_encoder_without_values() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1).eval()
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    graph = trace(encoder, torch.ones(2, 5, 8), src_key_padding_mask=padding)
    assert graph.output_metadata["TransformerEncoder"][0].tensors[0].shape == (2, 5, 8)
    assert "sequences stay padded" in {a.rule for a in graph.assumptions}


def test_packed_sequences_of_known_lengths() -> None:
    class Packs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.lstm = nn.Linear(8, 8), nn.LSTM(8, 6, batch_first=True)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(self.embed(x), lengths, batch_first=True)
            return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0]

    from test_weightless_equals_real import assert_same_documents

    assert_same_documents(Packs(), torch.randn(3, 5, 8), torch.tensor([5, 3, 3]))
