"""Modules as users have them: counted as a real run counts, call for call, and left as they were."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flop_counter import counting
from modelmeter import TraceOptions, trace
from own_models import Gan, Recurrent, ResNet, SharedTransformer, UNet, parametrized
from test_weightless_equals_real import assert_same_documents

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated.*")


def ids(*shape: int) -> Tensor:
    return torch.arange(torch.Size(shape).numel()).view(shape) % 30


MODELS: dict[str, Callable[[], tuple[nn.Module, tuple[Any, ...]]]] = {
    "cnn": lambda: (ResNet(), (torch.randn(2, 3, 32, 32),)),
    "gan": lambda: (Gan(), (torch.randn(3, 16, 1, 1),)),
    "unet": lambda: (UNet(), (torch.randn(2, 3, 8, 8), torch.tensor([3, 7]))),
    "shared": lambda: (SharedTransformer(), (ids(2, 6),)),
    "weight_norm": lambda: (parametrized("weight_norm"), (torch.randn(3, 8),)),
    "weight_norm by hooks": lambda: (parametrized("weight_norm by hooks"), (torch.randn(3, 8),)),
    "spectral_norm": lambda: (parametrized("spectral_norm"), (torch.randn(3, 8),)),
    "spectral_norm by hooks": lambda: (parametrized("spectral_norm by hooks"), (torch.randn(3, 8),)),
}


@contextmanager
def calls_of(module: nn.Module) -> Iterator[Counter[str]]:
    """How often every module is called, by hooks."""
    counted: Counter[str] = Counter()
    root = type(module).__name__
    handles = [
        submodule.register_forward_pre_hook(lambda _, __, name=name: counted.update([name or root]))
        for name, submodule in module.named_modules()
    ]
    yield counted
    for handle in handles:
        handle.remove()


def state(module: nn.Module) -> dict[str, Any]:
    """All that hangs on a module: attributes by identity, values of tensors, gradients, modes."""
    found: dict[str, Any] = {}
    for name, submodule in module.named_modules(remove_duplicate=False):
        for key, value in vars(submodule).items():
            found[f"{name}/{key}"] = dict(value) if isinstance(value, dict) else value
        found[f"{name}/class"] = type(submodule)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        found[f"{name}/values"] = tensor.detach().clone()
        found[f"{name}/gradient"] = tensor.grad
    return found


def assert_unchanged(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert list(before) == list(after)
    for name, value in before.items():
        if name.endswith("/values"):
            assert torch.equal(value, after[name]), name
        elif isinstance(value, dict):
            assert list(value) == list(after[name]) and all(value[key] is after[name][key] for key in value), name
        else:
            assert value is after[name] or value == after[name], name


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training mode"])
@pytest.mark.parametrize("name", MODELS)
def test_flops_and_calls_are_a_real_run_s(name: str, training: bool) -> None:
    module, inputs = MODELS[name]()
    module.train(training)
    before = state(module)
    graph = trace(module, *inputs)
    assert_unchanged(before, state(module))
    real = copy.deepcopy(module) if "hooks" not in name else module
    with calls_of(real) as calls, counting() as counter, torch.no_grad():
        real(*inputs)
    counted = Counter({key: value for key, value in graph.call_counts.items() if ".parametrizations." not in key})
    assert counted == Counter({key: value for key, value in calls.items() if ".parametrizations." not in key})
    assert graph.total.matrix_flops == counter.get_total_flops() > 0
    assert graph.parameter_count == sum(parameter.numel() for parameter in module.parameters())
    assert not graph.unknown_operators


@pytest.mark.parametrize("name", [name for name in MODELS if "spectral" not in name])
def test_without_weights_as_with_them(name: str) -> None:
    module, inputs = MODELS[name]()
    assert_same_documents(module.eval(), *inputs)


@pytest.mark.parametrize(("cell", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_networks_by_hand(cell: type[nn.RNNBase], gates: int) -> None:
    # FlopCounterMode counts an LSTM's products as none.
    steps, directions, first, second = 2 * 7, 2, 12 + 16, 32 + 16
    recurrence = 2 * steps * directions * gates * 16 * (first + second)
    module = Recurrent(cell).eval()
    graph = trace(module, ids(2, 7))
    assert graph.costs["rnn"].total.matrix_flops == recurrence
    assert graph.total.matrix_flops == recurrence + 2 * steps * 32 * 40
    assert graph.call_counts == {"Recurrent": 1, "embed": 1, "rnn": 1, "head": 1}
    assert not graph.unknown_operators


def test_orthogonal_weights_are_a_lower_bound_that_says_so() -> None:
    module = parametrized("orthogonal")
    before = state(module)
    graph = trace(module, torch.randn(3, 8))
    assert_unchanged(before, state(module))
    assert graph.is_lower_bound and set(graph.unknown_operators) == {"aten.linalg_householder_product"}
    with counting() as counter, torch.no_grad():
        module(torch.randn(3, 8))
    assert graph.total.matrix_flops == counter.get_total_flops()


def test_what_is_shared_counts_once_as_a_weight_and_every_time_as_work() -> None:
    module = SharedTransformer(times=4)
    graph = trace(module, ids(1, 5))
    assert graph.call_counts["layer"] == 4 and graph.call_counts["layer.qkv"] == 4
    assert graph.parameters["head"].shared == {"weight": "embed.weight"}
    once = trace(SharedTransformer(times=1), ids(1, 5)).costs["layer"].total.matrix_flops
    assert graph.costs["layer"].total.matrix_flops == 4 * once


class Doubles(nn.Module):
    """A module with hooks of its own: one before, that projects its input, and one after, that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.seen = nn.Linear(6, 6), 0
        self.register_forward_pre_hook(lambda _, inputs: (inputs[0] @ torch.ones(8, 6),))
        self.linear.register_forward_hook(self.count)

    def count(self, *_: Any) -> None:
        self.seen += 1

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


@pytest.mark.parametrize("training", [False, True])
def test_hooks_of_its_own_are_called_and_kept_and_their_work_counts(training: bool) -> None:
    module = Doubles()
    graph = trace(module, torch.randn(4, 8), options=TraceOptions(training=training))
    assert module.seen == 1 and len(module._forward_pre_hooks) == 1 == len(module.linear._forward_hooks)
    forward = graph.forwards[0].costs
    assert forward["Doubles"].own.matrix_flops == 2 * 4 * 8 * 6
    assert forward["Doubles"].total.matrix_flops == 2 * 4 * 8 * 6 + 2 * 4 * 6 * 6
    assert graph.total.matrix_flops == sum(cost.own.matrix_flops for cost in graph.costs.values())


def test_autocast_around_a_trace_is_a_real_run_s() -> None:
    module, x = ResNet().eval(), torch.randn(2, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        graph = trace(module, x)
        again = trace(module, x, options=TraceOptions(weightless=False))
    assert set(graph.total.matrix_flops_by_dtype) == {"torch.bfloat16"}
    assert graph.operators == again.operators
    assert graph.total.matrix_flops == trace(module, x).total.matrix_flops
    plain = trace(module, x)
    assert set(plain.total.matrix_flops_by_dtype) == {"torch.float32"}
