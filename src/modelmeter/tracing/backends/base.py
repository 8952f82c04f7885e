"""What a back end is, and the loop that all of them share: forward after forward, on one device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from attrs import field, frozen
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from modelmeter.errors import ModelMeterError, TracingError, UsageError
from modelmeter.families.protocol import ForwardCall, Forwards, RuntimeProbe
from modelmeter.schema.callgraph import CallGraph
from modelmeter.tracing.backends.calls import CallLog
from modelmeter.tracing.modules import ModuleIds
from modelmeter.tracing.probes import installed

DEVICES = ("cpu", "cuda")


@frozen
class Job:
    """One trace that a back end is asked for."""

    module: nn.Module
    forwards: Forwards
    ids: ModuleIds
    stage_of: Callable[[str], str | None] = lambda _: None
    probes: Sequence[RuntimeProbe] = ()
    model: Mapping[str, Any] = field(factory=dict)
    scenario: Mapping[str, Any] = field(factory=dict)
    max_events: int = 0
    progress: Callable[[str], None] = lambda _: None


class Backend(Protocol):
    """Runs a module with its real weights and says what it saw, as far as it can know it."""

    name: str
    run_on: str
    files: dict[str, str]
    """Name to content of what it drew or exported beside the document, after a run."""

    def run(self, job: Job) -> CallGraph:
        """Run the job's forwards; the module is left as it was, though on ``run_on``."""
        ...


def check_device(run_on: str) -> str:
    """Refuse a device that is not there."""
    if run_on not in DEVICES:
        raise UsageError(f"cannot run on {run_on!r}", remedy=f"choose {' or '.join(DEVICES)}")
    if run_on == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device", remedy="leave out --run-on, or choose cpu")
    return run_on


def run_forwards(
    job: Job,
    log: CallLog,
    run_on: str | None,
    run: Callable[[ForwardCall], Any],
    *,
    pause: Callable[[], Any] = contextlib.nullcontext,
    quiet: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """Take every forward of a job through ``run``; gives the runtime events.

    ``run_on`` None leaves the module and its inputs where they are. Runtime events are noted unless
    ``quiet()``. Raises TracingError naming the innermost module if the model raises.
    """
    check_weights(job.module)
    running = ""
    if run_on is not None:
        job.module.to(run_on)
    try:
        with installed(job.probes, lambda: "" if quiet() else running, pause) as events, torch.no_grad():
            output: Any = None
            while True:
                try:
                    call = job.forwards.send(output)
                except StopIteration:
                    break
                output = None
                running = call.name
                job.progress(call.name)
                if run_on is not None:
                    call = ForwardCall(call.name, moved(call.args, run_on), moved(dict(call.kwargs), run_on))
                output = run(call)
                running = ""
                del call
    except ModelMeterError:
        raise
    except Exception as error:
        raise explained(error, log, job.ids) from error
    finally:
        job.forwards.close()
    return [_with_ids(event, job.ids) for event in events]


def check_weights(module: nn.Module) -> None:
    """Refuse a module whose parameters have no values."""
    for name, parameter in module.named_parameters():
        if isinstance(parameter, FakeTensor) or parameter.is_meta:
            raise UsageError(
                f"parameter {name} has no values, and this back end runs the model for real",
                remedy="use the native back end, or build the module with its weights",
            )


def moved(value: Any, device: str) -> Any:
    """The same value with its tensors on a device; caches are left alone, they are made where they are used."""
    if isinstance(value, Tensor):
        return value.to(device)
    if type(value) in (list, tuple):
        return type(value)(moved(item, device) for item in value)
    if type(value) is dict:
        return {key: moved(item, device) for key, item in value.items()}
    return value


def explained(error: Exception, log: CallLog, ids: ModuleIds) -> TracingError:
    """The error of a model as one line with the innermost module that was running."""
    text = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {text[0] if text else 'no message'}"
    name = log.failed_in(error)
    if name is None:
        return TracingError(f"the run failed outside the model: {what}", remedy="check the scenario")
    return TracingError(
        f"module {name} ({type(ids.modules[name]).__name__}) raised {what}",
        remedy="check the module and its inputs; the original error is attached",
    )


@contextlib.contextmanager
def wrapped_forwards(
    ids: ModuleIds, wrap: Callable[[str, nn.Module, Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """Replace every module's ``forward`` for the time of a block, and leave nothing behind.

    Unlike hooks this also sees a module that is entered through ``.forward`` directly.
    """
    replaced: list[tuple[nn.Module, bool, Any]] = []
    try:
        for name, module in ids.modules.items():
            original = module.forward
            replaced.append((module, "forward" in module.__dict__, original))
            module.__dict__["forward"] = wrap(name, module, original)
        yield
    finally:
        for module, had, original in replaced:
            if had:
                module.__dict__["forward"] = original
            else:
                module.__dict__.pop("forward", None)


def _with_ids(event: dict[str, Any], ids: ModuleIds) -> dict[str, Any]:
    name = event.get("module")
    return {**event, "module": ids.by_name.get(name, name)} if isinstance(name, str) else event
