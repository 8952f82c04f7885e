"""Building without weights: parameters are shape-only from their registration on, all else is real."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from modelmeter import build_weightless, trace
from test_weightless import shape_only


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(6)) for _ in range(3)])
        self.named = nn.ParameterDict({"shift": nn.Parameter(torch.zeros(6))})
        self.computed = nn.Parameter(torch.linspace(0, 1, 6).outer(torch.ones(6)))
        self.register_buffer("positions", torch.arange(5) * 2)
        self.frozen = nn.Parameter(torch.ones(2, dtype=torch.int8), requires_grad=False)
        self.plain = torch.arange(3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) @ self.computed
        for scale in self.scales:
            x = x * scale
        return self.head(x + self.named["shift"])


def test_parameters_are_shape_only_and_all_else_is_real() -> None:
    module = build_weightless(Tied)
    assert all(shape_only(p) and isinstance(p, nn.Parameter) for p in module.parameters())
    assert module.positions.tolist() == [0, 2, 4, 6, 8] and module.plain.tolist() == [0, 1, 2]
    assert module.head.weight is module.embed.weight
    assert len(list(module.parameters())) == 7
    graph = trace(module, torch.tensor([[1, 2, 3]]))
    assert graph.output_metadata["Tied"][0].tensors[0].shape == (1, 3, 11)
    assert graph.parameters["head"].shared == {"weight": "embed.weight"}
    assert graph.parameter_count == 11 * 6 + 3 * 6 + 6 + 36 + 2


def test_ties_of_a_real_module_are_kept_in_a_trace() -> None:
    module = Tied()
    seen: list[bool] = []
    module.register_forward_pre_hook(lambda m, _: seen.append(m.head.weight is m.embed.weight))
    graph = trace(module, torch.tensor([[1, 2, 3]]))
    assert seen == [True] and graph.parameter_count == 128


CASTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "half": lambda m: m.half(),
    "to dtype": lambda m: m.to(torch.float16),
    "to both": lambda m: m.to("cuda", torch.float16),
    "cuda, then half": lambda m: m.cuda().half(),
}


@pytest.mark.parametrize("cast", CASTS.values(), ids=CASTS)
def test_casts_in_the_build(cast: Callable[[nn.Module], nn.Module]) -> None:
    module = build_weightless(lambda: cast(Tied()))
    assert isinstance(module, Tied)
    assert {p.dtype for p in module.parameters()} == {torch.float16, torch.int8}
    assert all(map(shape_only, module.parameters()))
    assert module.head.weight is module.embed.weight
    assert module.positions.tolist() == [0, 2, 4, 6, 8]
    graph = trace(module, torch.tensor([[1, 2]]))
    assert graph.output_metadata["Tied"][0].tensors[0].dtype == "torch.float16"


INITIALISATIONS: dict[str, Callable[[Tensor], object]] = {
    "orthogonal_": nn.init.orthogonal_,
    "trunc_normal_": nn.init.trunc_normal_,
    "xavier_uniform_": nn.init.xavier_uniform_,
    "kaiming_normal_": nn.init.kaiming_normal_,
    "sparse_": lambda w: nn.init.sparse_(w, 0.5),
    "eye_": nn.init.eye_,
    "constant_": lambda w: nn.init.constant_(w, 2.0),
    "data.normal_": lambda w: w.data.normal_(0, 0.02),
    "data.zero_": lambda w: w.data.zero_(),
    "data[0]": lambda w: w.data[0].fill_(1.0),
    "data = real": lambda w: setattr(w, "data", torch.randn(4, 6)),
    "data = own": lambda w: setattr(w, "data", w.data * 2),
    "copy_": lambda w: w.detach().copy_(torch.eye(4, 6)),
    "out=": lambda w: torch.add(w.detach(), 1, out=torch.zeros(4, 6)),
}


@pytest.mark.parametrize("initialise", INITIALISATIONS.values(), ids=INITIALISATIONS)
def test_initialisation(initialise: Callable[[Tensor], object]) -> None:
    def build() -> nn.Module:
        linear = nn.Linear(6, 4)
        initialise(linear.weight)
        return linear

    module = build_weightless(build)
    assert all(map(shape_only, module.parameters()))
    assert module.weight.shape == (4, 6)
    assert trace(module, torch.ones(2, 6)).total.matrix_flops == 2 * 2 * 6 * 4


def test_a_build_may_transpose_its_weights_and_run_itself() -> None:
    class Measured(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3)
            self.norm = nn.BatchNorm2d(5)
            width = self.norm(self.conv(torch.zeros(2, 3, 8, 8))).flatten(1).shape[1]
            self.head = nn.Linear(width, 2)
            self.turned = nn.Parameter(torch.zeros(2, 7))
            self.turned.data.t_()

    module = build_weightless(Measured)
    assert module.head.in_features == 5 * 6 * 6


def test_modules_of_two_builds_run_together() -> None:
    first, second = build_weightless(lambda: nn.Linear(4, 8)), build_weightless(lambda: nn.Linear(8, 2))
    before = [first.weight, second.weight]
    graph = trace(nn.Sequential(first, second), torch.ones(3, 4))
    assert graph.total.matrix_flops == 2 * 3 * (4 * 8 + 8 * 2)
    assert first.weight is before[0] and second.weight is before[1]


def test_a_module_on_the_meta_device_is_traced_with_its_buffers() -> None:
    with torch.device("meta"):
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    graph = trace(module, torch.ones(1, 3, 8, 8))
    assert graph.output_metadata["1"][0].tensors[0].shape == (1, 4, 6, 6)
    assert all(tensor.is_meta and not shape_only(tensor) for tensor in module.state_dict(keep_vars=True).values())


def test_a_module_with_buffers_only_runs_in_the_mode_of_its_build() -> None:
    def build() -> nn.Module:
        module = nn.Linear(4, 4, bias=False)
        weight = module.weight
        del module.weight
        module.register_buffer("weight", weight.detach() * 2)
        return module

    assert trace(build_weightless(build), torch.ones(1, 4)).total.matrix_flops == 32


def test_lazy_modules_stay_lazy_in_a_build() -> None:
    module = build_weightless(lambda: nn.Sequential(nn.LazyLinear(3), nn.ReLU()))
    assert nn.parameter.is_lazy(module[0].weight)


def test_lazy_modules_take_their_shape_in_the_trace() -> None:
    graph = trace(nn.Sequential(nn.LazyLinear(3), nn.ReLU()), torch.ones(2, 5))
    assert graph.total.matrix_flops == 2 * 2 * 5 * 3
