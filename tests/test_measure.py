"""Measuring with random weights: what the document holds, and that its parts add up."""

from __future__ import annotations

import json
import math
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from command import CONFIGURATION, LLAMA, OUTPUT, SCENARIO, USAGE, command, document, listing, refused, write_json
from command import write_small as write_small_config
from modelmeter.errors import DocumentError, ScenarioError, TracingError, UsageError
from modelmeter.families.deepseek_ocr import FAMILY, PageLayout
from modelmeter.families.deepseek_ocr.config import published_config
from modelmeter.families.deepseek_ocr.config import small_config as shipped_config
from modelmeter.measuring import build_model, measure
from modelmeter.measuring.clocks import HostClock, clock_of
from modelmeter.measuring.graphs import CapturedDecode
from modelmeter.measuring.runs import Subject, module_run, timed_run
from modelmeter.schema import Page, Scenario
from modelmeter.schema.measurement import Measurement, ModuleTimes, Times, families
from modelmeter.tracing import trace_family
from modelmeter.tracing.modules import module_ids
from small import SMALL_SIZES, small_config

SMALL = ("measure", "small.json", "--base-size", "128", "--image-size", "64", "--run-on", "cpu")
WORKLOAD = Scenario(pages=(Page(grid=(2, 1)),), decode_steps=3, dtype="float32", **SMALL_SIZES)
STAGES = ["vision", "projector", "prefill", "decode"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small operations wait longer for threads than they take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    write_small_config(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def measured() -> Measurement:
    return measure(FAMILY, small_config(), WORKLOAD, device="cpu", warmup=1, repeats=3, threads=1)


# -- the document --------------------------------------------------------------------------------------


def test_forwards_and_stages(measured: Measurement) -> None:
    assert [forward.name for forward in measured.forwards] == ["prefill", "decode 1", "decode 2", "decode 3"]
    assert list(measured.stages) == STAGES
    for times in (measured.run, *measured.stages.values(), *(forward.time for forward in measured.forwards)):
        assert len(times.samples_s) == 3
        assert times.time_s == statistics.median(times.samples_s)
        assert (times.min_s, times.max_s) == (min(times.samples_s), max(times.samples_s))
        assert times.min_s > 0
    assert measured.first_token_s == measured.forwards[0].time.time_s
    assert measured.token_s == statistics.median(forward.time.time_s for forward in measured.forwards[1:])


def test_stages_add_up_to_the_forwards_in_every_run(measured: Measurement) -> None:
    for run in range(3):
        stages = sum(times.samples_s[run] for times in measured.stages.values())
        forwards = sum(forward.time.samples_s[run] for forward in measured.forwards)
        assert math.isclose(stages, forwards, abs_tol=1e-8)
        assert forwards <= measured.run.samples_s[run]


def test_modules_add_up(measured: Measurement) -> None:
    root = measured.modules["DeepseekOCRForCausalLM"]
    assert root.calls == 4
    own_s = sum(times.own_time_s for times in measured.modules.values())
    assert math.isclose(own_s, root.total_time_s, abs_tol=1e-6)
    for name, times in measured.modules.items():
        by_stage = [modules[name] for modules in measured.stage_modules.values() if name in modules]
        assert sum(part.calls for part in by_stage) == times.calls
        assert math.isclose(sum(part.own_time_s for part in by_stage), times.own_time_s, abs_tol=1e-8)
        assert -1e-8 <= times.own_time_s <= times.total_time_s + 1e-8
    assert set(measured.stage_modules) == set(STAGES)
    assert set(measured.stage_modules["projector"]) == {"projector", "projector.layers"}
    assert all(name.startswith(("sam_model", "vision_model")) for name in measured.stage_modules["vision"])
    assert measured.stage_modules["decode"]["layers.2.mlp.gate"].calls == 3
    assert measured.stage_modules["prefill"]["lm_head"].calls == 1


def test_modules_and_calls_are_those_of_a_trace(measured: Measurement) -> None:
    traced = trace_family(FAMILY, WORKLOAD, small_config()).call_counts
    apart = ("experts.", "act_fn")  # who goes to which expert is the gate's business
    for name in set(traced) | set(measured.modules):
        if not any(part in name for part in apart):
            assert measured.modules[name].calls == traced[name], name


def test_what_was_measured_is_written_down(measured: Measurement) -> None:
    assert (measured.kind, measured.schema_version, measured.weights) == ("measurement", 1, "random")
    assert measured.device.kind == "cpu" and measured.device.name and measured.device.threads == 1
    assert measured.versions["torch"] == torch.__version__
    assert measured.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert measured.model["config"]["decoder"]["n_routed_experts"] == 8
    assert measured.model["parameter_count"] == sum(
        parameter.numel() for parameter in FAMILY.build(small_config(), WORKLOAD).parameters()
    )
    traced = trace_family(FAMILY, WORKLOAD, small_config()).scenario
    assert measured.scenario == {k: v for k, v in traced.items() if k not in ("routing", "device")}
    how = measured.conditions
    assert (how.warmup_runs, how.repeats, how.module_repeats) == (1, 3, 3)
    assert (how.clock, how.execution, how.seed) == ("time.perf_counter", "eager", 0)
    assert "resident memory" in how.memory and measured.memory_peak_bytes and measured.memory_peak_bytes > 50e6
    assert measured.text is None and measured.tokens is None and measured.prompt is None


def test_structure_does_not_vary(measured: Measurement) -> None:
    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shape(item) for key, item in value.items()}
        return [shape(item) for item in value] if isinstance(value, list) else type(value)

    again = measure(FAMILY, small_config(), WORKLOAD, device="cpu", warmup=0, repeats=3, threads=1)
    assert shape(json.loads(again.to_json())) == shape(json.loads(measured.to_json()))
    assert [t.calls for t in again.modules.values()] == [t.calls for t in measured.modules.values()]


def test_document_is_saved_and_loaded(measured: Measurement, tmp_path: Path) -> None:
    path = measured.save(tmp_path / "measurement.json")
    assert Measurement.load(path).to_json() == measured.to_json() == path.read_text()
    assert json.loads(path.read_text())["stages"]["decode"]["time_s"] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "call graph"}, "kind is 'call graph', not 'measurement'"),
        ({"kind": None}, "expected str, got NoneType"),
        ({"schema_version": 2}, "has schema version 2, this ModelMeter reads version 1"),
        ({"surprise": 1}, "surprise"),
        ({"forwards": []}, "forwards is empty"),
        ({"run": {"time_s": 2, "min_s": 3, "max_s": 4, "samples_s": []}}, "run: min_s, time_s and max_s are 3"),
        ({"run": {"time_s": "2", "min_s": 3, "max_s": 4}}, "expected a finite number, got str '2'"),
        ({"modules": {"a": {"calls": -1, "total_time_s": 0, "own_time_s": 0}}}, "modules['a'] is"),
        ({"modules": {}}, "which is not in modules"),
        ({"memory_peak_bytes": -1}, "memory_peak_bytes is -1"),
        ({"memory_peak_bytes": True}, "expected int, got bool"),
    ],
)
def test_documents_that_are_none(measured: Measurement, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write_json(tmp_path / "m.json", {**json.loads(measured.to_json()), **change})
    with pytest.raises(DocumentError) as error:
        Measurement.load(path)
    assert message in str(error.value)


def test_documents_without_what_must_be_there(measured: Measurement, tmp_path: Path) -> None:
    for key in ("kind", "schema_version", "device", "run"):
        content = json.loads(measured.to_json())
        del content[key]
        with pytest.raises(DocumentError, match=key):
            Measurement.load(write_json(tmp_path / "m.json", content))


def test_families_of_modules() -> None:
    modules = {
        "layers.0.mlp": ModuleTimes(1, 5.0, 1.0),
        "layers.11.mlp": ModuleTimes(2, 7.0, 2.0),
        "layers.0.mlp.experts.63.up": ModuleTimes(1, 9.0, 9.0),
        "net_2": ModuleTimes(1, 1.0, 1.0),
    }
    assert families(modules) == {
        "layers.*.mlp.experts.*.up": ModuleTimes(1, 9.0, 9.0),
        "layers.*.mlp": ModuleTimes(3, 12.0, 3.0),
        "net_2": ModuleTimes(1, 1.0, 1.0),
    }
    assert list(families(modules)) == ["layers.*.mlp.experts.*.up", "layers.*.mlp", "net_2"]


def test_medians() -> None:
    assert Times.of([3.0, 1.0, 2.0]) == Times(2.0, 1.0, 3.0, (3.0, 1.0, 2.0))
    assert Times.of([1.0, 2.0]).time_s == 1.5


# -- running -------------------------------------------------------------------------------------------


def test_time_spent_is_found_where_it_was_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that sleeps is slow, in its own time and in all that contain it, and in its stage."""
    model = build_model(FAMILY, small_config(), WORKLOAD, device="cpu")
    for name, pause_s in (("model.layers.1.mlp.shared_experts", 0.02), ("model.vision_model.pre_layrnorm", 0.05)):
        slow = model.module.get_submodule(name)
        monkeypatch.setattr(slow, "forward", _slowed(slow.forward, pause_s))
    found = measure(FAMILY, small_config(), WORKLOAD, model=model, warmup=1, repeats=3, threads=1)
    modules = found.modules
    for name in ("layers.1.mlp.shared_experts", "layers.1.mlp", "layers.1", "DeepseekOCRModel"):
        assert modules[name].total_time_s > 0.08
    slept_s = modules["layers.1.mlp.shared_experts"].own_time_s
    assert slept_s > 0.08 and modules["vision_model.pre_layrnorm"].own_time_s > 0.1
    assert modules["layers.1.mlp"].own_time_s < slept_s
    assert modules["layers.1.mlp"].total_time_s > slept_s
    least_s = {"vision": 0.1, "prefill": 0.02, "decode": 0.06}
    assert all(found.stages[stage].min_s > least for stage, least in least_s.items())
    assert list(found.module_families())[:2] == ["vision_model.pre_layrnorm", "layers.*.mlp.shared_experts"]


def _slowed(original: Any, pause_s: float) -> Any:
    def forward(*args: Any) -> Any:
        time.sleep(pause_s)
        return original(*args)

    return forward


def test_nothing_is_left_behind() -> None:
    model = build_model(FAMILY, small_config(), WORKLOAD, device="cpu")
    before = {name: set(vars(module)) for name, module in model.module.named_modules()}
    threads = torch.get_num_threads()
    measure(FAMILY, small_config(), WORKLOAD, model=model, warmup=0, repeats=1, threads=2)
    assert torch.get_num_threads() == threads

    def fails(*_: Any) -> None:
        raise RuntimeError("out of order")

    broken = model.module.get_submodule("lm_head")
    broken.__dict__["forward"] = fails
    with pytest.raises(TracingError, match="prefill raised RuntimeError: out of order"):
        measure(FAMILY, small_config(), WORKLOAD, model=model, warmup=0, repeats=1)
    del broken.__dict__["forward"]
    assert {name: set(vars(module)) for name, module in model.module.named_modules()} == before
    for module in model.module.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_memory_that_runs_out_is_one_line() -> None:
    model = build_model(FAMILY, small_config(), WORKLOAD, device="cpu")

    def fails(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore")

    model.module.get_submodule("lm_head").__dict__["forward"] = fails
    with pytest.raises(TracingError, match=r"20.00 GiB\.; take a smaller --batch"):
        measure(FAMILY, small_config(), WORKLOAD, model=model)


def test_runs_are_equal_and_bounded() -> None:
    seen: list[str] = []
    found = measure(
        FAMILY, small_config(), WORKLOAD, device="cpu", warmup=2, repeats=50, most_s=0.0, progress=seen.append
    )
    assert (found.conditions.repeats, found.conditions.module_repeats) == (1, 1)
    assert seen == ["building the model", "warm-up 1 of 2", "warm-up 2 of 2", "run 1 of 50", "module by module, run 1"]
    assert not measure(FAMILY, small_config(), WORKLOAD, device="cpu", repeats=1, modules=False).modules


def test_inputs_are_varied_and_repeatable() -> None:
    bench = FAMILY.bench()
    scenario = FAMILY.resolve(
        small_config(), Scenario(pages=(Page(grid=(2, 1)),), batch=3, decode_steps=2, **SMALL_SIZES)
    )

    def taken(seed: int) -> list[Any]:
        inputs = bench.sample_inputs(small_config(), scenario, seed=seed, device="cpu")
        call = next(inputs.forwards(inputs.chooser()))
        choose = inputs.chooser()
        chosen = [choose(torch.zeros(3, 101)) for _ in range(3)]
        assert chosen[2] is None and inputs.decode_steps == 2
        return [call.args[0], *(part for page in call.kwargs["images"] for part in page), *chosen[:2]]

    one, same, other = taken(0), taken(0), taken(1)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    ids, first, second = one[0], one[1], one[3]
    assert not torch.equal(first, second) and first.min() < -0.9 and first.max() > 0.9
    tokens = PageLayout(FAMILY.layouts(small_config(), scenario)[0].workload, (2, 1)).image_tokens
    assert (ids[:, 0] == 0).all() and (ids[:, 1 : 1 + tokens] == 100).all() and (ids[:, 1 + tokens :] < 100).all()
    assert len(set(map(tuple, ids.tolist()))) == 3


def test_captured_decode_takes_over_from_the_model() -> None:
    """On a CPU the step is run as it is; the loop around it is the one that replays a graph on a GPU."""
    model = build_model(FAMILY, small_config(), WORKLOAD, device="cpu")
    scenario = FAMILY.resolve(small_config(), WORKLOAD)
    bench = FAMILY.bench()
    inputs = bench.sample_inputs(small_config(), scenario, seed=0, device="cpu")
    subject = Subject(model.module, module_ids(model.module, "model"), "cpu", HostClock(), FAMILY.stage_of)
    captured = CapturedDecode(bench.static_decode(model.module, scenario, "cpu"), "cpu")
    for _ in range(2):
        run = timed_run(subject, inputs, captured)
        assert list(run.forwards) == ["prefill", "decode 1", "decode 2", "decode 3"]
        assert list(run.stages) == STAGES
        assert math.isclose(sum(run.stages.values()), sum(run.forwards.values()))
    assert module_run(subject, inputs).modules["lm_head"].calls == 4


def test_impossible_requests() -> None:
    with pytest.raises(UsageError, match="--execution graph captures a CUDA graph, and this runs on the CPU"):
        measure(FAMILY, small_config(), Scenario(execution="graph"), device="cpu")
    with pytest.raises(ScenarioError, match="--devices is 2, and a measurement runs on one device"):
        measure(FAMILY, small_config(), Scenario(devices=2), device="cpu")
    with pytest.raises(UsageError, match="other cannot be measured yet"):
        measure(type("Other", (), {"name": "other"})(), None, Scenario())  # type: ignore[arg-type]
    assert isinstance(clock_of("cpu"), HostClock)


def test_small_configuration_is_the_published_one_made_smaller() -> None:
    small, full = shipped_config(), published_config()
    for part in ("sam", "clip"):
        for key in ("image_size", "patch_size"):
            assert getattr(getattr(small, part), key) == getattr(getattr(full, part), key)
    assert small.sam.window_size == full.sam.window_size
    assert small.decoder.max_position_embeddings == full.decoder.max_position_embeddings
    for grid in ((1, 1), (2, 1), (3, 3)):
        scenario = Scenario(pages=(Page(grid=grid),))
        assert FAMILY.describe(small, scenario) == FAMILY.describe(full, scenario)
    parameters = sum(parameter.numel() for parameter in FAMILY.build(small, Scenario()).parameters())
    assert 6e6 < parameters < 8e6


# -- the command ---------------------------------------------------------------------------------------


def test_command_prints_and_writes(here: Path) -> None:
    outcome = command(*SMALL, "--grid", "2x1", "--out", "results", cwd=here)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[-1] == "Wrote results/measurement.json"
    assert max(map(len, outcome.out.splitlines())) <= 100
    for text in ("random weights", "vision", "projector", "prefill", "decode", "run", "tokens/s", "sam_model.blocks.*"):
        assert text in outcome.out
    found = Measurement.load(here / "results/measurement.json")
    assert [forward.name for forward in found.forwards][-1] == "decode 8"
    assert found.scenario["dtype"] == "float32"
    assert listing(here / "results").keys() == {"measurement.json"}


def test_json_and_file_names(here: Path) -> None:
    quick = ("--repeats", "1", "--warmup", "0", "--decode-steps", "0")
    outcome = command(*SMALL, *quick, "--json", "--out", "deep/here.json", "--dtype", "bfloat16", cwd=here)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == (here / "deep/here.json").read_text()
    assert json.loads(outcome.out)["scenario"]["dtype"] == "bfloat16"
    assert list(json.loads(outcome.out)["stages"]) == ["prefill", "projector", "vision"]
    assert command(*SMALL, *quick, "--quiet", "--out", "deep/other", cwd=here).out == ""
    assert Measurement.load(here / "deep/other/measurement.json").token_s is None
    assert "first token after" in command(*SMALL, *quick, "--quiet", cwd=here).out


def test_family_by_name_is_small_on_a_cpu(here: Path) -> None:
    arguments = ("measure", "deepseek-ocr", "--run-on", "cpu", "--base-size", "64", "--image-size", "64")
    found = document(
        *arguments, "--page", "64x64", "--repeats", "1", "--warmup", "0", "--max-new-tokens", "2", cwd=here
    )
    assert found["model"]["config"]["name"] == "deepseek-ocr-small"
    assert [forward["name"] for forward in found["forwards"]] == ["prefill", "decode 1"]


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (USAGE, ["--warmup", "-1"], "--warmup is -1; give a number of at least 0"),
        (USAGE, ["--repeats", "0"], "--repeats is 0; give a number of at least 1"),
        (USAGE, ["--threads", "0"], "--threads is 0"),
        (USAGE, ["--execution", "graph"], "--execution graph captures a CUDA graph"),
        (USAGE, ["--run-on", "tpu"], "run-on"),
        (USAGE, ["--prompt", "Read."], "--prompt is for a checkpoint; give its folder with --weights"),
        (USAGE, ["--routing", "worst"], "measure takes no --routing here: the gate routes by its weights"),
        (USAGE, ["--device", "h200"], "measure takes no --device here: a measurement runs on the one device"),
        (USAGE, ["--devices", "2"], "measure takes no --devices here"),
        (USAGE, ["--size", "small"], "--size and the configuration small.json contradict each other"),
        (USAGE, ["--weights", "."], "--weights and the configuration small.json contradict each other"),
        (SCENARIO, ["--grid", "10x1"], "grid 10x1 has 10 crops"),
        (SCENARIO, ["--seq-len", "3"], "seq_len 3 is too short"),
        (SCENARIO, ["--decode-steps", "3000"], "exceed the model's 2048"),
        (SCENARIO, ["--activation-dtype", "float64"], "runs weights and activations in one dtype"),
        (3, ["missing.png"], "missing.png does not exist"),
    ],
)
def test_bad_options(here: Path, code: int, arguments: list[str], message: str) -> None:
    assert message in refused(code, *SMALL, *arguments, cwd=here)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(here: Path) -> None:
    message = "there is no CUDA device; leave out --run-on, or choose cpu"
    assert refused(USAGE, *SMALL[:-1], "cuda", cwd=here) == message


def test_bad_subjects(here: Path) -> None:
    write_json(here / "llama.json", LLAMA)
    message = refused(USAGE, "measure", "llama.json", cwd=here)
    assert "'llama.json' is no family's configuration" in message and "--backend profiler" in message
    assert "did you mean 'deepseek-ocr'?" in refused(USAGE, "measure", "deepsek-ocr", cwd=here)
    assert "cannot read nowhere.json" in refused(CONFIGURATION, "measure", "nowhere.json", cwd=here)


def test_results_are_kept(here: Path) -> None:
    (here / "results").mkdir()
    (here / "results/measurement.json").write_text("old")
    assert "measurement.json exists" in refused(OUTPUT, *SMALL, "--out", "results", cwd=here)
    assert "measurement.json exists" in refused(OUTPUT, *SMALL, "--out", "results/measurement.json", cwd=here)
    assert command(*SMALL, "--out", "results", "--force", "--repeats", "1", cwd=here).code == 0
    assert Measurement.load(here / "results/measurement.json").forwards


def test_interrupted(here: Path) -> None:
    (here / "results").mkdir()
    (here / "results/measurement.json").write_text("old")
    before = listing(here)
    program = (
        "import pathlib, modelmeter.cli, modelmeter.measuring.api as api\n"
        "measured_run = api.timed_run\n"
        "def timed_run(*args):\n    pathlib.Path('running').touch()\n    return measured_run(*args)\n"
        "api.timed_run = timed_run\n"
        f"modelmeter.cli.main({[*SMALL, '--repeats', '100000', '--out', 'results', '--force']!r})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while not (here / "running").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    (here / "running").unlink()
    assert (process.returncode, out) == (130, b""), err
    assert err == b"modelmeter: interrupted; nothing was overwritten\n"
    assert listing(here) == before
