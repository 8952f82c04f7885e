"""Modules within wrappers: compiled, spread over devices, scripted, sharded; and calls with other parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from modelmeter import CallGraph, build_weightless, record, trace
from modelmeter.errors import UsageError
from own_models import Layer, ResNet, SharedTransformer
from test_own_modules import assert_unchanged, ids, state


def compiled_within() -> nn.Module:
    module = ResNet().eval()
    module.layers[0] = torch.compile(module.layers[0], backend="eager")
    module.layers[1][0].compile(backend="eager")
    return module


def compiled_in_place() -> nn.Module:
    module = ResNet().eval()
    module.compile(backend="eager")
    return module


WRAPPED: dict[str, Callable[[], nn.Module]] = {
    "compiled": lambda: torch.compile(ResNet().eval(), backend="eager"),
    "compiled in place": compiled_in_place,
    "compiled within": compiled_within,
    "compiled twice": lambda: torch.compile(nn.DataParallel(torch.compile(ResNet().eval())), backend="eager"),
    "data parallel": lambda: nn.DataParallel(ResNet().eval()),
}


@pytest.mark.parametrize("run", [False, True], ids=["never run", "run before"])
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_a_wrapped_module_is_traced_as_it_is_written(wrap: Callable[[], nn.Module], run: bool) -> None:
    module, x = wrap(), torch.randn(2, 3, 32, 32)
    if run and not isinstance(module, nn.DataParallel) and wrap is not WRAPPED["compiled twice"]:
        with torch.no_grad():
            module(x)
    before = state(module)
    graph = trace(module, x)
    assert_unchanged(before, state(module))
    assert graph.to_json() == trace(ResNet().eval(), x).to_json()


def test_a_compiled_function_within_a_forward_is_followed() -> None:
    class Scores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = Layer(8, 2)
            self.compiled = torch.compile(lambda x: self.layer(x) @ x.transpose(1, 2), backend="eager")

        def forward(self, x: Tensor) -> Tensor:
            return self.compiled(x)

    module = Scores()
    graph = trace(module, torch.randn(2, 5, 8))
    assert graph.edges["Scores->layer"] == 1
    assert graph.costs["Scores"].own.matrix_flops == 2 * 2 * 5 * 8 * 5


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_distributed_data_parallel_is_the_module_within() -> None:
    module, x = ResNet(), torch.randn(2, 3, 32, 32)
    wrapped = nn.parallel.DistributedDataParallel(copy.deepcopy(module))
    assert trace(wrapped, x, training=True).to_json() == trace(module, x, training=True).to_json()
    with record(wrapped) as graph:
        wrapped(x).sum().backward()
    assert [forward.name for forward in graph.forwards] == ["forward 1", "backward 1"]
    assert graph.call_counts["ResNet"] == 1


@pytest.mark.usefixtures("one_process")
def test_sharded_parameters_are_refused() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    fully_shard(module, mesh=init_device_mesh("cpu", (1,)))
    with pytest.raises(UsageError, match=r"^0 \(Linear\) holds a part of its parameters.*before it is sharded$"):
        trace(module, torch.ones(1, 4))


@pytest.mark.parametrize("script", [torch.jit.script, lambda m: torch.jit.trace(m, torch.ones(1, 4))])
def test_a_script_module_is_refused(script: Callable[[nn.Module], nn.Module]) -> None:
    scripted = script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    with pytest.raises(UsageError, match=r"is a ScriptModule.*; trace the module that it was scripted from$"):
        trace(scripted, torch.ones(1, 4))
    with pytest.raises(UsageError, match=r"^1 \(.*\) is a ScriptModule"):
        with record(nn.Sequential(nn.ReLU(), scripted)):
            pass


@pytest.mark.parametrize("subject", [torch.relu, nn.Linear, len, 3.5, None])
def test_what_is_no_module_is_refused_in_one_line(subject: Any) -> None:
    with pytest.raises(UsageError, match=r"^cannot trace .*; give a torch\.nn\.Module with its inputs") as caught:
        trace(subject, torch.ones(1, 4))
    assert "\n" not in str(caught.value)


def parameters_of(kind: str, module: nn.Module) -> dict[str, Tensor]:
    if kind == "shape-only":
        return dict(build_weightless(SharedTransformer).named_parameters())
    return {name: p.to("meta") if kind == "meta" else torch.randn_like(p) for name, p in module.named_parameters()}


@pytest.mark.parametrize("kind", ["real", "meta", "shape-only"])
def test_a_functional_call_is_recorded_with_the_parameters_that_it_is_given(kind: str) -> None:
    module = SharedTransformer()
    expected = trace(module, ids(2, 6))
    before = state(module)
    tokens = ids(2, 6).to("meta") if kind == "meta" else ids(2, 6)
    with torch.no_grad(), record(module) as graph:
        functional_call(module, parameters_of(kind, module), (tokens,))
    assert_unchanged(before, state(module))
    assert graph.call_counts == expected.call_counts
    assert matrix_flops(graph) == matrix_flops(expected)  # on meta, attention is several products


def matrix_flops(graph: CallGraph) -> dict[str, int]:
    return {name: cost.own.matrix_flops for name, cost in graph.costs.items()}


def test_functional_calls_within_a_forward_under_vmap() -> None:
    class Ensemble(nn.Module):
        """Three linear layers as one, by torch.func."""

        def __init__(self) -> None:
            super().__init__()
            self.weights, self.one = nn.Parameter(torch.randn(3, 5, 4)), nn.Linear(4, 5, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return torch.vmap(lambda weight: functional_call(self.one, {"weight": weight}, (x,)))(self.weights)

    graph = trace(Ensemble(), torch.randn(2, 4))
    assert graph.total.matrix_flops == 3 * 2 * 2 * 4 * 5
    assert graph.output_metadata["Ensemble"][0].tensors[0].shape == (3, 2, 5)
    assert graph.call_counts == {"Ensemble": 1, "one": 1}
