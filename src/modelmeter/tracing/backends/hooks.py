"""Forward hooks alone: who called whom on which shapes, at no cost per operation.

Hooks run when a module is called. A module that is entered through ``.forward`` directly is not seen,
nor is one whose hooks ``torch.compile`` left out; its operations and its callees are its caller's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from modelmeter.families.protocol import ForwardCall
from modelmeter.schema.callgraph import CallGraph
from modelmeter.tracing.backends.base import Job, check_device, run_forwards
from modelmeter.tracing.backends.calls import CallLog
from modelmeter.tracing.backends.report import call_graph
from modelmeter.tracing.modules import ModuleIds
from modelmeter.tracing.signatures import SignatureReader, argument_names, read_output


class HooksBackend:
    """Counts, edges, shapes, events and cache sizes; no operations, costs or data edges."""

    name = "hooks"

    def __init__(self, *, run_on: str | None = None) -> None:
        self.run_on = check_device(run_on) if run_on is not None else ""
        self.files: dict[str, str] = {}

    def run(self, job: Job) -> CallGraph:
        """Run the job's forwards under hooks."""
        log = CallLog(job.stage_of, job.max_events)

        def run(call: ForwardCall) -> Any:
            log.begin_forward(call.name)
            output = job.module(*call.args, **call.kwargs)
            log.end_forward()
            return output

        with hooked(job.ids, log):
            events = run_forwards(job, log, self.run_on or None, run)
        return call_graph(job, log, backend=self.name, runtime_events=events)


@contextmanager
def hooked(ids: ModuleIds, log: CallLog) -> Iterator[None]:
    """Hooks on every module for the time of a block; they come off however it ends."""
    handles: list[Any] = []
    try:
        for name, module in ids.modules.items():
            before, after = _hooks(name, module, log)
            # Like a wrapped forward: within the user's own hooks, not around them.
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(module.register_forward_hook(after, prepend=True, always_call=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hooks(name: str, module: nn.Module, log: CallLog) -> tuple[Any, Any]:
    reader = SignatureReader(argument_names(module.forward))
    layer_idx = getattr(module, "layer_idx", None)
    layer = layer_idx if isinstance(layer_idx, int) else None

    def before(_: nn.Module, args: Any, kwargs: Any) -> None:
        signature, _tensors, caches = reader.read(args, kwargs)
        for cache in caches:
            log.note_cache(cache, name, layer)
        log.enter(name, signature)

    def after(_: nn.Module, args: Any, output: Any) -> None:
        error = sys.exc_info()[1]
        if output is None and error is not None:
            log.fail(name, error)
            return
        signature, _tensors, caches = read_output(output)
        for cache in caches:
            log.note_cache(cache, name, None)
        log.exit(name, signature)

    return before, after
