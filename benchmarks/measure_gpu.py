"""Full-size DeepSeek-OCR with random bfloat16 weights on a GPU, in one call of at most ten minutes.

    python benchmarks/measure_gpu.py --out runs/gpu                     # as many cases as 540 seconds allow
    python benchmarks/measure_gpu.py --out runs/gpu --budget-s 120
    python benchmarks/measure_gpu.py --out runs/small --cpu-small       # the same logic at small size on the CPU

Prefill and decode at grids 1x1 to 3x3 and batches 1 to 32, with eager and SDPA attention, decode step by
step and as a replayed CUDA graph; the most telling cases first. Every case is a measurement document of
its own (``modelmeter measure`` writes the same), written as soon as it is done, and ``summary.json`` is
rewritten after each: what is stopped has lost nothing but the case that was running. A case that fails,
for want of memory for example, is noted there with its error, and the next one is begun.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

try:
    import modelmeter  # noqa: F401
except ImportError:  # a machine with torch and a copy of the repository
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import torch
from attrs import asdict, frozen

from modelmeter.errors import ModelMeterError
from modelmeter.families.registry import get_family
from modelmeter.measuring import ModelOnDevice, build_model, measure
from modelmeter.schema import Page, Scenario
from modelmeter.schema.files import write_file
from modelmeter.schema.measurement import Measurement

FAMILY = get_family("deepseek-ocr")
SUMMARY_FILE = "summary.json"

GRIDS = ((2, 1), (1, 1), (3, 3), (3, 2), (2, 2))
BATCHES = (1, 8, 32, 4, 16, 2)
EXECUTIONS = ("eager", "graph")
ATTENTIONS = ("sdpa", "eager")
"""Each axis with its most telling value first; what a case is worth falls with its places on all of them."""

MOST_CASE_S = 30.0
"""Seconds after which a case is not repeated further."""


@frozen
class Case:
    """One workload: decode steps are run ``eager`` or as a ``graph``."""

    grid: tuple[int, int]
    batch: int
    execution: str
    attention: str

    @property
    def name(self) -> str:
        """For people and files."""
        return f"grid-{self.grid[0]}x{self.grid[1]}-batch-{self.batch}-{self.attention}-{self.execution}"

    @property
    def pixels(self) -> float:
        """About how much there is to see, in global views: what a run's duration grows with."""
        columns, rows = self.grid
        crops = columns * rows if columns * rows > 1 else 0
        return self.batch * (1 + crops * (640 / 1024) ** 2)


@frozen
class Setting:
    """What all cases share: the published model on a GPU, or the small one on the CPU."""

    config: Any
    device: str
    dtype: str
    decode_steps: int
    repeats: int
    sizes: dict[str, int]
    cases: tuple[Case, ...]

    def scenario(self, case: Case) -> Scenario:
        """The case as a scenario; logits of the last position only, as when reading."""
        return Scenario(
            pages=(Page(grid=case.grid),),
            batch=case.batch,
            decode_steps=self.decode_steps,
            dtype=self.dtype,
            attention=case.attention,
            execution=case.execution,
            head="last",
            **self.sizes,  # type: ignore[arg-type]
        )


def plan(grids: Sequence[tuple[int, int]], batches: Sequence[int]) -> tuple[Case, ...]:
    """All cases, the most telling first."""
    axes = (grids, batches, EXECUTIONS, ATTENTIONS)
    ranked = sorted(itertools.product(*(range(len(axis)) for axis in axes)), key=lambda places: (sum(places), places))
    return tuple(Case(*(axis[place] for axis, place in zip(axes, places, strict=True))) for places in ranked)  # type: ignore[arg-type]


def setting(*, small: bool) -> Setting:
    """The published model on the GPU; the small one on the CPU, with small views."""
    if small:
        sizes = {"base_size": 128, "image_size": 64}
        config = FAMILY.bench().small_configuration()  # type: ignore[attr-defined]
        return Setting(config, "cpu", "float32", 3, 2, sizes, plan(GRIDS[:2], (1, 2)))
    return Setting(FAMILY.default_configuration(), "cuda", "bfloat16", 32, 5, {}, plan(GRIDS, BATCHES))


class Bench:
    """Runs cases until the budget is spent, and keeps the summary."""

    def __init__(self, setting: Setting, out: Path, budget_s: float) -> None:
        self._setting = setting
        self._out = out
        self._budget_s = budget_s
        self._began = time.perf_counter()
        self._models: dict[str, ModelOnDevice] = {}
        self._slowest_s = 0.0  # of a run, per pixel
        self._rows: list[dict[str, Any]] = []

    def run(self) -> int:
        """All cases that fit; gives how many were measured."""
        for case in self._setting.cases:
            # Two runs at least: to warm up and to measure.
            if self._left_s() <= 2 * self._slowest_s * case.pixels:
                self._note(case, {"skipped": f"{max(0.0, self._left_s()):.0f} s were left"})
                continue
            began = time.perf_counter()
            try:
                found = self._measured(case)
            except (ModelMeterError, RuntimeError) as error:
                self._note(case, {"error": str(error).splitlines()[0]})
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            self._slowest_s = max(self._slowest_s, found.run.max_s / case.pixels)
            number = sum("file" in row for row in self._rows) + 1
            path = found.save(self._out / f"{number:03}-{case.name}.json", force=True)
            self._note(case, _result(found, path, time.perf_counter() - began))
        return sum("file" in row for row in self._rows)

    def _left_s(self) -> float:
        return self._budget_s - (time.perf_counter() - self._began)

    def _measured(self, case: Case) -> Measurement:
        scenario, shared = self._setting.scenario(case), self._setting
        if case.attention not in self._models:
            self._models[case.attention] = build_model(FAMILY, shared.config, scenario, device=shared.device)
        return measure(
            FAMILY,
            shared.config,
            scenario,
            model=self._models[case.attention],
            repeats=shared.repeats,
            # Timers around thousands of modules are worth their time where modules are told apart best.
            modules=(case.batch, case.attention, case.execution) == (1, "sdpa", "eager"),
            most_s=min(MOST_CASE_S, self._left_s() / 2),
        )

    def _note(self, case: Case, result: dict[str, Any]) -> None:
        self._rows.append({"case": case.name, **asdict(case), **result})
        if "skipped" not in result:
            print(_line(case, result), flush=True)
        text = json.dumps({"cases": self._rows, "budget_s": self._budget_s}, indent=1, sort_keys=True)
        write_file(self._out / SUMMARY_FILE, f"{text}\n", force=True)


def _result(found: Measurement, path: Path, took_s: float) -> dict[str, Any]:
    return {
        "file": path.name,
        "device": found.device.name,
        "first_token_s": found.first_token_s,
        "token_s": found.token_s,
        "stages_s": {name: times.time_s for name, times in found.stages.items()},
        "memory_peak_bytes": found.memory_peak_bytes,
        "repeats": found.conditions.repeats,
        "took_s": round(took_s, 3),
    }


def _line(case: Case, result: dict[str, Any]) -> str:
    if "error" in result:
        return f"{case.name:36} {result['error'][:160]}"
    token_s = result["token_s"] or 0.0
    return (
        f"{case.name:36} first token {result['first_token_s'] * 1e3:10.2f} ms, then {token_s * 1e3:8.3f} ms, "
        f"peak {result['memory_peak_bytes'] / 1e9:6.2f} GB, took {result['took_s']:.1f} s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; exit code 1 if nothing could be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder for the results")
    parser.add_argument("--budget-s", type=float, default=540.0, help="seconds after which no case is begun")
    parser.add_argument("--cpu-small", action="store_true", help="the small model on the CPU, to try the script")
    options = parser.parse_args(arguments)
    if not options.cpu_small and not torch.cuda.is_available():
        print("there is no CUDA device; --cpu-small tries the script without one", file=sys.stderr)
        return 1
    measured = Bench(setting(small=options.cpu_small), options.out, options.budget_s).run()
    print(f"{measured} cases measured; {options.out / SUMMARY_FILE}")
    return 0 if measured else 1


if __name__ == "__main__":
    sys.exit(main())
