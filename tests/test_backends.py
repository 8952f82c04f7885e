"""Four tracers, one document: they agree where they can know, and are silent where they cannot."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import modelmeter
from modelmeter.callgraph.times import times_of_forwards
from modelmeter.cli import run as command
from modelmeter.errors import MissingDependencyError, TracingError, UnknownNameError, UsageError
from modelmeter.families.registry import get_family
from modelmeter.schema.callgraph import CallGraph, Signature
from modelmeter.schema.scenario import Page, Scenario
from modelmeter.tracing import TraceOptions, trace_family
from modelmeter.tracing.backends import HooksBackend, ProfilerBackend, TorchLensBackend, make_backend
from modelmeter.tracing.backends.measured import MODULE
from modelmeter.tracing.backends.weights import build_for, check_fits, fill_random, free_bytes, parameter_bytes
from modelmeter.tracing.functions import trace_function
from modelmeter.tracing.hugging_face import trace_hugging_face
from small import SMALL_SIZES, small_config

ROOT = Path(__file__).parent.parent
OTHERS = ("hooks", "torchlens", "profiler")
SCENARIO = Scenario(pages=(Page(grid=(2, 1)),), decode_steps=1, dtype="float32", **SMALL_SIZES)

Shapes = dict[str, Counter[tuple[Any, ...]]]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small operations wait longer for threads than they take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def backend(name: str, **settings: Any) -> Any:
    if name == "torchlens":
        pytest.importorskip("torchlens")
    return make_backend(name, **settings)


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        pooled = self.features(x).mean(dim=(2, 3))
        return {"pooled": pooled, "scores": self.head(pooled)}


class Pair(nn.Module):
    def forward(self, x: Tensor, *, scale: Tensor) -> tuple[Tensor, Tensor]:
        return x * scale, scale


class Shared(nn.Module):
    """One block called under two names, with a branch that depends on data and a result nobody uses."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(6, 6), nn.GELU())
        self.again = self.block
        self.pair = Pair()
        self.unused = nn.LayerNorm(6)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        for _ in range(3):
            x, scale = self.pair(self.block(x), scale=scale)
        self.unused(torch.ones(2, 6))
        if x.sum() < 1e9:
            x = self.again(x)
        return x


MODELS: dict[str, tuple[type[nn.Module], tuple[Tensor, ...]]] = {
    "cnn": (Convolutions, (torch.ones(2, 3, 8, 8),)),
    "shared": (Shared, (torch.ones(2, 6), torch.ones(6))),
}


def plain(model: str, name: str) -> CallGraph:
    torch.manual_seed(0)
    kind, inputs = MODELS[model]
    other = backend(name) if name != "native" else None
    return modelmeter.trace(kind().eval(), *inputs, options=TraceOptions(weightless=False, backend=other))


@pytest.fixture(scope="module")
def ocr() -> nn.Module:
    family, config = get_family("deepseek-ocr"), small_config()
    return build_for(HooksBackend(), lambda: family.build(config, SCENARIO))


@pytest.fixture(scope="module")
def ocr_runs(ocr: nn.Module) -> dict[str, CallGraph]:
    family, config = get_family("deepseek-ocr"), small_config()
    found = {}
    for name in ("native", *OTHERS):
        if name == "torchlens":
            pytest.importorskip("torchlens")
        options = TraceOptions(weightless=False, backend=name, max_events=10**6)
        found[name] = trace_family(family, SCENARIO, config, module=ocr, options=options)
    return found


def shapes(metadata: dict[str, list[Signature]]) -> Shapes:
    """Shapes and dtypes of every module's calls, whatever they were passed as."""
    found: Shapes = {}
    for name, signatures in metadata.items():
        for signature in signatures:
            if signature.tensors:
                key = tuple(sorted((tensor.shape, tensor.dtype) for tensor in signature.tensors))
                found.setdefault(name, Counter())[key] += signature.calls
    return found


def assert_agree(graph: CallGraph, native: CallGraph) -> None:
    assert graph.call_counts == native.call_counts
    assert graph.edges == native.edges
    assert shapes(graph.input_metadata) == shapes(native.input_metadata)
    assert shapes(graph.output_metadata) == shapes(native.output_metadata)
    assert [forward.name for forward in graph.forwards] == [forward.name for forward in native.forwards]
    for mine, theirs in zip(graph.forwards, native.forwards, strict=True):
        assert (mine.call_counts, mine.edges) == (theirs.call_counts, theirs.edges)
        assert shapes(mine.input_metadata) == shapes(theirs.input_metadata)
    for key in ("module_types", "module_children", "module_stages", "parameters", "constructor_params"):
        assert getattr(graph, key) == getattr(native, key)


@pytest.mark.parametrize("name", OTHERS)
def test_all_agree_on_deepseek_ocr(name: str, ocr_runs: dict[str, CallGraph]) -> None:
    graph, native = ocr_runs[name], ocr_runs["native"]
    assert len(native.call_counts) > 150 and len(native.forwards) == 2
    assert_agree(graph, native)
    assert graph.events == native.events
    assert graph.runtime_events == native.runtime_events
    assert graph.output_metadata == native.output_metadata  # also what the outputs are called


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", OTHERS)
def test_all_agree_on_small_models(name: str, model: str) -> None:
    graph, native = plain(model, name), plain(model, "native")
    assert_agree(graph, native)
    assert graph.output_metadata == native.output_metadata
    named = {key: [s.tensors for s in signatures] for key, signatures in graph.input_metadata.items()}
    assert named == {key: [s.tensors for s in signatures] for key, signatures in native.input_metadata.items()}


def test_the_shared_block_is_counted_under_its_first_name() -> None:
    assert plain("shared", "native").call_counts["block"] == 4


@pytest.mark.parametrize("name", OTHERS)
def test_what_a_back_end_cannot_know_is_absent(name: str, ocr_runs: dict[str, CallGraph]) -> None:
    graph = ocr_runs[name]
    for key in ("costs", "stages", "operators", "op_call_counts", "data_edges", "unknown_operators", "assumptions"):
        assert not getattr(graph, key), key
    assert not any(forward.costs or forward.op_call_counts for forward in graph.forwards)
    assert "routing" not in graph.scenario and ocr_runs["native"].scenario["routing"] == "balanced"
    assert bool(graph.times) == (name == "profiler")
    assert (graph.kv_cache == ocr_runs["native"].kv_cache) == (name != "torchlens")
    assert bool(graph.kv_cache) == (name != "torchlens")
    assert graph.tool["backend"] == name
    assert json.loads(graph.to_json())["call_counts"] == graph.call_counts


# -- times -----------------------------------------------------------------------------------------------


def assert_adds_up(times: dict[str, Any], root: str) -> None:
    assert sum(entry["own_ms"] for entry in times.values()) == pytest.approx(times[root]["total_ms"], rel=1e-6)
    for name, entry in times.items():
        spent = sum(operator["own_ms"] for operator in entry["operators"].values())
        assert 0 <= spent <= entry["own_ms"] + 1e-3, name
        assert 0 < entry["own_ms"] <= entry["total_ms"] + 1e-6, name
        assert entry["total_ms"] == pytest.approx(sum(part["total_ms"] for part in entry["forwards"]), abs=1e-4)
    for part in times[root]["forwards"]:
        assert part["total_ms"] <= part["wall_ms"]


def test_times_add_up(ocr_runs: dict[str, CallGraph]) -> None:
    graph = ocr_runs["profiler"]
    assert set(graph.times) == set(graph.call_counts)
    assert {name: entry["calls"] for name, entry in graph.times.items()} == graph.call_counts
    assert_adds_up(graph.times, graph.root)
    linear = graph.times["lm_head"]["operators"]
    assert linear["aten.linear"]["calls"] == 2 and linear["aten.linear"]["own_ms"] > 0
    assert [part["name"] for part in graph.times[graph.root]["forwards"]] == ["prefill", "decode 1"]


def test_a_slow_module_is_where_the_time_is() -> None:
    class Slow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(300):
                x = x @ x / x.norm()
            return x

    model = nn.Sequential(nn.Linear(160, 160), Slow())
    graph = modelmeter.trace(model, torch.eye(160), options=TraceOptions(backend="profiler"))
    # 300 products beside one: other work on the machine may slow either, but not turn this round.
    assert graph.times["1"]["own_ms"] > 5 * graph.times["0"]["own_ms"]
    assert graph.times["1"]["operators"]["aten.mm"]["calls"] == 300
    assert graph.times["1"]["operators"]["aten.mm"]["own_ms"] > graph.times["0"]["total_ms"]


def test_a_module_within_itself_is_timed_once() -> None:
    class Nested(nn.Module):
        def forward(self, x: Tensor, depth: int = 2) -> Tensor:
            return self(x + 1, depth - 1) if depth else x @ x

    graph = modelmeter.trace(Nested(), torch.eye(32), options=TraceOptions(backend="profiler"))
    assert graph.call_counts == {"Nested": 3}
    assert_adds_up(graph.times, "Nested")


def test_of_repeated_runs_one_is_kept_whole(ocr: nn.Module) -> None:
    chosen = ProfilerBackend(repeats=3, run_on="cpu")
    graph = trace_family(
        get_family("deepseek-ocr"), SCENARIO, small_config(), module=ocr, options=TraceOptions(backend=chosen)
    )
    assert_adds_up(graph.times, graph.root)
    assert {name: entry["calls"] for name, entry in graph.times.items()} == graph.call_counts
    # The caches that the repeats wrote into were copies: the decode step saw one position more, not three.
    assert {tuple(sizes) for sizes in graph.kv_cache.values()} == {(7680, 8064)}


def test_tables_and_chrome_trace_say_the_same() -> None:
    chosen = ProfilerBackend(run_on="cpu")
    graph = modelmeter.trace(Convolutions(), torch.ones(2, 3, 8, 8), options=TraceOptions(backend=chosen))
    assert set(chosen.files) == {"chrome-trace.json", "operators.md", "operators.csv"}
    rows = list(csv.DictReader(io.StringIO(chosen.files["operators.csv"])))
    spent = [float(row["own_ms"]) for row in rows]
    assert spent == sorted(spent, reverse=True)
    assert {row["device_ms"] for row in rows} == {""}
    calls = Counter[str]()
    for entry in graph.times.values():
        calls.update({name: operator["calls"] for name, operator in entry["operators"].items()})
    assert {row["operator"]: int(row["calls"]) for row in rows} == calls
    lines = chosen.files["operators.md"].splitlines()
    assert len(lines) == len(rows) + 3 and lines[2].startswith(f"| {rows[0]['operator']} |")
    names = [event.get("name", "") for event in json.loads(chosen.files["chrome-trace.json"])["traceEvents"]]
    assert names.count(f"{MODULE}features.0") == 1 and "aten::linear" in names


def test_times_of_one_stage_are_those_of_its_forwards(ocr_runs: dict[str, CallGraph]) -> None:
    graph = ocr_runs["profiler"]
    decode = times_of_forwards(graph.times, ["decode 1"])
    assert set(decode) == set(graph.forwards[1].call_counts)
    assert decode[graph.root]["total_ms"] == graph.times[graph.root]["forwards"][1]["total_ms"]
    assert decode[graph.root]["operators"] == {}
    vision = times_of_forwards(graph.times, ["prefill"])["sam_model"]
    assert vision == graph.times["sam_model"]


# -- what stays behind -----------------------------------------------------------------------------------


def state(module: nn.Module) -> dict[str, Any]:
    """Everything that a tracer could have left on a module or its tensors."""
    found: dict[str, Any] = {}
    for name, submodule in module.named_modules():
        found[name] = {key: dict(value) if isinstance(value, dict) else value for key, value in vars(submodule).items()}
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        found[f"tensor {name}"] = dict(vars(tensor))
    found["torch"] = (torch.nn.functional.linear, torch.matmul, Tensor.__add__, nn.Module.__call__, nn.Linear.forward)
    return found


@pytest.mark.parametrize("name", OTHERS)
def test_nothing_is_left_behind(name: str) -> None:
    module = Shared().eval()
    before = state(module)
    modelmeter.trace(module, torch.ones(2, 6), torch.ones(6), options=TraceOptions(backend=backend(name)))
    assert state(module) == before


class Fails(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4))
        self.after = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.inner(x))


@pytest.mark.parametrize("name", OTHERS)
def test_an_exception_names_the_module_and_leaves_nothing_behind(name: str) -> None:
    module = Fails().eval()
    before = state(module)
    with pytest.raises(TracingError, match=r"module inner\.0 \(Linear\) raised RuntimeError"):
        modelmeter.trace(module, torch.ones(2, 5), options=TraceOptions(backend=backend(name)))
    assert state(module) == before
    graph = modelmeter.trace(module, torch.ones(2, 4), options=TraceOptions(backend=backend(name)))
    assert graph.call_counts == {"Fails": 1, "inner": 1, "inner.0": 1, "after": 1}


class Catches(Fails):
    def forward(self, x: Tensor) -> Tensor:
        try:
            self.inner(torch.cat((x, x), dim=1))
        except RuntimeError:
            x = self.after(x)
        return self.after(x)


@pytest.mark.parametrize("name", ["hooks", "profiler"])
def test_an_exception_that_the_model_catches_ends_its_calls(name: str) -> None:
    options = TraceOptions(backend=backend(name))
    graph = modelmeter.trace(Catches(), torch.ones(2, 4), options=options)
    assert graph.edges == {"Catches->inner": 1, "inner->inner.0": 1, "Catches->after": 2}


class Direct(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner.forward(x)


def test_hooks_do_not_see_what_is_entered_through_forward() -> None:
    seen = {
        name: modelmeter.trace(Direct(), torch.ones(2, 4), options=TraceOptions(backend=backend(name))).edges
        for name in OTHERS
    }
    assert seen["profiler"] == seen["torchlens"] == {"Direct->inner": 1, "inner->inner.0": 1}
    assert seen["hooks"] == {"Direct->inner.0": 1}


# -- weights ---------------------------------------------------------------------------------------------


def test_a_model_too_large_is_refused_before_it_is_built() -> None:
    built = []

    def build() -> nn.Module:
        module = nn.Linear(1000, 1000)
        built.append(not isinstance(module.weight, torch._subclasses.FakeTensor))
        return module

    with pytest.raises(UsageError, match=r"the weights take 4.*, and 1.* of memory are free; .*--backend native"):
        build_for(HooksBackend(), build, limit_bytes=1_000_000)
    assert built == [False]
    assert build_for(HooksBackend(), build, limit_bytes=4_004_000).weight.shape == (1000, 1000)
    assert built == [False, False, True]


def test_a_petabyte_is_refused_on_this_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    free = free_bytes()
    assert free is not None and 2**20 < free < 2**50
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "llama", "vocab_size": 2**28, "hidden_size": 2**16, "num_hidden_layers": 1})
    )
    assert command(["trace", str(tmp_path), "--input-ids", "1x2", "--backend", "hooks"]) == 2
    error = capsys.readouterr().err
    assert "of memory are free" in error and error.count("\n") == 1
    check_fits(2**60, None)  # a system that does not say


def test_random_weights_are_the_same_each_time() -> None:
    first, second = nn.TransformerEncoderLayer(8, 2), nn.TransformerEncoderLayer(8, 2)
    for module in (first, second):
        fill_random(module, 3)
    for mine, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert first.norm1.weight.mean().item() == pytest.approx(1, abs=0.05)
    assert first.linear1.weight.std().item() == pytest.approx(0.02, rel=0.2)
    tied = nn.Linear(4, 4)
    assert parameter_bytes(nn.Sequential(tied, tied)) == 80


def test_a_module_without_values_is_refused() -> None:
    with pytest.raises(UsageError, match="parameter weight has no values"):
        modelmeter.trace(nn.Linear(2, 2, device="meta"), torch.ones(2), options=TraceOptions(backend="hooks"))


# -- subjects and the command ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", OTHERS)
def test_functions_and_configurations_run_for_real(name: str) -> None:
    options = TraceOptions(backend=backend(name))
    made = trace_function(lambda: (Convolutions(), torch.ones(1, 3, 8, 8)), "made", options=options)
    assert made.call_counts["features.0"] == 1
    source = {"model_type": "llama", "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24}
    source |= {"num_hidden_layers": 2, "num_attention_heads": 2, "architectures": ["LlamaForCausalLM"]}
    scenario = Scenario(decode_steps=1, dtype="float32")
    graphs = [
        trace_hugging_face(source, scenario, batch=1, positions=5, name="small", options=chosen)
        for chosen in (options, TraceOptions())
    ]
    assert graphs[0].call_counts == graphs[1].call_counts and graphs[0].edges == graphs[1].edges
    assert shapes(graphs[0].output_metadata) == shapes(graphs[1].output_metadata)
    assert shapes(graphs[0].input_metadata) == shapes(graphs[1].input_metadata)


def test_names_and_settings_are_checked() -> None:
    assert make_backend("native") is None
    with pytest.raises(UnknownNameError, match="did you mean 'profiler'"):
        make_backend("profilr")
    with pytest.raises(UsageError, match="--repeats is 0"):
        ProfilerBackend(repeats=0)
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no CUDA device"):
            HooksBackend(run_on="cuda")


def test_torchlens_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchlens", None)  # as Python marks a package that cannot be imported
    with pytest.raises(MissingDependencyError, match=r"modelmeter\[torchlens\]"):
        TorchLensBackend()


def test_torchlens_draws() -> None:
    chosen = backend("torchlens", drawings=True)
    modelmeter.trace(Shared(), torch.ones(2, 6), torch.ones(6), options=TraceOptions(backend=chosen))
    assert set(chosen.files) == {"torchlens-forward-rolled.svg", "torchlens-forward-unrolled.svg"}
    rolled, unrolled = (chosen.files[f"torchlens-forward-{kind}.svg"] for kind in ("rolled", "unrolled"))
    assert rolled.count("<g id=") < unrolled.count("<g id=") and "@block" in rolled


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "modelmeter", *arguments]
    done = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done


def test_the_command_draws_by_torchlens(tmp_path: Path) -> None:
    pytest.importorskip("torchlens")
    (tmp_path / "own.py").write_text(
        "import torch\ndef build():\n    return torch.nn.Sequential(torch.nn.Linear(4, 4)), torch.ones(1, 4)\n"
    )
    done = run_in(tmp_path, "trace", "own:build", "--backend", "torchlens", "--drawings", "--out", "out")
    assert "by torchlens" in done.stdout
    drawn = {path.name for path in (tmp_path / "out").glob("*.svg")}
    assert drawn == {"torchlens-forward-rolled.svg", "torchlens-forward-unrolled.svg"}
    assert CallGraph.load(tmp_path / "out" / "callgraph.json").edges == {"Sequential->0": 1}


SMALL = "trace examples/small --grid 2x1 --base-size 128 --image-size 64 --dtype float32 --depth 1 --backend"


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        ("hooks --repeats 2", "--backend hooks takes no --repeats; leave it out, or use --backend profiler"),
        ("profiler --drawings", "--backend profiler takes no --drawings"),
        ("native --run-on cpu", "--backend native takes no --run-on"),
        ("torchlens --drawings", "--drawings needs a folder"),
        ("hooks --routing worst", "the gate routes by its weights"),
        ("profiler --repeats 0", "--repeats is 0"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    rest: str, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert command([*SMALL.split(), *rest.split()]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rest", "files", "shown"),
    [
        ("hooks --only heavy --events 50", set(), "times are not known"),
        ("profiler --stage prefill", {"chrome-trace.json", "operators.md", "operators.csv"}, "aten."),
    ],
)
def test_the_command_runs_each(rest: str, files: set[str], shown: str, tmp_path: Path) -> None:
    done = run_in(ROOT, *SMALL.split(), *rest.split(), "--out", str(tmp_path))
    assert shown in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"callgraph.json", "runtime-metadata.json", *files}
    graph = CallGraph.load(tmp_path / "callgraph.json")
    assert graph.tool["backend"] == rest.split()[0]
    if "--events" in rest:
        assert 0 < len(graph.events) <= 50
        assert "layers.0" not in graph.call_counts and "layers.0.self_attn.q_proj" in graph.call_counts
