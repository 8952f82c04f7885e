"""Forward and backward: FLOPs as torch counts them in a real run, module by module by hand, and memory as allocated."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig

from flop_counter import counting
from modelmeter import CallGraph, TraceOptions, build_weightless, trace
from modelmeter.callgraph.difference import difference
from modelmeter.callgraph.filters import only_stage
from modelmeter.callgraph.folding import fold
from modelmeter.callgraph.memory import memory_by_stage
from modelmeter.errors import TracingError, UsageError
from modelmeter.tracing.backends import HooksBackend
from own_models import Gan, Recurrent, ResNet, SharedTransformer, UNet, parametrized
from test_own_modules import assert_unchanged, ids, state
from test_weightless_equals_real import assert_same_documents, differences, document

ROOT = Path(__file__).parent.parent
TRAINING = TraceOptions(training=True)

MODELS: dict[str, Callable[[], tuple[nn.Module, tuple[Any, ...]]]] = {
    "cnn": lambda: (ResNet(), (torch.randn(2, 3, 32, 32),)),
    "gan": lambda: (Gan(), (torch.randn(3, 16, 1, 1),)),
    "unet": lambda: (UNet(), (torch.randn(2, 3, 8, 8), torch.tensor([3, 7]))),
    "shared": lambda: (SharedTransformer(), (ids(2, 6),)),
    "checkpointed": lambda: (SharedTransformer(reentrant=False), (ids(2, 6),)),
    "checkpointed, reentrant": lambda: (SharedTransformer(reentrant=True), (ids(2, 6),)),
    "weight_norm": lambda: (parametrized("weight_norm"), (torch.randn(3, 8),)),
    "spectral_norm": lambda: (parametrized("spectral_norm"), (torch.randn(3, 8),)),
}


def real_flops(module: nn.Module, *inputs: Any) -> int:
    """What FlopCounterMode counts in a forward and a backward of a copy."""
    module = copy.deepcopy(module)
    with counting() as counter:
        output = module(*inputs)
        output.backward(torch.ones_like(output))
    return counter.get_total_flops()


@pytest.mark.parametrize("name", MODELS)
def test_flops_are_those_of_a_real_forward_and_backward(name: str) -> None:
    module, inputs = MODELS[name]()
    before = state(module)
    graph = trace(module, *inputs, training=True)
    assert_unchanged(before, state(module))
    assert graph.total.matrix_flops == real_flops(module, *inputs)
    assert [forward.name for forward in graph.forwards] == ["forward", "backward"]
    assert not graph.unknown_operators
    assert_adds_up(graph)


def assert_adds_up(graph: CallGraph) -> None:
    """Modules' own work is all work, and totals are sums over the calls below."""
    for key in ("matrix_flops", "vector_flops", "bytes_read", "bytes_written", "launches"):
        own = sum(getattr(cost.own, key) for cost in graph.costs.values())
        assert own == sum(getattr(cost, key) for cost in graph.stages.values()) == getattr(graph.total, key)
        assert getattr(graph.costs[graph.root].total, key) == own
        for forward in graph.forwards:
            at_root = getattr(forward.costs[graph.root].total, key)
            assert at_root == sum(getattr(cost.own, key) for cost in forward.costs.values())
    assert graph.stages["backward"].matrix_flops == graph.forwards[1].costs[graph.root].total.matrix_flops


@pytest.mark.parametrize("name", [name for name in MODELS if name != "spectral_norm"])
def test_without_weights_as_with_them(name: str) -> None:
    module, inputs = MODELS[name]()
    before = state(module)
    real = trace(module, *inputs, options=TraceOptions(weightless=False, training=True))
    assert_unchanged(before, state(module))
    assert differences(document(real), document(trace(module, *inputs, training=True)))[:8] == []


def test_a_linear_layer_multiplies_twice_in_its_backward_and_the_first_once() -> None:
    module = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3))
    graph = trace(module, torch.randn(4, 6), training=True)
    first, last = 2 * 4 * 6 * 10, 2 * 4 * 10 * 3
    forward, backward = graph.forwards
    assert (forward.costs["0"].own.matrix_flops, forward.costs["2"].own.matrix_flops) == (first, last)
    assert (backward.costs["0"].own.matrix_flops, backward.costs["2"].own.matrix_flops) == (first, 2 * last)
    x = torch.randn(4, 6, requires_grad=True)
    asked = trace(module, x, training=True).forwards[1]
    assert asked.costs["0"].own.matrix_flops == 2 * first and x.grad is None
    module[0].requires_grad_(False)
    frozen = trace(module, torch.randn(4, 6), training=True).forwards[1]
    assert "0" not in frozen.costs and "1" not in frozen.costs
    assert frozen.costs["2"].own.matrix_flops == last


CONVOLUTIONS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "1d": (nn.Conv1d(4, 6, 3), (2, 4, 11)),
    "2d": (nn.Conv2d(4, 6, (3, 2), stride=2, padding=1), (2, 4, 9, 8)),
    "dilated": (nn.Conv2d(4, 6, 3, dilation=2), (2, 4, 9, 9)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1), (2, 4, 5, 5)),
    "groups": (nn.Conv2d(4, 8, 3, groups=2), (2, 4, 9, 9)),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4), (2, 4, 9, 9)),
    "transposed groups": (nn.ConvTranspose2d(4, 6, 3, groups=2), (2, 4, 5, 5)),
}


@pytest.mark.parametrize("gradient", [False, True], ids=["pictures", "activations"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_s_gradients_are_each_as_much_as_its_forward(name: str, gradient: bool) -> None:
    module, shape = CONVOLUTIONS[name]
    x = torch.randn(shape, requires_grad=gradient)
    forward, backward = trace(module, x, training=True).forwards
    root = type(module).__name__
    once = forward.costs[root].own.matrix_flops
    assert backward.costs[root].own.matrix_flops == (2 if gradient else 1) * once
    if "groups" not in name and name != "depthwise":  # torch does not divide the weight's gradient by the groups
        assert 3 * once if gradient else 2 * once == real_flops(module, x)
    assert backward.costs[root].own.vector_flops == module(x).numel(), "the bias's gradient is a sum"


@pytest.mark.parametrize(("heads", "groups", "v_size"), [(4, 4, 8), (4, 2, 8), (4, 4, 6)])
def test_attention_s_backward_is_five_products(heads: int, groups: int, v_size: int) -> None:
    class Attention(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v, enable_gqa=groups != heads)

    q, k = torch.randn(2, heads, 5, 8, requires_grad=True), torch.randn(2, groups, 7, 8, requires_grad=True)
    v = torch.randn(2, groups, 7, v_size, requires_grad=True)
    forward, backward = trace(Attention(), q, k, v, training=True).forwards
    fused = any("flash" in name for name in trace(Attention(), q, k, v, training=True).operators["Attention"])
    scores, mixed = 2 * 2 * heads * 5 * 7 * 8, 2 * 2 * heads * 5 * 7 * v_size
    assert forward.costs["Attention"].own.matrix_flops == scores + mixed
    # Written out, the scores are kept and not computed once more.
    again = scores if fused else 0
    assert backward.costs["Attention"].own.matrix_flops == again + 2 * (scores + mixed)
    assert forward.costs["Attention"].own.matrix_flops * 2 + again == real_flops_of(Attention(), q, k, v) - (
        scores + mixed
    )


def real_flops_of(module: nn.Module, *inputs: Tensor) -> int:
    with counting() as counter:
        output = module(*inputs)
        output.backward(torch.ones_like(output))
    return counter.get_total_flops()


@pytest.mark.parametrize(("cell", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_networks_by_hand(cell: type[nn.RNNBase], gates: int) -> None:
    module = Recurrent(cell)
    before = state(module)
    forward, backward = trace(module, ids(2, 7), training=True).forwards
    assert_unchanged(before, state(module))
    recurrence = forward.costs["rnn"].total.matrix_flops
    assert recurrence == 2 * 2 * 7 * 2 * gates * 16 * (12 + 16 + 32 + 16)
    # A state before the first step needs no gradient, where the steps are written out one by one.
    spared = 0 if cell is nn.LSTM else 2 * 2 * 2 * 2 * gates * 16 * 16
    assert backward.costs["rnn"].total.matrix_flops == 2 * recurrence - spared
    assert backward.costs["head"].total.matrix_flops == 2 * forward.costs["head"].total.matrix_flops


def test_a_checkpointed_layer_runs_again_and_belongs_to_its_caller_s_backward() -> None:
    plain = trace(SharedTransformer(), ids(2, 6), training=True)
    for reentrant in (False, True):
        graph = trace(SharedTransformer(reentrant=reentrant), ids(2, 6), training=True)
        forward, backward = graph.forwards
        assert forward.call_counts["layer"] == 3 == backward.call_counts["layer"]
        assert backward.edges["SharedTransformer->layer"] == 3
        once = forward.costs["layer"].total.matrix_flops
        more = backward.costs["layer"].total.matrix_flops - plain.forwards[1].costs["layer"].total.matrix_flops
        # The forward once more; but what is not reentrant stops where nothing more has to be kept.
        spared = 0 if reentrant else forward.costs["layer.down"].total.matrix_flops
        assert more == once - spared
        assert backward.costs["SharedTransformer"].total.matrix_flops == graph.stages["backward"].matrix_flops
        assert peak(graph) < peak(plain)


def peak(graph: CallGraph) -> int:
    assert graph.total.peak_bytes is not None
    return graph.total.peak_bytes


# -- memory ----------------------------------------------------------------------------------------------


class Mlp(nn.Module):
    """Two layers with a residual: the hidden activation is kept for the backward."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.out = nn.Linear(64, 256), nn.Linear(256, 64), nn.Linear(64, 8)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = x + self.down(F.gelu(self.up(x)))
        return self.out(x)


class Normed(nn.Module):
    """Norm, attention and embedding, with gradients that several calls add up."""

    def __init__(self) -> None:
        super().__init__()
        self.model = SharedTransformer(width=32, times=2, vocabulary=50)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model(tokens)


def allocated_peak(module: nn.Module, x: Tensor) -> int:
    """Largest sum of bytes that torch's CPU allocator held during forward and backward, from its profiler."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
        output = module(x)
        output.backward(torch.ones_like(output))
    live = most = 0
    events = [event for event in measured.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    return most


@pytest.mark.parametrize(
    ("module", "x"), [(Mlp(), torch.randn(128, 64)), (Normed(), ids(2, 16))], ids=["mlp", "transformer"]
)
def test_peak_equals_what_torch_allocates(module: nn.Module, x: Tensor) -> None:
    output = module(x)  # the first run allocates scratch memory that stays
    output.backward(torch.ones_like(output))
    del output
    for weightless in (True, False):
        ours = peak(trace(module, x, options=TraceOptions(training=True, weightless=weightless)))
        module.zero_grad()
        # The profiler sees what is allocated; the input was there before.
        assert allocated_peak(module, x) == ours - x.numel() * x.element_size()
        module.zero_grad()


def test_gradients_and_saved_activations_make_the_peak() -> None:
    graph = trace(Mlp(), torch.randn(128, 64), training=True)
    assert graph.peak is not None and graph.peak.forward == "backward"
    made: dict[str, int] = defaultdict(int)
    for tensor in graph.peak.tensors:
        made[tensor.module] += tensor.bytes
    assert sum(made.values()) == graph.peak.bytes == peak(graph)
    forward = trace(Mlp(), torch.randn(128, 64))
    assert peak(graph) > 2 * peak(forward)
    assert graph.memory_timeline is not None and "backward" in graph.memory_timeline.stages


# -- what training is asked for ---------------------------------------------------------------------------


class Classifies(nn.Module):
    """Gives its loss with its logits, as transformers' models do."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor, labels: Tensor | None = None, training: bool = False) -> dict[str, Any]:
        logits = self.fc(x)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits, "training": training}


def test_the_output_s_own_loss_is_where_the_backward_begins() -> None:
    module, x, labels = Classifies(), torch.randn(4, 8), torch.tensor([0, 1, 2, 3])
    with_loss = trace(module, x, labels, options=TRAINING)
    assert "aten.nll_loss_backward" in with_loss.operators["Classifies"]
    assert "aten.nll_loss_backward" not in trace(module, x, options=TRAINING).operators.get("Classifies", {})
    assert_same_documents(module, x, labels)


def test_a_forward_s_own_argument_named_training_stays_its_own() -> None:
    graph = trace(Classifies(), torch.randn(4, 8), training=True)
    assert [forward.name for forward in graph.forwards] == ["forward"]
    assert ("training", "bool") in {
        (argument.argument, argument.type) for argument in graph.input_metadata["Classifies"][0].non_tensor
    }


def test_a_loss_of_the_user_s() -> None:
    options = TraceOptions(training=True, loss=lambda output: output["logits"][:, :2].square().mean())
    graph = trace(Classifies(), torch.randn(4, 8), options=options)
    assert graph.forwards[1].costs["fc"].own.matrix_flops == 2 * 4 * 8 * 5
    assert set(graph.operators) == {"fc"}, "what a loss computes outside of the module is not the module's"
    with pytest.raises(UsageError, match=r"^the loss is a tensor of \(4, 5\); return one number"):
        trace(Classifies(), torch.randn(4, 8), options=TraceOptions(training=True, loss=lambda out: out["logits"]))
    with pytest.raises(UsageError, match=r"^the loss is float; return one number"):
        trace(Classifies(), torch.randn(4, 8), options=TraceOptions(training=True, loss=lambda _: 1.0))
    with pytest.raises(UsageError, match=r"^a loss is for a backward only; set training=True"):
        TraceOptions(loss=lambda out: out)


def test_modes_and_gradients_are_what_they_were() -> None:
    module = ResNet().eval()
    module.layers[0].train()
    module.fc.weight.grad = torch.ones_like(module.fc.weight)
    before = state(module)
    assert "aten.native_batch_norm" in trace(module, torch.randn(2, 3, 32, 32), training=True).operators["bn1"]
    assert_unchanged(before, state(module))
    module.train()
    module.bn1.eval()
    graph = trace(module, torch.randn(2, 3, 32, 32), training=True)
    assert module.training and not module.bn1.training
    assert graph.assumptions == trace(module, torch.randn(2, 3, 32, 32), training=True).assumptions


def test_a_model_of_any_size_is_trained_without_weights() -> None:
    module = build_weightless(lambda: SharedTransformer(width=8192, times=2, vocabulary=200_000))
    graph = trace(module, ids(1, 128), training=True)
    forward, backward = graph.forwards
    assert forward.costs["head"].total.matrix_flops == 2 * 128 * 8192 * 200_000
    assert backward.costs["head"].total.matrix_flops == 2 * forward.costs["head"].total.matrix_flops
    table = 8192 * 200_000 * 4
    assert peak(graph) > 2 * table, "the gradients of a shared table, before they are added"
    assert all(parameter.grad is None for parameter in module.parameters())


class Fails(nn.Module):
    """A backward that raises."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        y.register_hook(self.fail)
        return y * 2

    def fail(self, _: Tensor) -> None:
        raise ValueError("no gradient here")


def test_errors_are_one_line_and_leave_nothing() -> None:
    module = Fails()
    before = state(module)
    with pytest.raises(TracingError, match=r"^the backward raised ValueError: no gradient here; "):
        trace(module, torch.ones(1, 2), training=True)
    assert_unchanged(before, state(module))
    module.requires_grad_(False)
    with pytest.raises(UsageError, match=r"^no output of the module has a gradient; check that parameters require"):
        trace(nn.Sequential(nn.Linear(2, 2).requires_grad_(False)), torch.ones(1, 2), training=True)
    with pytest.raises(UsageError, match=r"^a backward is recorded by the native back end only"):
        trace(nn.Linear(2, 2), torch.ones(1, 2), options=TraceOptions(training=True, backend=HooksBackend()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast(dtype: torch.dtype) -> None:
    module, x = SharedTransformer(), ids(2, 6)
    with torch.autocast("cpu", dtype=dtype):
        graph = trace(module, x, training=True)
        real = trace(module, x, options=TraceOptions(training=True, weightless=False))
    assert differences(document(real), document(graph))[:8] == []
    assert graph.total.matrix_flops == real_flops(module, x)
    assert set(graph.total.matrix_flops_by_dtype) == {str(dtype)}


def test_a_training_document_is_loaded_as_it_was_written(tmp_path: Path) -> None:
    graph = trace(ResNet(), torch.randn(2, 3, 32, 32), training=True)
    path = graph.save(tmp_path / "callgraph.json")
    assert differences(document(CallGraph.load(path)), document(graph)) == []
    assert "backward" not in trace(ResNet(), torch.randn(2, 3, 32, 32)).stages


def build_small() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """What the command traces below."""
    return ResNet(), (torch.randn(2, 3, 32, 32),)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modelmeter", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)


def test_the_command_trains_a_function_s_module_and_a_configuration_s(tmp_path: Path) -> None:
    done = run("trace", "test_training:build_small", "--training", "--depth", "1", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if "FLOP " in line] == ["prefill", "backward", "total"]
    graph = CallGraph.load(tmp_path / "callgraph.json")
    assert graph.total.matrix_flops == real_flops(*build_small()[:1], *build_small()[1])
    config = LlamaConfig(
        num_hidden_layers=2, hidden_size=32, intermediate_size=64, num_attention_heads=4, vocab_size=50
    )
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(tmp_path / "llama")
    done = run("trace", str(tmp_path / "llama"), "--input-ids", "2x6", "--training", "--json")
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]
    assert stages["backward"]["matrix_flops"] > 1.9 * stages["prefill"]["matrix_flops"]


def test_the_command_refuses_what_has_no_backward(tmp_path: Path) -> None:
    small = ("trace", str(ROOT / "examples" / "small"), "--grid", "1x1", "--base-size", "128", "--training")
    steps = run(*small, "--decode-steps", "1")
    assert steps.returncode == 2 and steps.stderr.startswith("modelmeter: a run of several forwards has no backward; ")
    hooks = run(*small, "--backend", "hooks")
    assert hooks.returncode == 2 and "--backend hooks takes no --training" in hooks.stderr
    path = trace(ResNet(), torch.randn(2, 3, 32, 32), options=TRAINING).save(tmp_path / "callgraph.json")
    report = run("analyze", str(path))
    assert report.returncode == 6 and "is of a training run, and a report is of inference" in report.stderr


def test_views_of_a_training_document() -> None:
    module, x = ResNet(), torch.randn(2, 3, 32, 32)
    plain, graph = trace(module, x), trace(module, x, training=True)
    assert (
        only_stage(graph, "prefill", lambda _: None).costs["fc"].own.matrix_flops == plain.costs["fc"].own.matrix_flops
    )
    assert [name for name, *_ in memory_by_stage(graph)] == ["prefill", "backward"]
    assert "stage backward matrix_flops" in {change.kind for change in difference(plain, graph)}
    assert fold(graph).families["layers.[0,1]"].cost.total.matrix_flops == graph.costs["layers"].total.matrix_flops
