"""``measure``: a family's model, run for real and timed, to a measurement document."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from attrs import evolve, field, frozen

import modelmeter
from modelmeter.errors import ScenarioError, UsageError
from modelmeter.families.bench import Bench, Reader, ReaderInputs, RunInputs
from modelmeter.families.protocol import Family
from modelmeter.measuring.clocks import clock_of
from modelmeter.measuring.environment import PeakMemory, measured_device, versions
from modelmeter.measuring.graphs import CapturedDecode
from modelmeter.measuring.models import ModelOnDevice, build_model, default_device
from modelmeter.measuring.runs import ModuleRun, RunTimes, Subject, module_run, timed_run
from modelmeter.schema.measurement import Conditions, ForwardTimes, Measurement, ModuleTimes, Times
from modelmeter.schema.scenario import Scenario
from modelmeter.tracing.api import scenario_document
from modelmeter.tracing.backends.base import check_device
from modelmeter.tracing.backends.weights import parameter_bytes
from modelmeter.tracing.modules import module_ids

Progress = Callable[[str], None]

MOST_MODULE_RUNS = 3
"""Runs with a timer around every module; more would cost more than they tell."""

_UNMEASURED = ("routing", "device")
"""Scenario keys that a measurement lacks: the gate routes by its weights, and the device is the one there is."""

_STAGE_NOTE = (
    "stages: marks before and after the vision towers and the projector, none in decode steps; "
    "prefill is the first forward without them"
)
_MODULE_NOTE = "modules: of runs with a timer around every module, which takes time itself, most among small ones"
_GRAPH_NOTE = (
    "decode: one captured step, replayed; it reads keys and values of all positions that the run will have, "
    "and finds its experts on the device; modules are those of eager steps"
)


@frozen
class _Measured:
    """What the runs gave."""

    runs: list[RunTimes]
    memory_peak_bytes: int | None
    memory: str
    modules: list[ModuleRun] = field(factory=list)


def measure(
    family: Family,
    config: Any,
    scenario: Scenario,
    *,
    warmup: int = 1,
    repeats: int = 3,
    device: str | None = None,
    threads: int | None = None,
    reader: Reader | None = None,
    pages: Sequence[Path] = (),
    model: ModelOnDevice | None = None,
    modules: bool = True,
    seed: int = 0,
    most_s: float | None = None,
    progress: Progress = lambda _: None,
) -> Measurement:
    """Run a scenario ``warmup`` times unmeasured and ``repeats`` times measured; then module by module.

    ``device`` is cpu or cuda, by default the model's, or the GPU where there is one. ``reader`` with
    ``pages`` reads page files with a checkpoint's weights; its prompt sets the text tokens. ``model`` is
    used instead of building one. ``most_s`` ends the repeats early, after at least one.

    Raises UsageError, ScenarioError, ConfigurationError or PageError for what cannot be run, and
    TracingError if the model raises.
    """
    bench = bench_of(family)
    check_counts(warmup, repeats, threads)
    if reader is not None and not pages:
        raise UsageError("a checkpoint reads page files, and there is none", remedy="give page files")
    device = check_device(device or (model.device if model is not None else default_device()))
    scenario = prepared(family, config, scenario, reader)
    check_execution(scenario.execution, device)
    with _threads(threads):
        if model is None:
            progress("building the model")
            model = build_model(family, config, scenario, device=device, reader=reader, seed=seed)
        inputs: RunInputs
        reading = None
        if reader is not None:
            inputs = reading = reader.inputs(scenario, pages, device)
        else:
            inputs = bench.sample_inputs(config, scenario, seed=seed, device=device)
        ids = module_ids(model.module, family.core)
        subject = Subject(model.module, ids, device, clock_of(device), family.stage_of)
        captured = None
        if scenario.execution == "graph":
            captured = CapturedDecode(bench.static_decode(model.module, scenario, device), device)
        measured = _timed_runs(subject, inputs, captured, warmup, repeats, most_s, progress)
        del captured  # with its cache and its memory pool
        for number in range(min(len(measured.runs), MOST_MODULE_RUNS) if modules else 0):
            progress(f"module by module, run {number + 1}")
            measured.modules.append(module_run(subject, inputs))
        return _document(
            family,
            config,
            evolve(scenario, decode_steps=inputs.decode_steps),
            subject=subject,
            measured=measured,
            weights=model.weights,
            warmup=warmup,
            seed=seed,
            reader=reader,
            reading=reading,
        )


def bench_of(family: Family) -> Bench:
    """What a family adds to be measured; UsageError if it adds nothing."""
    bench: Callable[[], Bench] | None = getattr(family, "bench", None)
    if bench is None:
        raise UsageError(f"{family.name} cannot be measured yet", remedy="use: modelmeter trace … --backend profiler")
    return bench()


def check_counts(warmup: int, repeats: int, threads: int | None) -> None:
    """Refuse numbers of runs and threads that nothing can have."""
    for option, number, least in (("--warmup", warmup, 0), ("--repeats", repeats, 1), ("--threads", threads, 1)):
        if number is not None and number < least:
            raise UsageError(f"{option} is {number}", remedy=f"give a number of at least {least}")


def check_execution(execution: str, device: str) -> None:
    """Refuse to capture where nothing can be captured."""
    if execution == "graph" and device != "cuda":
        raise UsageError(
            "--execution graph captures a CUDA graph, and this runs on the CPU",
            remedy="leave it out, or run where there is a GPU",
        )


def prepared(family: Family, config: Any, scenario: Scenario, reader: Reader | None = None) -> Scenario:
    """The scenario with everything derived filled in. Raises ScenarioError for what one device cannot run."""
    scenario.check_traceable()
    for key in ("devices", "tensor_parallel", "expert_parallel"):
        if getattr(scenario, key) != 1:
            raise ScenarioError(
                f"--{key.replace('_', '-')} is {getattr(scenario, key)}, and a measurement runs on one device",
                remedy="leave it out",
            )
    if reader is not None:
        scenario = evolve(scenario, text_tokens=reader.text_tokens, seq_len=None)
    described = family.describe(config, scenario)
    return evolve(scenario.resolve(), text_tokens=described["text_tokens"], seq_len=described["seq_len"])


def _timed_runs(
    subject: Subject,
    inputs: RunInputs,
    captured: CapturedDecode | None,
    warmup: int,
    repeats: int,
    most_s: float | None,
    progress: Progress,
) -> _Measured:
    for number in range(warmup):
        progress(f"warm-up {number + 1} of {warmup}")
        timed_run(subject, inputs, captured)
    peak = PeakMemory(subject.device)
    runs: list[RunTimes] = []
    began = time.perf_counter()
    for number in range(repeats):
        progress(f"run {number + 1} of {repeats}")
        runs.append(timed_run(subject, inputs, captured))
        spent_s = time.perf_counter() - began
        if most_s is not None and spent_s + spent_s / len(runs) > most_s:
            break
    return _Measured(runs, peak.end(), peak.meaning)


def _document(
    family: Family,
    config: Any,
    scenario: Scenario,
    *,
    subject: Subject,
    measured: _Measured,
    weights: str,
    warmup: int,
    seed: int,
    reader: Reader | None,
    reading: ReaderInputs | None,
) -> Measurement:
    runs = measured.runs
    notes = [_STAGE_NOTE, *([_MODULE_NOTE] if measured.modules else [])]
    if scenario.execution == "graph":
        notes.append(_GRAPH_NOTE)
    by_module = _middle(measured.modules)
    described = scenario_document(scenario, family.describe(config, scenario))
    return Measurement(
        tool={"name": "modelmeter", "version": modelmeter.__version__},
        device=measured_device(subject.device),
        versions=versions(),
        model={
            "family": family.name,
            "class": subject.ids.root,
            "config": config.to_dict(),
            "parameter_count": sum(parameter.numel() for parameter in subject.module.parameters()),
            "parameter_bytes": parameter_bytes(subject.module),
        },
        weights=weights,
        scenario={key: value for key, value in described.items() if key not in _UNMEASURED},
        conditions=Conditions(
            warmup_runs=warmup,
            repeats=len(runs),
            module_repeats=len(measured.modules),
            clock=subject.clock.name,
            execution=scenario.execution,
            inputs="page files" if reading is not None else "random pixels and tokens",
            memory=measured.memory,
            seed=None if reading is not None else seed,
            float32_matmul_precision=torch.get_float32_matmul_precision(),
            notes=tuple(notes),
        ),
        run=Times.of([run.whole_s for run in runs]),
        stages={name: Times.of([run.stages[name] for run in runs]) for name in runs[0].stages},
        forwards=[ForwardTimes(name, Times.of([run.forwards[name] for run in runs])) for name in runs[0].forwards],
        modules=by_module.modules,
        stage_modules=by_module.stage_modules,
        memory_peak_bytes=measured.memory_peak_bytes,
        prompt=reader.prompt if reader is not None else None,
        tokens=list(reading.tokens) if reading is not None else None,
        text=reader.text(reading.tokens) if reader is not None and reading is not None else None,
        stopped=("end of text" if reading.ended else "length") if reading is not None else None,
    )


def _middle(runs: Sequence[ModuleRun]) -> ModuleRun:
    """The run of median duration, whole, so that its modules still add up."""
    if not runs:
        return ModuleRun(0.0)
    chosen = sorted(runs, key=lambda run: run.whole_s)[(len(runs) - 1) // 2]
    return ModuleRun(
        chosen.whole_s, _rounded(chosen.modules), {s: _rounded(found) for s, found in chosen.stage_modules.items()}
    )


def _rounded(modules: dict[str, ModuleTimes]) -> dict[str, ModuleTimes]:
    """To nanoseconds."""
    return {
        name: ModuleTimes(times.calls, round(times.total_time_s, 9), round(times.own_time_s, 9))
        for name, times in modules.items()
    }


@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """That many CPU threads for the time of a block."""
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
