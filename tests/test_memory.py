"""Memory along the graph, and its peak against what torch really allocates."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from modelmeter import CallGraph, Page, Scenario, TraceOptions, trace
from modelmeter.callgraph.folding import fold
from modelmeter.callgraph.memory import live_at_peak, matching, memory_by_family, memory_by_stage, memory_use
from modelmeter.errors import UnknownNameError
from small import SMALL_SIZES, small_config


@pytest.fixture(scope="module")
def graph() -> CallGraph:
    scenario = Scenario(pages=(Page(grid=(2, 1)),), decode_steps=2, **SMALL_SIZES)
    return trace("deepseek-ocr", scenario, config=small_config())


class Convolutions(nn.Module):
    """Two branches whose results are live together, then a wide layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, padding=1)
        self.b = nn.Conv2d(3, 16, 1)
        self.wide = nn.Linear(16, 512)

    def forward(self, x: Tensor) -> Tensor:
        both = F.relu(self.a(x)) + self.b(x)
        return self.wide(both.mean(dim=(2, 3))).softmax(-1)


class Mlp(nn.Module):
    """A residual MLP: the hidden activation and its gate are live at once."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.gate, self.down = nn.Linear(64, 512), nn.Linear(64, 512), nn.Linear(512, 64)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = x + self.down(F.silu(self.gate(x)) * self.up(x))
        return x


def allocated_peak(module: nn.Module, inputs: Tensor) -> int:
    """Largest sum of bytes that torch's CPU allocator held during a forward, from its profiler."""
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
        module(inputs)
    live = peak = 0
    events = [e for e in measured.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


@pytest.mark.parametrize(
    ("module", "inputs", "scratch_bytes"),
    # oneDNN takes scratch memory within a convolution on some CPUs, one page of it here.
    [(Convolutions(), torch.randn(2, 3, 32, 32), 4096), (Mlp(), torch.randn(128, 64), 0)],
    ids=["convolutions", "mlp"],
)
def test_peak_equals_what_torch_allocates(module: nn.Module, inputs: Tensor, scratch_bytes: int) -> None:
    module.eval()
    with torch.no_grad():
        module(inputs)  # the first call allocates scratch memory that stays
    for weightless in (True, False):
        ours = trace(module, inputs, options=TraceOptions(weightless=weightless)).total.peak_bytes
        assert ours is not None
        # The profiler sees what the forward allocates; the input was there before.
        beyond = allocated_peak(module, inputs) - (ours - inputs.numel() * 4)
        assert 0 <= beyond <= scratch_bytes


def test_what_is_live_at_the_peak_adds_up_to_it(graph: CallGraph) -> None:
    assert graph.peak is not None
    assert graph.peak.bytes == graph.total.peak_bytes
    assert sum(tensor.bytes for tensor in graph.peak.tensors) == graph.peak.bytes
    assert sum(tensor.bytes for tensor in live_at_peak(graph)) == graph.peak.bytes
    assert max(cost.total.peak_bytes or 0 for cost in graph.costs.values()) == graph.peak.bytes
    assert graph.peak.module in graph.call_counts


def test_families_add_up_to_the_model(graph: CallGraph) -> None:
    folded = fold(graph)
    whole = memory_use(graph, [graph.root], graph.root)
    own = sum(family.cost.own.output_bytes for family in folded.families.values())
    assert whole.activation_bytes == own == sum(cost.output_bytes for cost in graph.stages.values())
    assert whole.weight_bytes == graph.model["parameter_bytes"]
    assert whole.kv_cache_bytes == sum(sizes[-1] for sizes in graph.kv_cache.values()) > 0
    assert whole.peak_bytes == graph.total.peak_bytes
    rows = memory_by_family(folded)
    assert rows[0].pattern == graph.root
    assert len(rows) == len(folded.families)
    assert sum(size for _, size, _ in memory_by_stage(graph)) == whole.activation_bytes


def test_a_pattern_answers_for_its_modules_and_what_is_below(graph: CallGraph) -> None:
    names = matching(graph, "sam_model.blocks.[0-2].attn")
    assert names == [f"sam_model.blocks.{index}.attn" for index in range(3)]
    use = memory_use(graph, names, "sam_model.blocks.[0-2].attn")
    below = [name for name in graph.costs if ".attn" in name and name.startswith("sam_model.blocks.")]
    assert use.activation_bytes == sum(graph.costs[name].own.output_bytes for name in below)
    assert use.calls == 6
    assert matching(graph, "layers.*.mlp") == [f"layers.{index}.mlp" for index in range(3)]
    assert matching(graph, "norm + lm_head") == ["norm", "lm_head"]


def test_an_unknown_pattern_offers_the_nearest_module(graph: CallGraph) -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'sam_model\.neck'"):
        matching(graph, "sam_model.nek")


def test_the_command_prints_tables_and_json(graph: CallGraph, tmp_path: Path) -> None:
    path = graph.save(tmp_path / "callgraph.json")
    shown = run("memory", str(path), "--depth", "2")
    assert shown.returncode == 0, shown.stderr
    assert max(map(len, shown.stdout.splitlines())) <= 100
    assert "Peak " in shown.stdout
    answer = json.loads(run("memory", str(path), "layers.[1,2].mlp", "--json").stdout)
    assert answer["modules"][0]["modules"] == 2
    assert answer["peak"]["bytes"] == graph.total.peak_bytes
    missing = run("memory", str(path), "nothing.like.it")
    assert missing.returncode == 2
    assert missing.stderr.startswith("modelmeter: unknown module pattern")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modelmeter", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
