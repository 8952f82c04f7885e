"""How a trace compares with the bare weightless forward, and with a real forward of the same model.

    python benchmarks/trace_ratio.py             # ratios on this machine, full size
    python benchmarks/trace_ratio.py --no-real   # without the real forward (7 GB, a minute)

Machines differ and are noisy: the ratios are the result, the seconds only say what they were taken from.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from modelmeter.families.deepseek_ocr import FAMILY, published_config
from modelmeter.schema import Page, Scenario
from modelmeter.tracing import TraceOptions, build_weightless, trace_family
from modelmeter.tracing.devices import HostFunctions, pretend_gpu
from modelmeter.tracing.modules import expert_counts
from modelmeter.tracing.shape_only import fake_mode_of
from modelmeter.tracing.values import ValuePolicy
from modelmeter.tracing.weightless import WeightlessExecutor, WeightlessMode

SCENARIO = Scenario(pages=(Page(grid=(3, 2)),), text_tokens=10, decode_steps=2)
RUN = TraceOptions(replay=False)
"""Every call is run, as in the bare forward; what replay saves has a benchmark of its own."""


def run_forwards(module: Any) -> None:
    """Prefill and decode steps, nothing recorded."""
    forwards = FAMILY.forwards(module, published_config(), SCENARIO)
    output = None
    while True:
        try:
            call = forwards.send(output)
        except StopIteration:
            return
        output = module(*call.args, **call.kwargs)


def bare_weightless(module: Any) -> None:
    """The forward on shape-only weights, with the same executor that a trace has."""
    mode = fake_mode_of(module)
    assert mode is not None
    executor = WeightlessExecutor(mode, ValuePolicy(expert_counts=expert_counts(module.modules())))
    with torch.no_grad(), pretend_gpu(), WeightlessMode(executor), HostFunctions(executor):
        run_forwards(module)


def seconds(work: Callable[[], Any]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def whole_command() -> tuple[float, float]:
    """Seconds and resident gigabytes of the command line, from start to written files."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "modelmeter", "trace", "deepseek-ocr", "--grid", "3x2"]
        command += ["--decode-steps", "2", "--out", folder, "--quiet"]
        took = seconds(lambda: subprocess.run(command, check=True))
    return took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9


def real_module() -> Any:
    """The full-size model with random bfloat16 weights."""
    module = FAMILY.build(published_config(), SCENARIO)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.02)
    return module


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-real", action="store_true", help="leave out the real forward")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    command_s, command_gb = whole_command()
    build_s = seconds(lambda: build_weightless(lambda: FAMILY.build(published_config(), SCENARIO)))
    module = build_weightless(lambda: FAMILY.build(published_config(), SCENARIO))
    bare_weightless(module)  # the first run imports and fills caches
    bare, traced = [], []
    for _ in range(options.repeats):  # in turn, so that noise falls on both
        bare.append(seconds(lambda: bare_weightless(module)))
        traced.append(seconds(lambda: trace_family(FAMILY, SCENARIO, published_config(), module=module, options=RUN)))
    bare_s, trace_s = statistics.median(bare), statistics.median(traced)
    rows = [
        ("bare weightless forward", bare_s),
        ("trace, everything recorded", trace_s),
        ("build without weights", build_s),
        ("whole command", command_s),
    ]
    if not options.no_real:
        start = time.perf_counter()
        real = real_module()
        rows.append(("build with random bfloat16 weights", time.perf_counter() - start))
        with torch.no_grad():
            rows.append(("real bfloat16 forward", seconds(lambda: run_forwards(real))))
    print(f"DeepSeek-OCR, grid 3x2, 2 decode steps; torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'':36}{'seconds':>9}{'ratio to bare':>15}{'ratio to trace':>16}")
    for name, took in rows:
        print(f"{name:36}{took:9.2f}{took / bare_s:15.2f}{took / trace_s:16.2f}")
    print(f"whole command: {command_gb:.2f} GB resident at its peak")


if __name__ == "__main__":
    main()
