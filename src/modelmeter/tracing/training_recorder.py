"""A recorder that also attributes backwards: to the modules whose forwards made the operations.

A backward is one more entry among the forwards, and one more stage, both named ``backward``. It has
operations and costs; its call counts are those of modules that it runs again (checkpointing), so the
document's call counts stay the number of forward calls unless modules are run again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from modelmeter.schema.callgraph import BACKWARD
from modelmeter.tracing.accounts import add_costs, add_flops
from modelmeter.tracing.frames import Frame
from modelmeter.tracing.recorder import Recorder
from modelmeter.tracing.training_calls import CallTimeline, ModuleCall


class TrainingRecorder(Recorder):
    """Records forwards and the backwards that follow them, and what hooks of the traced module itself compute."""

    def __init__(self, module: nn.Module, names: dict[int, str], execute: Any, **options: Any) -> None:
        super().__init__(module, names, execute, **options)
        self._root = names[id(module)]
        self._timeline = CallTimeline(module, names)
        self._backward: dict[ModuleCall, Frame] = {}
        self._in_forward = False
        self._beside: Frame | None = None
        """What runs in a forward outside of all modules: the root's hooks."""

    @property
    def where(self) -> str:
        """The innermost module that is running, or whose backward is; empty outside of both."""
        if self._frames:
            return super().where
        call = self._call_of_backward()
        return call.name if call is not None else ""

    @property
    def is_backward(self) -> bool:
        """Whether what is recorded now is a backward."""
        return bool(self.forwards) and self.forwards[-1].name.startswith(BACKWARD)

    def begin_forward(self, name: str) -> None:
        """All that follows belongs to this forward, or backward."""
        super().begin_forward(name)
        self._in_forward = not self.is_backward

    def end_forward(self) -> None:
        """Add every call's part of a backward to the calls that made it; of a forward, what hooks did to the root."""
        if self._beside is not None:
            _add_to_account(self._beside)
            self._beside = None
        if self._in_forward:
            super().end_forward()
        self._in_forward = False
        frames = self._backward
        for depth in range(max((call.depth for call in frames), default=-1), -1, -1):
            for call in [call for call in frames if call.depth == depth]:
                frame = frames[call]
                _add_to_account(frame, within_itself=call.is_within_itself())
                if call.parent is not None:
                    _add(self._backward_frame(call.parent), frame)
        self._backward = {}

    def _call_of_backward(self) -> ModuleCall | None:
        node = torch._C._current_autograd_node()
        return None if node is None else self._timeline.call_of(node)

    def _outside(self) -> Frame | None:
        if self.is_backward:
            call = self._call_of_backward()
            return None if call is None else self._backward_frame(call)
        if self._in_forward and self._beside is None:
            forward = self.forwards[-1]
            stage = self.stage_of(self._root) or "prefill"
            self._beside = Frame(self._root, forward.modules[self._root], stage, forward.stage(stage))
        return self._beside

    def _backward_frame(self, call: ModuleCall) -> Frame:
        frame = self._backward.get(call)
        if frame is None:
            forward = self.forwards[-1]
            frame = Frame(call.name, forward.modules[call.name], BACKWARD, forward.stage(BACKWARD))
            self._backward[call] = frame
        return frame

    def _enter(self, name: str, *arguments: Any) -> Frame:
        again = not self._frames and self.is_backward
        frame = super()._enter(name, *arguments)
        known = self._timeline.latest(name) if again else None
        parent = known.parent if known is not None else None
        if parent is not None:
            self.forwards[-1].edges[f"{parent.name}->{name}"] += 1
        self._timeline.enter(name, parent)
        return frame

    def _exit(self, frame: Frame, result: Any) -> None:
        super()._exit(frame, result)
        self._left(frame)

    def _abandon(self, frame: Frame) -> None:
        super()._abandon(frame)
        if self.is_backward:  # checkpointing stops a module once it has what it needs
            _add_to_account(frame, within_itself=self._running[frame.name] > 0)
        self._left(frame)

    def _left(self, frame: Frame) -> None:
        self._timeline.leave(len(self._frames))
        call = self._timeline.latest(frame.name)
        if not self._frames and self.is_backward and call is not None and call.parent is not None:
            _add(self._backward_frame(call.parent), frame)  # what ran it again is a step of its caller's backward


def has_hooks(module: nn.Module) -> bool:
    """Whether calling a module runs more than its forward."""
    everybody = torch.nn.modules.module
    return any(
        (
            module._forward_pre_hooks,
            module._forward_hooks,
            everybody._global_forward_pre_hooks,
            everybody._global_forward_hooks,
        )
    )


def _add_to_account(frame: Frame, *, within_itself: bool = False) -> None:
    """A module within itself is part of its outer call's total already."""
    if not within_itself:
        add_costs(frame.account.total, frame.costs)
        add_flops(frame.account.total_by_dtype, frame.by_dtype)
    frame.account.peak = max(frame.account.peak, frame.peak)


def _add(into: Frame, frame: Frame) -> None:
    add_costs(into.costs, frame.costs)
    add_flops(into.by_dtype, frame.by_dtype)
    into.peak = max(into.peak, frame.peak)
