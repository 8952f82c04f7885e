"""``modelmeter.record``: what a region of a user's own script does with a module, as a call graph.

The region runs as it would without it, with the weights that the module has; a module that was built
without weights, or options that say so, run weightlessly. Every call of the module from outside of it
is a forward of the document, and every backward that follows one is one as well.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import torch
from torch import nn

from modelmeter.errors import UsageError
from modelmeter.schema.callgraph import BACKWARD, CallGraph
from modelmeter.tracing.document import call_graph
from modelmeter.tracing.modules import expert_counts, module_ids
from modelmeter.tracing.runner import TraceOptions, recording
from modelmeter.tracing.shape_only import fake_mode_of
from modelmeter.tracing.training import kept_buffers
from modelmeter.tracing.training_recorder import TrainingRecorder
from modelmeter.tracing.values import ValuePolicy
from modelmeter.tracing.wrappers import as_written, unwrapped

_FIELDS = frozenset(field.name for field in attrs.fields(CallGraph))


class RegionRecorder(TrainingRecorder):
    """Begins a forward at every call from outside of the module, and a backward where autograd runs."""

    on_begin: Callable[[int], None]

    def begin_forward(self, name: str) -> None:
        """What was recorded before is complete; this is the next of its kind."""
        self.end_forward()
        number = 1 + sum(forward.name.startswith(name) for forward in self.forwards)
        self.on_begin(len(self.forwards))
        super().begin_forward(f"{name} {number}")

    def _wrap(self, module: nn.Module, original: Callable[..., Any]) -> Callable[..., Any]:
        recorded = super()._wrap(module, original)

        @functools.wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            if self._frames:
                return recorded(*args, **kwargs)
            if torch._C._current_autograd_node() is not None:
                self._begin_backward()  # it runs a module again
                return recorded(*args, **kwargs)
            self.begin_forward("forward")
            try:
                return recorded(*args, **kwargs)
            finally:
                self.end_forward()

        return forward

    def _outside(self) -> Any:
        if self._call_of_backward() is None:
            return None
        self._begin_backward()
        return super()._outside()

    def _begin_backward(self) -> None:
        if not self.is_backward:
            self.begin_forward(BACKWARD)


class _Unfilled(CallGraph):
    """A call graph whose region has not ended: it says so to whoever reads it."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name in _FIELDS or (not name.startswith("_") and hasattr(CallGraph, name)):
            raise UsageError(
                f"the recording is not complete, and its {name} is not known yet",
                remedy="read the graph after the with block",
            )
        return super().__getattribute__(name)

    def __repr__(self) -> str:
        return "<CallGraph of a recording that is not complete>"

    def fill(self, graph: CallGraph) -> None:
        """Become this graph."""
        object.__setattr__(self, "__class__", CallGraph)
        for name in _FIELDS:
            setattr(self, name, getattr(graph, name))


@contextlib.contextmanager
def record(module: nn.Module, *, options: TraceOptions | None = None) -> Iterator[CallGraph]:
    """Record what a block does with a module; the graph is filled when the block ends.

    ``with record(module) as graph:`` runs the block's code as it is: gradients are recorded where it
    asks for them, and what it computes outside of the module's calls and their backwards is not counted,
    though the storage that it holds is. Without ``options`` the module runs with its weights, or
    weightlessly where it was built without any. Raises UsageError where nothing of the module ran, where
    the graph is read too early, and for what cannot be traced; the block's own errors pass unchanged.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(
            f"cannot record a {type(module).__name__}",
            remedy="give a torch.nn.Module; several go together in a torch.nn.ModuleDict",
        )
    module = unwrapped(module)
    options = options or TraceOptions(weightless=fake_mode_of(module) is not None)
    if options.backend is not None or options.training:
        raise UsageError(
            "a region is recorded by the native back end, and its backward is the script's own",
            remedy="leave out backend and training",
        )
    graph = CallGraph.__new__(_Unfilled)
    # Without weights nothing is learned, so running means and counters stay as they are, too.
    with as_written(module), kept_buffers(module) if options.weightless else contextlib.nullcontext():
        ids = module_ids(module)
        policy = ValuePolicy(options.routing, expert_counts(module.modules()))
        session = recording(module, ids, options, policy=policy, kind=RegionRecorder)
        with session as recorder:
            recorder.on_begin = policy.begin_forward
            yield graph
            recorder.end_forward()
    if not recorder.forwards:
        raise UsageError(
            f"nothing of {ids.root} ran while it was recorded", remedy="call the module within the with block"
        )
    graph.fill(
        call_graph(
            recorder,
            ids,
            model={"name": ids.root},
            scenario={},
            runtime_events=[],
            backend="native",
            forward_operators=options.forward_operators,
        )
    )
