"""One run of a workload under a clock: its forwards and stages, or every module call in it."""

from __future__ import annotations

import contextlib
import functools
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from attrs import define, evolve, field, frozen
from torch import nn

from modelmeter.errors import ModelMeterError, TracingError
from modelmeter.families.bench import RunInputs
from modelmeter.families.protocol import ForwardCall
from modelmeter.measuring.clocks import Clock
from modelmeter.measuring.graphs import CapturedDecode
from modelmeter.schema.measurement import ModuleTimes
from modelmeter.tracing.backends.base import moved, wrapped_forwards
from modelmeter.tracing.modules import ModuleIds

StageOf = Callable[[str], str | None]
Interval = tuple[str, Any, Any]
"""A name, and the marks of its begin and end."""


@frozen
class Subject:
    """What is run: a module with its ids on a device, the clock there, and which stage a module belongs to."""

    module: nn.Module
    ids: ModuleIds
    device: str
    clock: Clock
    stage_of: StageOf

    def boundaries(self) -> dict[str, str]:
        """Modules where a stage begins, with the stage: those whose parent is in another."""
        found = {}
        for name in self.ids.modules:
            stage = self.stage_of(name)
            if stage is not None and self.stage_of(name.rpartition(".")[0]) != stage:
                found[name] = stage
        return found


@frozen
class RunTimes:
    """Seconds of one run: of its forwards by name, of its stages, and of the whole by the host's clock."""

    forwards: dict[str, float]
    stages: dict[str, float]
    whole_s: float


def timed_run(subject: Subject, inputs: RunInputs, captured: CapturedDecode | None = None) -> RunTimes:
    """Run once with a mark before and after each forward and each stage within it.

    ``captured`` takes the decode steps over from the model. Raises TracingError if the model raises.
    """
    marks: list[Interval] = []
    stages: list[Interval] = []
    boundaries = subject.boundaries()

    def wrap(name: str, _: nn.Module, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            begin = subject.clock.mark()
            output = original(*args, **kwargs)
            stages.append((boundaries[name], begin, subject.clock.mark()))
            return output

        return forward

    def run(call: ForwardCall) -> Any:
        begin = subject.clock.mark()
        output = subject.module(*call.args, **call.kwargs)
        marks.append((call.name, begin, subject.clock.mark()))
        return output

    def step(name: str, work: Callable[[], None]) -> None:
        begin = subject.clock.mark()
        work()
        marks.append((name, begin, subject.clock.mark()))

    marked = evolve(subject.ids, modules={name: subject.ids.modules[name] for name in boundaries})
    with wrapped_forwards(marked, wrap), _no_garbage_collection():
        began = time.perf_counter()
        drive(subject, inputs, run, captured, step)
        subject.clock.finish()
        whole_s = time.perf_counter() - began
    forwards = {name: subject.clock.seconds(begin, end) for name, begin, end in marks}
    return RunTimes(forwards, _stages(forwards, stages, subject.clock), whole_s)


def _stages(forwards: dict[str, float], marked: Sequence[Interval], clock: Clock) -> dict[str, float]:
    """Stages that add up to the forwards: what is marked, and the decoder's part as what is left."""
    names = list(forwards)
    spent: dict[str, float] = {}
    for stage, begin, end in marked:
        spent[stage] = spent.get(stage, 0.0) + clock.seconds(begin, end)
    spent["prefill"] = forwards[names[0]] - sum(spent.values())
    if len(names) > 1:
        spent["decode"] = sum(forwards[name] for name in names[1:])
    return spent


def drive(
    subject: Subject,
    inputs: RunInputs,
    run: Callable[[ForwardCall], Any],
    captured: CapturedDecode | None = None,
    step: Callable[[str, Callable[[], None]], None] = lambda _, work: work(),
) -> None:
    """Take the forwards of one run through ``run``, or the decode steps through ``step`` if captured."""
    choose = inputs.chooser()
    forwards = inputs.forwards(choose)
    running = ""
    try:
        with torch.no_grad():
            output: Any = None
            while True:
                try:
                    call = forwards.send(output)
                except StopIteration:
                    return
                running = call.name
                output = None
                call = ForwardCall(
                    call.name, moved(call.args, subject.device), moved(dict(call.kwargs), subject.device)
                )
                output = run(call)
                if captured is not None:
                    break
            captured.begin(call, output)
            chosen = choose(output.logits[:, -1])
            output = None
            for number in range(1, inputs.decode_steps + 1):
                if chosen is None:
                    return
                running = f"decode {number}"
                captured.ids.copy_(chosen)
                step(running, captured.step)
                chosen = choose(captured.logits)
    except ModelMeterError:
        raise
    except Exception as error:
        raise _explained(running, error) from error
    finally:
        forwards.close()


def _explained(running: str, error: Exception) -> TracingError:
    lines = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        remedy = "take a smaller --batch, a smaller page, --head last, or another --dtype"
    else:
        remedy = "check the scenario; the original error is attached"
    return TracingError(f"{running or 'the run'} raised {what}", remedy=remedy)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A collection in the middle of a run would be taken for the model's time."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@define
class _Call:
    """One call of a module; ``caller`` is its place in the list of calls."""

    name: str
    stage: str
    caller: int | None
    begin: Any
    end: Any = None
    outermost: bool = True


@define
class ModuleRun:
    """Every module call of one run, and the seconds of all forwards."""

    whole_s: float
    modules: dict[str, ModuleTimes] = field(factory=dict)
    stage_modules: dict[str, dict[str, ModuleTimes]] = field(factory=dict)


def module_run(subject: Subject, inputs: RunInputs) -> ModuleRun:
    """Run once with a timer around every module call. Own times add up to the whole."""
    calls: list[_Call] = []
    running: list[int] = []
    active: dict[str, int] = {}
    forward_name = ""

    def wrap(name: str, _: nn.Module, original: Callable[..., Any]) -> Callable[..., Any]:
        own_stage = subject.stage_of(name)

        @functools.wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            caller = running[-1] if running else None
            if forward_name.startswith("decode"):
                stage = "decode"
            else:
                stage = own_stage or (calls[caller].stage if caller is not None else "prefill")
            nested = active.get(name, 0)
            call = _Call(name, stage, caller, subject.clock.mark(), outermost=not nested)
            active[name] = nested + 1
            running.append(len(calls))
            calls.append(call)
            try:
                return original(*args, **kwargs)
            finally:
                call.end = subject.clock.mark()
                running.pop()
                active[name] = nested

        return forward

    def run(call: ForwardCall) -> Any:
        nonlocal forward_name
        forward_name = call.name
        return subject.module(*call.args, **call.kwargs)

    with wrapped_forwards(subject.ids, wrap), _no_garbage_collection():
        drive(subject, inputs, run)
        subject.clock.finish()
    return _module_times(calls, subject.clock)


def _module_times(calls: Sequence[_Call], clock: Clock) -> ModuleRun:
    spent = [clock.seconds(call.begin, call.end) for call in calls]
    own = list(spent)
    for call, seconds in zip(calls, spent, strict=True):
        if call.caller is not None:
            own[call.caller] -= seconds
    found = ModuleRun(sum(seconds for call, seconds in zip(calls, spent, strict=True) if call.caller is None))
    for call, seconds, alone in zip(calls, spent, own, strict=True):
        times = ModuleTimes(1, seconds if call.outermost else 0.0, alone)
        for into in (found.modules, found.stage_modules.setdefault(call.stage, {})):
            into[call.name] = into[call.name].plus(times) if call.name in into else times
    return found
