"""One trace: a module, its forwards, and how they are run; the call graph comes out."""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from attrs import field, frozen
from torch import nn

from modelmeter.errors import ModelMeterError, TracingError
from modelmeter.families.protocol import Forwards, RuntimeProbe
from modelmeter.routing import BalancedRouting, RoutingPolicy
from modelmeter.schema.callgraph import CallGraph
from modelmeter.tracing.backends import Backend, Job, make_backend
from modelmeter.tracing.devices import HostFunctions, pretend_gpu
from modelmeter.tracing.document import AssumptionKey, call_graph
from modelmeter.tracing.modules import ModuleIds, expert_counts, module_ids
from modelmeter.tracing.probes import installed, modes_paused
from modelmeter.tracing.recorder import Execute, Recorder
from modelmeter.tracing.shape_only import fake_mode_of, new_fake_mode, weightless_parameters
from modelmeter.tracing.values import ValuePolicy
from modelmeter.tracing.weightless import DEFAULT_REAL_LIMIT_BYTES, WeightlessExecutor

Progress = Callable[[str], None]


def _as_backend(value: Backend | str | None) -> Backend | None:
    return make_backend(value) if isinstance(value, str) else value


@frozen
class TraceOptions:
    """How a trace is run.

    ``backend`` is who runs it, by name or as an object of ``tracing.backends``; the native one (None) if
    not given, to which the other options but ``max_events`` belong.
    ``weightless`` False runs the module with the weights it has. ``max_events`` bounds the list of
    enter and exit events (0: none). ``tensor_details`` adds device and requires_grad to signatures.
    A real result above ``real_limit_bytes`` becomes shape-only. ``forward_operators`` writes down every
    forward's operators by module, which a report from the document needs.
    """

    weightless: bool = True
    routing: RoutingPolicy = field(factory=BalancedRouting)
    max_events: int = 0
    tensor_details: bool = False
    real_limit_bytes: int = DEFAULT_REAL_LIMIT_BYTES
    forward_operators: bool = False
    backend: Backend | None = field(default=None, converter=_as_backend)


def trace_forwards(
    module: nn.Module,
    forwards: Forwards,
    *,
    options: TraceOptions | None = None,
    core: str = "",
    stage_of: Callable[[str], str | None] = lambda _: None,
    probes: Sequence[RuntimeProbe] = (),
    model: dict[str, Any] | None = None,
    scenario: dict[str, Any] | None = None,
    progress: Progress = lambda _: None,
) -> CallGraph:
    """Run the forwards of a module and record them.

    Raises TracingError naming the innermost module if the module raises; the module is left as it was.
    """
    options = options or TraceOptions()
    ids = module_ids(module, core)
    if options.backend is not None:
        max_events = options.max_events
        return options.backend.run(
            Job(module, forwards, ids, stage_of, probes, model or {}, scenario or {}, max_events, progress)
        )
    assumptions: Counter[AssumptionKey] = Counter()
    policy = ValuePolicy(options.routing, expert_counts(module.modules()))
    recorder: Recorder

    def note(operator: str, rule: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        if recorder.where:
            assumptions[recorder.where, operator, rule, shape, str(dtype)] += 1

    with contextlib.ExitStack() as stack:
        if options.weightless:
            mode = fake_mode_of(module) or new_fake_mode()
            stack.enter_context(weightless_parameters(module, mode))
            executor = WeightlessExecutor(
                mode,
                policy,
                note=note,
                on_alias=lambda stand_in, original: recorder.storages.alias(stand_in, original),
                real_limit_bytes=options.real_limit_bytes,
            )
            execute: Execute = executor.run
            host: Any = HostFunctions(executor)
            stack.enter_context(pretend_gpu())
        else:
            execute = _run_for_real
            host = contextlib.nullcontext()
        recorder = Recorder(
            module,
            ids.by_identity,
            execute,
            stage_of=stage_of,
            max_events=options.max_events,
            tensor_details=options.tensor_details,
        )
        running = ""
        runtime_events = stack.enter_context(installed(probes, lambda: running, modes_paused))
        stack.enter_context(recorder.attached())
        stack.enter_context(torch.no_grad())
        stack.enter_context(_no_garbage_collection())
        stack.enter_context(recorder)
        stack.enter_context(host)
        try:
            output: Any = None
            while True:
                try:
                    call = forwards.send(output)
                except StopIteration:
                    break
                output = None
                running = call.name
                progress(call.name)
                policy.begin_forward(len(recorder.forwards))
                recorder.begin_forward(call.name)
                output = module(*call.args, **call.kwargs)
                recorder.end_forward()
                running = ""
                del call
        except ModelMeterError:
            raise
        except Exception as error:
            raise _explained(error, recorder, ids.modules) from error
        finally:
            forwards.close()
    with _no_garbage_collection():  # many small objects, none of them garbage
        return call_graph(
            recorder,
            ids,
            model=model or {},
            scenario=scenario or {},
            assumptions=assumptions,
            runtime_events=[_with_ids(event, ids) for event in runtime_events],
            backend="native",
            forward_operators=options.forward_operators,
        )


def _with_ids(event: dict[str, Any], ids: ModuleIds) -> dict[str, Any]:
    """A runtime event whose module is named as in the document."""
    name = event.get("module")
    return {**event, "module": ids.by_name.get(name, name)} if isinstance(name, str) else event


def _run_for_real(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return func(*args, **kwargs)


def _explained(error: Exception, recorder: Recorder, modules: dict[str, nn.Module]) -> TracingError:
    name = recorder.failed_in
    what = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
    if name is None:
        return TracingError(f"the example inputs could not be made: {what}", remedy="check the scenario")
    return TracingError(
        f"module {name} ({type(modules[name]).__name__}) raised {what}",
        remedy="check the module and its inputs; the original error is attached",
    )


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Tensors die when their last reference goes, at the same operation in every run."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
