"""One trace: a module, its forwards, and how they are run; the call graph comes out."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from attrs import field, frozen
from torch import nn

from modelmeter.errors import ModelMeterError, TracingError, UsageError
from modelmeter.families.protocol import Forwards, RuntimeProbe
from modelmeter.routing import BalancedRouting, RoutingPolicy
from modelmeter.schema.callgraph import BACKWARD, CallGraph
from modelmeter.tracing.backends import Backend, Job, make_backend
from modelmeter.tracing.devices import HostFunctions, pretend_gpu
from modelmeter.tracing.document import call_graph
from modelmeter.tracing.modules import ModuleIds, expert_counts, module_ids
from modelmeter.tracing.probes import installed, modes_paused
from modelmeter.tracing.recorder import Execute, Recorder
from modelmeter.tracing.replay import Replayer
from modelmeter.tracing.shape_only import fake_mode_of, new_fake_mode, weightless_parameters
from modelmeter.tracing.training import Loss, kept_buffers, run_backward, training_mode
from modelmeter.tracing.training_recorder import TrainingRecorder, has_hooks
from modelmeter.tracing.values import ValuePolicy
from modelmeter.tracing.weightless import DEFAULT_REAL_LIMIT_BYTES, WeightlessExecutor
from modelmeter.tracing.wrappers import of_modules_as_written

Progress = Callable[[str], None]
R = TypeVar("R", bound=Recorder)


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
    forward's operators by module, which a report from the document needs. ``training`` runs a backward
    after the forward, from gradients of ones for its outputs or from the number that ``loss`` makes of them.
    ``replay`` writes a call like an earlier one down again in place of running it; the document is the same.
    """

    weightless: bool = True
    routing: RoutingPolicy = field(factory=BalancedRouting)
    max_events: int = 0
    tensor_details: bool = False
    real_limit_bytes: int = DEFAULT_REAL_LIMIT_BYTES
    forward_operators: bool = False
    training: bool = False
    loss: Loss | None = None
    replay: bool = True
    backend: Backend | None = field(default=None, converter=_as_backend)

    def __attrs_post_init__(self) -> None:
        if self.loss is not None and not self.training:
            raise UsageError("a loss is for a backward only", remedy="set training=True, or leave it out")


@of_modules_as_written
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
        if options.training:
            raise UsageError("a backward is recorded by the native back end only", remedy="leave out the back end")
        max_events = options.max_events
        return options.backend.run(
            Job(module, forwards, ids, stage_of, probes, model or {}, scenario or {}, max_events, progress)
        )
    policy = ValuePolicy(options.routing, expert_counts(module.modules()))
    kind = TrainingRecorder if options.training or has_hooks(module) else Recorder
    with contextlib.ExitStack() as stack:
        if options.training:
            stack.enter_context(training_mode(module))
        stack.enter_context(kept_buffers(module))
        running = ""
        runtime_events = stack.enter_context(installed(probes, lambda: running, modes_paused))
        stack.enter_context(torch.enable_grad() if options.training else torch.no_grad())
        stack.enter_context(_no_garbage_collection())
        recorder = stack.enter_context(recording(module, ids, options, policy=policy, kind=kind, stage_of=stage_of))
        if recorder.replayer is not None:
            recorder.replayer.watch(probes, runtime_events, ids.by_name)
        try:
            output: Any = None
            while True:
                try:
                    call = forwards.send(output)
                except StopIteration:
                    break
                output = None
                if options.training and recorder.forwards:
                    raise UsageError("a run of several forwards has no backward", remedy="trace no decode steps")
                running = call.name
                progress(call.name)
                policy.begin_forward(len(recorder.forwards))
                recorder.begin_forward(call.name)
                output = module(*call.args, **call.kwargs)
                recorder.end_forward()
                if options.training:
                    progress(BACKWARD)
                    recorder.begin_forward(BACKWARD)
                    run_backward(output, options.loss)
                    recorder.end_forward()
                running = ""
                del call
        except ModelMeterError:
            raise
        except Exception as error:
            raise _explained(error, recorder, ids, running) from error
        finally:
            forwards.close()
    with _no_garbage_collection():  # many small objects, none of them garbage
        return call_graph(
            recorder,
            ids,
            model=model or {},
            scenario=scenario or {},
            runtime_events=[_with_ids(event, ids) for event in runtime_events],
            backend="native",
            forward_operators=options.forward_operators,
        )


@contextlib.contextmanager
def recording(
    module: nn.Module,
    ids: ModuleIds,
    options: TraceOptions,
    *,
    policy: ValuePolicy,
    kind: Callable[..., R],
    stage_of: Callable[[str], str | None] = lambda _: None,
) -> Iterator[R]:
    """Record what runs in a block, without weights or with them, by a recorder of some kind."""
    recorder: R

    with contextlib.ExitStack() as stack:
        execute: Execute = _run_for_real
        host: Any = contextlib.nullcontext()
        if options.weightless:
            mode = fake_mode_of(module) or new_fake_mode()
            stack.enter_context(weightless_parameters(module, mode))
            executor = WeightlessExecutor(
                mode,
                policy,
                note=lambda *noted: recorder.assume(*noted),
                on_alias=lambda stand_in, original: recorder.storages.alias(stand_in, original),
                real_limit_bytes=options.real_limit_bytes,
            )
            execute = executor.run
            host = HostFunctions(executor)
            stack.enter_context(pretend_gpu())
        recorder = kind(
            module,
            ids.by_identity,
            execute,
            stage_of=stage_of,
            max_events=options.max_events,
            tensor_details=options.tensor_details,
        )
        if options.replay and options.weightless and type(recorder) is Recorder:
            recorder.replayer = Replayer(recorder, executor, module, ids.by_identity)
            stack.enter_context(recorder.replayer.watching())
        stack.enter_context(recorder.attached())
        stack.enter_context(recorder)
        stack.enter_context(host)
        yield recorder


def _with_ids(event: dict[str, Any], ids: ModuleIds) -> dict[str, Any]:
    """A runtime event whose module is named as in the document."""
    name = event.get("module")
    return {**event, "module": ids.by_name.get(name, name)} if isinstance(name, str) else event


def _run_for_real(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return func(*args, **kwargs)


def _explained(error: Exception, recorder: Recorder, ids: ModuleIds, running: str) -> TracingError:
    name = recorder.failed_in
    what = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
    if name is not None:
        return TracingError(
            f"module {name} ({type(ids.modules[name]).__name__}) raised {what}",
            remedy="check the module and its inputs; the original error is attached",
        )
    if not running:
        return TracingError(f"the example inputs could not be made: {what}", remedy="check the scenario")
    part = "the backward" if recorder.forwards[-1].name == BACKWARD else f"a hook of {ids.root}"
    return TracingError(f"{part} raised {what}", remedy="check that it runs alone; the original error is attached")


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
