"""Replay of module calls: what ran once on like inputs is written down again, not run again.

A call is replayed from an earlier one if everything that it can see has the same description: the tree
of its module, its arguments, and torch's own settings. Any doubt about an earlier call means that it is
no recording, and that calls like it are run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from attrs import define, frozen
from torch import Tensor, nn

from modelmeter.families.protocol import RuntimeProbe
from modelmeter.tracing.accounts import CostList, DtypeFlops, ForwardAccount, add_costs, add_flops
from modelmeter.tracing.frames import Frame
from modelmeter.tracing.operators import Operator
from modelmeter.tracing.probes import modes_paused
from modelmeter.tracing.recorder import Recorder
from modelmeter.tracing.replay_caches import CacheView, describe_layer, view_cache
from modelmeter.tracing.replay_description import CannotDescribeError, Description, Known
from modelmeter.tracing.replay_journal import Journal, add_forward, add_journal
from modelmeter.tracing.replay_modules import ModuleReader, Place
from modelmeter.tracing.replay_places import watched_places
from modelmeter.tracing.replay_purity import CacheTensors, OpenCall, Seen
from modelmeter.tracing.replay_results import Results
from modelmeter.tracing.replay_surroundings import attributes, has_global_hooks, modes, random_states, settings
from modelmeter.tracing.weightless import WeightlessExecutor

UNREADABLE = (CannotDescribeError, AttributeError, LookupError, TypeError, ValueError)
"""What reading a value may raise: an object's own attributes and fields are its own code."""


@frozen
class Recording:
    """What one call did, apart from where and when it did it.

    ``names`` are the ids of its module's tree, ``base_bytes`` the bytes live when it began. ``tainted`` are
    numbers of arguments that it wrote something shape-only into, ``gone`` those of
    tensors in caches that had died when most was live, ``cache_uses`` the modules that were handed a cache:
    the module, which cache, and whether as the one of its layer.
    """

    names: tuple[str, ...]
    base_bytes: int
    journal: Journal
    forward: ForwardAccount
    costs: CostList
    by_dtype: DtypeFlops
    peak: int
    results: Results
    tainted: tuple[int, ...]
    gone: tuple[int, ...]
    cache_uses: tuple[tuple[str, int, bool], ...]
    decisions: int
    runtime_events: tuple[dict[str, Any], ...]


@frozen
class Question:
    """A call as it is seen before it runs."""

    key: Hashable
    """Of all but the indices in its module's tree."""
    places: tuple[Place, ...]
    seen: Seen
    description: Description
    names: tuple[str, ...]
    views: list[CacheView]
    layer: int | None


@define(eq=False)
class Attempt:
    """A call that is replayed (``known``), or recorded while it runs."""

    replayer: Replayer
    module: nn.Module
    frame: Frame
    known: Recording | None = None
    question: Question | None = None
    open: OpenCall | None = None

    def replay(self) -> Any:
        """Write down what the earlier call did; gives its results, made of this call's arguments."""
        assert self.known is not None and self.question is not None
        return self.replayer.play(self.known, self.question, self.frame)

    def finish(self, args: Any, kwargs: Any, result: Any) -> None:
        """The call has run: keep what it did, if it was pure."""
        assert self.open is not None
        self.replayer.close(self.open)
        self.replayer.keep(self.open, self.module, args, kwargs, result)


class Replayer:
    """Decides, call by call, whether to replay or to record, for one trace."""

    def __init__(
        self, recorder: Recorder, executor: WeightlessExecutor, module: nn.Module, names: dict[int, str]
    ) -> None:
        self._recorder = recorder
        self._storages = recorder.storages
        self._executor = executor
        self._known = Known(executor)
        self._names = names
        self._reader = ModuleReader(recorder.is_own, frozenset(), names)
        self._recordings: dict[Hashable, Recording | None] = {}
        self._open: list[OpenCall] = []
        self._of_class = Counter(type(submodule) for submodule in module.modules())
        self._called: set[str] = set()
        self._modes: tuple[int, int] | None = None
        self._stages: dict[str, str | None] = {}
        self._root = module
        self._runtime_events: list[dict[str, Any]] = []
        self._event_names: Mapping[str, str] = {}
        self._ids: dict[str, str] = {}
        recorder.storages.on_stray = lambda: self.doubt("a tensor that no operation was seen to make")
        recorder.storages.on_death = self._on_death
        executor.on_read = self._on_read

    def watch(self, probes: Sequence[RuntimeProbe], events: list[dict[str, Any]], by_name: Mapping[str, str]) -> None:
        """Runtime patches are part of a call: their events are repeated with it."""
        self._reader = ModuleReader(
            self._recorder.is_own, frozenset((id(probe.owner), probe.method) for probe in probes), self._names
        )
        self._runtime_events = events
        self._ids = dict(by_name)
        self._event_names = {identity: name for name, identity in by_name.items()}

    # -- while the model runs ----------------------------------------------------------------------

    def begin(self, module: nn.Module, frame: Frame, args: Any, kwargs: Any) -> Attempt | None:
        """What becomes of a call that was just entered; None if it is only run."""
        for call in self._open:
            if frame.name not in call.inside:
                call.doubt = f"{frame.name} is outside of the module that called it"
        if len(self._recorder.frames) == 1:
            self._modes = modes()
            return None
        repeated = self._of_class[type(module)] > 1 or frame.name in self._called
        self._called.add(frame.name)
        if not repeated or torch.is_grad_enabled() or modes() != self._modes or has_global_hooks():
            return None
        try:
            question = self._question(module, frame, args, kwargs)
        except UNREADABLE:
            return None
        inside = frozenset(question.names)
        if any(running.name in inside for running in self._recorder.frames[:-1]):
            return None
        for key in (question.key, (question.key, question.places)):
            if key in self._recordings:
                known = self._recordings[key]
                return None if known is None else Attempt(self, module, frame, known, question)
        return Attempt(self, module, frame, open=self._begin_recording(question, frame, inside))

    def _question(
        self, module: nn.Module, frame: Frame, args: Any, kwargs: Any, *, with_caches: bool = True
    ) -> Question:
        description = Description(self._known, self._storages.first_counted, self._storages.known_serial)
        tree, places, names = self._reader.read(module, description)
        own_tensors = len(description.tensors)
        arguments = (description.of(args), description.of(kwargs))
        layers = {index for _, _, index in places}
        layer = layers.pop() if len(layers) == 1 else None
        views = [view_cache(cache, layer, self._known) for cache in description.caches]
        around = tuple([view.around for view in views])
        kinds, held = tuple(description.kinds), tuple(description.places)
        seen = Seen((tree, places, arguments, around, settings()), kinds, held, own_tensors)
        in_caches = tuple([describe_layer(view, description) for view in views]) if with_caches else ()
        stages = tuple([self._stage_of(name) for name in names])
        key = (tree, arguments, around, settings(), in_caches, description.key(), frame.stage_name, stages)
        return Question(key, places, seen, description, names, views, layer)

    def _stage_of(self, name: str) -> str | None:
        if name not in self._stages:
            self._stages[name] = self._recorder.stage_of(name)
        return self._stages[name]

    def before(self, func: Any, operator: Operator, args: Any, kwargs: Any) -> None:
        """Look at an operator that is about to run within recorded calls."""
        if self._open:
            for call in self._open:
                call.before(func, operator, args, kwargs or {})

    def doubt(self, reason: str) -> None:
        """No call that is being recorded may be replayed."""
        for call in self._open:
            call.doubt = call.doubt or reason

    def note_cache(self, cache: Any, name: str, layer: int | None) -> None:
        """A cache was handed over within recorded calls, by the module of a layer if it has an index."""
        for call in self._open:
            call.note_cache(cache, name, layer)

    def note_place(self, module: nn.Module, use: str) -> None:
        """An index of a module was read, and this was made of it."""
        if self._open:
            name = self._names.get(id(module), "")
            for call in self._open:
                if name in call.inside:
                    call.note_use(use)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """See who reads the indices of modules for the time of a block."""
        with watched_places(self._root, self.note_place):
            yield

    def _on_read(self, tensor: Tensor) -> None:
        for call in self._open:
            call.read(tensor)

    def _on_death(self, serial: int) -> None:
        for call in reversed(self._open):
            if serial >= call.first_new:
                break
            if serial in call.in_caches.serials:
                continue
            call.doubt = call.doubt or "a tensor from outside died"

    # -- recording ---------------------------------------------------------------------------------

    def _begin_recording(self, question: Question, frame: Frame, inside: frozenset[str]) -> OpenCall:
        recorder, description = self._recorder, question.description
        call = OpenCall(
            key=question.key,
            places=question.places,
            seen=question.seen,
            caches=tuple(id(view.cache) for view in question.views),
            layer=question.layer,
            in_caches=CacheTensors(question.seen, description, self._storages),
            visible=frozenset([self._storages.known_serial(tensor) for tensor in description.tensors]),
            inside=inside,
            frame=frame,
            first_new=self._storages.next_serial,
            base_bytes=self._storages.live_bytes,
            outer_journal=recorder.journal,
            outer_forward=recorder.forwards[-1],
            decision=self._executor.policy.decision,
            runtime_event=len(self._runtime_events),
            random_states=random_states(),
            attributes=attributes(description.opaque),
            executor=self._executor,
            storages=self._storages,
        )
        recorder.journal = Journal.of_call()
        recorder.forwards[-1] = ForwardAccount(call.outer_forward.name, lowest_peak=-1)
        self._rebind(frame)
        self._open.append(call)
        return call

    def _rebind(self, frame: Frame) -> None:
        forward = self._recorder.forwards[-1]
        frame.account = forward.modules[frame.name]
        frame.stage = forward.stage(frame.stage_name)

    def abandon(self, frame: Frame) -> None:
        """A call raised."""
        self.doubt("an error that was handled")
        if self._open and self._open[-1].frame is frame:
            self.close(self._open[-1])

    def close(self, call: OpenCall) -> None:
        """Add what a recorded call did to what is around it."""
        recorder = self._recorder
        assert self._open and self._open[-1] is call
        self._open.pop()
        call.journal, call.forward = recorder.journal, recorder.forwards[-1]
        recorder.journal, recorder.forwards[-1] = call.outer_journal, call.outer_forward
        self._rebind(call.frame)
        add_journal(recorder.journal, call.journal)
        add_forward(recorder.forwards[-1], call.forward, None, 0)
        for event in call.journal.events:
            recorder.note_event(event.event, event.name, event.parent)

    def keep(self, call: OpenCall, module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        """Make a recording of a call that has run, or remember that there can be none."""
        fixed = (call.key, call.places)
        try:
            with modes_paused():
                recording = self._recording(call, module, args, kwargs, result)
            self._recordings[fixed if call.depends_on_place() else call.key] = recording
        except UNREADABLE:
            self._recordings[fixed] = None

    def _recording(self, call: OpenCall, module: nn.Module, args: Any, kwargs: Any, result: Any) -> Recording:
        if call.doubt:
            raise CannotDescribeError(call.doubt)
        question = self._question(module, call.frame, args, kwargs, with_caches=False)
        tainted = call.tainted(question.seen, question.description)
        values = (result, tuple([view.state() for view in question.views]))
        results = Results(values, question.description, call.first_new, self._storages, self._executor)
        if list(results.storages) != self._storages.live_serials(call.first_new):
            raise CannotDescribeError("a tensor outlives the call besides its results")
        frame, forward, journal = call.frame, call.forward, call.journal
        assert forward is not None and journal is not None
        moment = journal.peak_moment
        gone = call.in_caches.gone_at(moment)
        born = self._storages.live_at(moment.clock, call.first_new, moment.gone)
        journal.own_peak((*born, *moment.born))
        return Recording(
            names=question.names,
            base_bytes=call.base_bytes,
            journal=journal,
            forward=forward,
            costs=frame.costs.copy(),
            by_dtype=dict(frame.by_dtype),
            peak=frame.peak,
            results=results,
            tainted=tainted,
            gone=gone,
            cache_uses=tuple(call.cache_uses),
            decisions=call.decisions(),
            runtime_events=self._events_of(call),
        )

    def _events_of(self, call: OpenCall) -> tuple[dict[str, Any], ...]:
        found = []
        for event in self._runtime_events[call.runtime_event :]:
            module = self._ids.get(event.get("module", ""))
            if module not in call.inside:
                raise CannotDescribeError("a runtime event of no module within")
            found.append({**event, "module": module})
        return tuple(found)

    # -- replaying ---------------------------------------------------------------------------------

    def play(self, recording: Recording, question: Question, frame: Frame) -> Any:
        """Write down an earlier call as this one."""
        recorder, storages = self._recorder, self._storages
        names = dict(zip(recording.names, question.names, strict=True))
        shift = storages.live_bytes - recording.base_bytes
        forward = recorder.forwards[-1]
        tensors = question.description.tensors
        gone = frozenset([storages.known_serial(tensors[number]) for number in recording.gone])
        add_journal(recorder.journal, recording.journal, names, shift, storages.clock, forward.name, gone)
        add_forward(forward, recording.forward, names, shift)
        for event in recording.journal.events:
            recorder.note_event(event.event, names[event.name], names.get(event.parent or ""))
        add_costs(frame.costs, recording.costs)
        add_flops(frame.by_dtype, recording.by_dtype)
        frame.peak = max(frame.peak, recording.peak + shift)
        self._executor.policy.decision += recording.decisions
        for noted in recording.runtime_events:
            name = self._event_names[names[noted["module"]]]
            self._runtime_events.append({**noted, "forward": forward.name, "module": name})
        with modes_paused():
            for number in recording.tainted:
                self._executor.storages.taint(tensors[number])
            result, states = recording.results.make(question.description, storages, self._executor, names)
        for name, number, of_layer in recording.cache_uses:
            recorder.note_cache(question.views[number].cache, names[name], question.layer if of_layer else None)
        for view, state in zip(question.views, states, strict=True):
            view.put(state)
        tensors.clear()  # what was replaced in a cache dies now
        return result
