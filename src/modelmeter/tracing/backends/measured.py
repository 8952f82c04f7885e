"""From profiler events to times: every moment of a run belongs to the innermost module call, once.

Times are in milliseconds. A module's own time is what passed in it outside its callees, operations and
Python together; its total is its own and its callees'. An operator's time is what passed in it outside
the operators that it calls, so that operators add up to no more than the module's own time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from attrs import define, field
from torch._C._autograd import DeviceType

MODULE = "module: "
"""What the name of a module call's range begins with."""


@define
class OperatorTime:
    """One operator in one module, its own time only."""

    calls: int = 0
    own_ms: float = 0.0
    device_ms: float = 0.0


@define
class ModuleTime:
    """One module in one run of one forward."""

    calls: int = 0
    own_ms: float = 0.0
    total_ms: float = 0.0
    device_own_ms: float = 0.0
    device_total_ms: float = 0.0
    operators: dict[str, OperatorTime] = field(factory=dict)


@define
class RunTimes:
    """One run of one forward: the clock around it, and what the profiler saw within."""

    wall_ms: float
    modules: dict[str, ModuleTime] = field(factory=dict)
    kernels: Counter[str] = field(factory=Counter)
    kernel_ms: dict[str, float] = field(factory=dict)


class EventReader:
    """Reads the event tree of one profiled run."""

    def __init__(self, ids: Mapping[str, Any]) -> None:
        self._ids = ids
        self._running: Counter[str] = Counter()
        self._times = RunTimes(0.0)

    def read(self, events: Any, wall_ms: float) -> RunTimes:
        """Times of every module that ran."""
        self._times = RunTimes(wall_ms)
        for event in events:
            if event.cpu_parent is None and event.device_type == DeviceType.CPU:
                self._outside(event)
        return self._times

    def _outside(self, event: Any) -> None:
        if self._module_of(event) is not None:
            self._module_call(event)
            return
        for child in event.cpu_children:
            self._outside(child)

    def _module_of(self, event: Any) -> str | None:
        name = event.name.removeprefix(MODULE)
        return name if event.is_user_annotation and name != event.name and name in self._ids else None

    def _module_call(self, event: Any) -> tuple[float, float]:
        """Count one module call; gives its total on the host and on the device."""
        name = event.name.removeprefix(MODULE)
        self._running[name] += 1
        module = self._times.modules.setdefault(name, ModuleTime())
        total = event.time_range.elapsed_us() / 1e3
        callees, device_callees, device_own = 0.0, 0.0, 0.0
        waiting = list(event.cpu_children)
        while waiting:
            child = waiting.pop()
            if self._module_of(child) is not None:
                spent, device_spent = self._module_call(child)
                callees += spent
                device_callees += device_spent
                continue
            waiting += child.cpu_children
            if "::" in child.name:
                device_own += self._operator(child, module)
        self._running[name] -= 1
        module.calls += 1
        module.own_ms += total - callees
        module.device_own_ms += device_own
        if not self._running[name]:
            # A module within itself is part of its outer call's total already.
            module.total_ms += total
            module.device_total_ms += device_own + device_callees
        return total, device_own + device_callees

    def _operator(self, event: Any, module: ModuleTime) -> float:
        operator = module.operators.setdefault(event.name.replace("::", "."), OperatorTime())
        operator.calls += 1
        operator.own_ms += (event.time_range.elapsed_us() - _within_us(event)) / 1e3
        device_ms = 0.0
        for kernel in event.kernels:
            device_ms += kernel.duration / 1e3
            self._times.kernels[kernel.name] += 1
            self._times.kernel_ms[kernel.name] = self._times.kernel_ms.get(kernel.name, 0.0) + kernel.duration / 1e3
        operator.device_ms += device_ms
        return device_ms


def _within_us(event: Any) -> float:
    """Time in the nearest operators and module calls below an event; the runtime's own calls stay its."""
    within = 0.0
    waiting = list(event.cpu_children)
    while waiting:
        child = waiting.pop()
        if "::" in child.name or child.name.startswith(MODULE):
            within += child.time_range.elapsed_us()
        else:
            waiting += child.cpu_children
    return within


def times_document(runs: Mapping[str, RunTimes], *, root: str, on_device: bool) -> dict[str, Any]:
    """``CallGraph.times``: id to times summed over the forwards, and forward by forward."""
    times: dict[str, Any] = {}
    for forward, run in runs.items():
        for name, module in run.modules.items():
            entry = times.setdefault(name, {**_of_module(ModuleTime(), on_device), "operators": {}, "forwards": []})
            part = _of_module(module, on_device)
            for key, value in part.items():
                entry[key] += value
            of_root = {"wall_ms": run.wall_ms} if name == root else {}
            entry["forwards"].append({"name": forward, **part, **of_root})
            for operator, spent in module.operators.items():
                into = entry["operators"].setdefault(operator, _of_operator(OperatorTime(), on_device))
                for key, value in _of_operator(spent, on_device).items():
                    into[key] += value
    return {name: _rounded(entry) for name, entry in times.items()}


def _of_module(module: ModuleTime, on_device: bool) -> dict[str, Any]:
    host = {"calls": module.calls, "own_ms": module.own_ms, "total_ms": module.total_ms}
    device = {"device_own_ms": module.device_own_ms, "device_total_ms": module.device_total_ms}
    return {**host, **device} if on_device else host


def _of_operator(operator: OperatorTime, on_device: bool) -> dict[str, Any]:
    host = {"calls": operator.calls, "own_ms": operator.own_ms}
    return {**host, "device_ms": operator.device_ms} if on_device else host


def _rounded(value: Any) -> Any:
    """To nanoseconds, so that sums do not drag their rounding errors along."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
