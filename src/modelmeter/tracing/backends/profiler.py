"""torch.profiler: measured times per module call and operator, on the CPU or a CUDA device.

Every forward is run once to count its calls and warm up, then once or more under the profiler. Of
several measured runs the one of median duration is kept whole, so that its parts still add up.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from modelmeter.errors import UsageError
from modelmeter.families.protocol import ForwardCall
from modelmeter.schema.callgraph import CallGraph
from modelmeter.tracing.backends.base import Job, check_device, run_forwards, wrapped_forwards
from modelmeter.tracing.backends.calls import CallLog
from modelmeter.tracing.backends.measured import MODULE, EventReader, RunTimes, times_document
from modelmeter.tracing.backends.operator_table import as_csv, as_markdown, operator_rows
from modelmeter.tracing.backends.report import call_graph
from modelmeter.tracing.signatures import SignatureReader, argument_names, read_output

CHROME_TRACE_FILE = "chrome-trace.json"
OPERATOR_FILES = ("operators.md", "operators.csv")
KERNEL_FILE = "kernels.csv"


class ProfilerBackend:
    """Counts, edges, shapes, cache sizes and measured times; no FLOPs, bytes or data edges."""

    name = "profiler"

    def __init__(self, *, run_on: str | None = None, repeats: int = 1) -> None:
        if repeats < 1:
            raise UsageError(f"--repeats is {repeats}", remedy="give a number of at least 1")
        chosen = run_on or ("cuda" if torch.cuda.is_available() else "cpu")
        self.run_on = check_device(chosen)
        self._repeats = repeats
        self.files: dict[str, str] = {}

    def run(self, job: Job) -> CallGraph:
        """Run the job's forwards, each once unmeasured and then under the profiler."""
        log = CallLog(job.stage_of, job.max_events)
        measuring = False
        kept: dict[str, RunTimes] = {}
        traces: list[dict[str, Any]] = []

        def run(call: ForwardCall) -> Any:
            nonlocal measuring
            args, kwargs = copy.deepcopy((call.args, dict(call.kwargs)))
            log.forget_caches()
            log.begin_forward(call.name)
            with wrapped_forwards(job.ids, functools.partial(_counted, log)):
                job.module(*args, **kwargs)
            log.end_forward()
            measuring = True
            try:
                with wrapped_forwards(job.ids, _timed):
                    output, kept[call.name], trace = self._measure(job, call)
                traces.append(trace)
            finally:
                measuring = False
            return output

        events = run_forwards(job, log, self.run_on, run, quiet=lambda: measuring)
        graph = call_graph(job, log, backend=self.name, runtime_events=events, tool=self._tool())
        graph.times = times_document(kept, root=job.ids.root, on_device=self.run_on == "cuda")
        self._export(graph, kept, traces)
        return graph

    def _tool(self) -> dict[str, str]:
        device = torch.cuda.get_device_name() if self.run_on == "cuda" else "cpu"
        return {"run_on": device, "repeats": str(self._repeats), "threads": str(torch.get_num_threads())}

    def _measure(self, job: Job, call: ForwardCall) -> tuple[Any, RunTimes, dict[str, Any]]:
        """Run a forward as often as asked; gives its output, and times and trace of the median run."""
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its start and stop messages go to stderr
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.run_on == "cuda" else [])]
        reader = EventReader(job.ids.modules)
        measured = []
        output: Any = None
        for repeat in range(self._repeats):
            job.progress(f"{call.name}, measured {repeat + 1} of {self._repeats}")
            output = None
            # What a run writes into its inputs, as into a cache, the next one must not see; the last may.
            last = repeat == self._repeats - 1
            args, kwargs = (call.args, dict(call.kwargs)) if last else copy.deepcopy((call.args, dict(call.kwargs)))
            with profile(activities=activities, record_shapes=True, acc_events=True) as profiler:
                self._finish_queue()
                begin = time.perf_counter()
                output = job.module(*args, **kwargs)
                self._finish_queue()
                wall_ms = (time.perf_counter() - begin) * 1e3
            measured.append((reader.read(profiler.events(), wall_ms), profiler))
        times, profiler = sorted(measured, key=lambda run: run[0].wall_ms)[(len(measured) - 1) // 2]
        return output, times, _chrome_trace(profiler)

    def _finish_queue(self) -> None:
        if self.run_on == "cuda":
            torch.cuda.synchronize()

    def _export(self, graph: CallGraph, kept: dict[str, RunTimes], traces: list[dict[str, Any]]) -> None:
        rows = operator_rows(graph.times)
        self.files = dict(zip(OPERATOR_FILES, (as_markdown(rows), as_csv(rows)), strict=True))
        joined = {**traces[0], "traceEvents": [event for trace in traces for event in trace["traceEvents"]]}
        self.files[CHROME_TRACE_FILE] = json.dumps(joined)
        kernels: dict[str, list[float]] = {}
        for run in kept.values():
            for name, calls in run.kernels.items():
                known = kernels.setdefault(name, [0, 0.0])
                known[0] += calls
                known[1] += run.kernel_ms[name]
        if kernels:
            lines = [f'"{name}",{calls:.0f},{spent:.6f}' for name, (calls, spent) in kernels.items()]
            ranked = sorted(lines, key=lambda line: -float(line.rpartition(",")[2]))
            self.files[KERNEL_FILE] = "\n".join(["kernel,calls,device_ms", *ranked]) + "\n"


def _timed(name: str, module: nn.Module, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        with record_function(MODULE + name):
            return original(*args, **kwargs)

    return forward


def _counted(log: CallLog, name: str, module: nn.Module, original: Callable[..., Any]) -> Callable[..., Any]:
    reader = SignatureReader(argument_names(original))
    layer_idx = getattr(module, "layer_idx", None)
    layer = layer_idx if isinstance(layer_idx, int) else None

    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        signature, _tensors, caches = reader.read(args, kwargs)
        for cache in caches:
            log.note_cache(cache, name, layer)
        log.enter(name, signature)
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            log.fail(name, error)
            raise
        returned, _tensors, caches = read_output(result)
        for cache in caches:
            log.note_cache(cache, name, None)
        log.exit(name, returned)
        return result

    return forward


def _chrome_trace(profiler: profile) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / CHROME_TRACE_FILE
        profiler.export_chrome_trace(str(path))
        trace: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in trace.items() if key not in ("traceName", "host_name", "trace_id")}
