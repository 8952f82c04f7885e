"""Code written for a GPU runs on a machine without one, and nothing of the pretence is left."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelmeter import build_weightless, trace
from modelmeter.errors import TracingError
from test_weightless import Body, shape_only, within


def test_moves_to_a_gpu_stay_on_the_cpu() -> None:
    def body(m: Any, x: Tensor) -> Any:
        if not torch.cuda.is_available():
            raise RuntimeError("this model needs a GPU")
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        with torch.device("cuda"):
            made = torch.ones(2)
        return [
            x.cuda(), (x @ m.weight).cuda(0), x.to("cuda"), x.to(device="cuda:0"), x.to(torch.device("cuda", 1)),
            x.to("cuda", torch.float16, True), x.to(0), torch.zeros(2, device="cuda"), torch.arange(3, device="cuda:1"),
            torch.zeros(1, device=0), x.new_zeros(2, device="cuda"), torch.empty(2, pin_memory=True), x.pin_memory(),
            made, torch.tensor([1], device="cuda"), torch.as_tensor([m.weight[0, 0]], device="cuda"),
        ]  # fmt: skip

    results, _ = within(body)
    assert {tensor.device.type for tensor in results} == {"cpu"}
    assert results[5].dtype == torch.float16
    assert [tensor.tolist() for tensor in results[-2:]] == [[1], [1.0]]


def test_modules_move_to_a_gpu_within_a_forward() -> None:
    def body(m: Any, x: Tensor) -> Any:
        inner = nn.Linear(4, 4)
        return inner.cuda()(x).device.type, inner.to("cuda:0", torch.bfloat16).weight.dtype

    assert within(body)[0] == ("cpu", torch.bfloat16)


@pytest.mark.parametrize(
    ("autocast", "dtype"),
    [
        (lambda: torch.autocast("cuda", dtype=torch.bfloat16), torch.bfloat16),
        (lambda: torch.autocast("cuda"), torch.float16),
        (lambda: torch.autocast(device_type="cuda", enabled=False), torch.float32),
        (lambda: torch.amp.autocast("cuda", torch.bfloat16), torch.bfloat16),
        (lambda: torch.cuda.amp.autocast(), torch.float16),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.cuda.amp.autocast:FutureWarning")
def test_cuda_autocast_casts(autocast: Callable[[], Any], dtype: torch.dtype) -> None:
    def body(m: Any, x: Tensor) -> Any:
        with autocast():
            return (x @ m.weight).dtype, (x @ x).dtype

    assert within(body)[0] == (dtype, dtype)


def test_a_library_that_asks_for_a_gpu_gets_the_truth() -> None:
    asked: dict[str, Any] = {"__name__": "transformers.utils.import_utils", "torch": torch}
    exec("def ask():\n    return torch.cuda.is_available()", asked)
    truth = torch.cuda.is_available()
    (library, own), _ = within(lambda m, x: (asked["ask"](), torch.cuda.is_available()))
    assert library is truth and own is True


def state_of_the_process() -> dict[str, Any]:
    autocast = torch.amp.autocast_mode.autocast
    names = ("is_available", "synchronize", "empty_cache", "set_device", "current_device", "device_count")
    return {
        **{name: getattr(torch.cuda, name) for name in names},
        "register_parameter": nn.Module.register_parameter,
        "autocast": autocast.__init__,
        "has_torch_function": torch.overrides.has_torch_function,
        "gc": gc.isenabled(),
        "grad": torch.is_grad_enabled(),
        "function modes": torch._C._len_torch_function_stack(),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "hooks": sys.gettrace(),
    }


def state_of(module: nn.Module) -> list[dict[str, Any]]:
    found = []
    for submodule in module.modules():
        plain = {key: value for key, value in vars(submodule).items() if not key.startswith("_")}
        found.append({**plain, **submodule._parameters, **submodule._buffers, "hooks": len(submodule._forward_hooks)})
    return found


def same(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> bool:
    return len(before) == len(after) and all(
        one.keys() == other.keys() and all(one[key] is other[key] for key in one)
        for one, other in zip(before, after, strict=True)
    )


class Interrupted(nn.Module):
    def __init__(self, error: type[BaseException] | None) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.linear.weight
        self.norm = nn.BatchNorm1d(4)
        self.recurrent = nn.LSTM(4, 4)
        self.error = error
        self.state: Any = None
        self.last = torch.zeros(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.tied(self.linear(x)))
        x, self.state = self.recurrent(x)
        self.last = x
        self.register_buffer("seen", x)
        if self.error is not None:
            raise self.error("on purpose")
        return x


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_behind(error: type[BaseException] | None) -> None:
    module = Interrupted(error).eval()
    before, process, dictionary = state_of(module), state_of_the_process(), module.state_dict(keep_vars=True)
    flat = list(module.recurrent._flat_weights)
    for _ in range(2):
        if error is None:
            trace(module, torch.ones(4, 4))
        else:
            with pytest.raises(TracingError if error is ValueError else error):
                trace(module, torch.ones(4, 4))
    assert same(before, state_of(module))
    assert process == state_of_the_process()
    after = module.state_dict(keep_vars=True)
    assert dictionary.keys() == after.keys() and all(dictionary[key] is after[key] for key in dictionary)
    assert all(one is other for one, other in zip(flat, module.recurrent._flat_weights, strict=True))
    assert module.linear.weight is module.tied.weight
    module.error = None
    assert not shape_only(module(torch.ones(4, 4))), "the module still runs for real"


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_as_it_was(enabled: bool) -> None:
    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        during, _ = within(lambda m, x: gc.isenabled())
        assert not during and gc.isenabled() is enabled
    finally:
        (gc.enable if was else gc.disable)()


def test_a_forward_that_an_instance_has_of_its_own_stays() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def own(x: Tensor) -> Tensor:
        return module[1](module[0](x)) * 2

    module.forward = own  # type: ignore[method-assign]
    graph = trace(module, torch.ones(2, 4))
    assert graph.edges == {"Sequential->0": 1, "Sequential->1": 1}
    assert vars(module)["forward"] is own and "forward" not in vars(module[0])


def test_the_error_names_the_innermost_module() -> None:
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("three is no size")

    module = nn.Sequential(nn.Linear(4, 4), nn.Sequential(Inner()))
    with pytest.raises(TracingError, match=r"module 1\.0 \(Inner\) raised ValueError: three is no size") as caught:
        trace(module, torch.ones(2, 4))
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_failed_build_leaves_nothing_behind() -> None:
    process = state_of_the_process()

    def build() -> nn.Module:
        nn.Linear(3, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_weightless(build)
    assert process == state_of_the_process()


def test_an_error_that_the_module_handles_itself_does_not_confuse_the_calls() -> None:
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fast, self.slow = Body(lambda m, x: x.reshape(1000)), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.fast(x)
            except RuntimeError:
                return self.slow(x) + 1

    graph = trace(Careful(), torch.ones(4, 4))
    assert graph.edges == {"Careful->fast": 1, "Careful->slow": 1}
    assert graph.operators["Careful"]["aten.add"].calls == 1
    assert graph.costs["Careful"].total.matrix_flops == 2 * 4 * 4 * 4
