"""The recorder: which module ran which operators, and what they cost, call by call.

Module entries and exits come from wrapped ``forward`` methods, so a module entered through
``.forward`` directly is recorded like one that is called. Operators come from a dispatch mode and
belong to the innermost module that is running.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from modelmeter.schema.callgraph import BACKWARD, Event
from modelmeter.tracing.accounts import (
    CALLS,
    LAUNCHES,
    MATRIX,
    OUTPUT,
    READ,
    VECTOR,
    WRITTEN,
    ForwardAccount,
    add_costs,
    add_flops,
    new_costs,
)
from modelmeter.tracing.cache_uses import CacheUses
from modelmeter.tracing.frames import Frame
from modelmeter.tracing.movement import moved_bytes, vector_flops
from modelmeter.tracing.operators import Operator, describe_operator
from modelmeter.tracing.replay_journal import Journal, Moment
from modelmeter.tracing.signatures import (
    SignatureReader,
    argument_names,
    read_output,
)
from modelmeter.tracing.storages import Birth, StorageTracker

if TYPE_CHECKING:
    from modelmeter.tracing.replay import Replayer

Execute = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
StageOf = Callable[[str], str | None]

_NOBODY: frozenset[str] = frozenset()


class Recorder(TorchDispatchMode):
    """Records the forwards of one module. ``execute`` runs an operator, for real or weightlessly."""

    def __init__(
        self,
        module: nn.Module,
        names: dict[int, str],
        execute: Execute,
        *,
        stage_of: StageOf = lambda _: None,
        max_events: int = 0,
        tensor_details: bool = False,
    ) -> None:
        super().__init__()
        self._details = tensor_details
        self._module = module
        self._names = names
        self._execute = execute
        self.stage_of = stage_of
        self._max_events = max_events
        self._operators: dict[Any, Operator] = {}
        self._frames: list[Frame] = []
        self._own: set[Any] = set()
        self._running: Counter[str] = Counter()
        self.storages = StorageTracker()
        self.storages.exclude(module.parameters())
        self.storages.exclude(module.buffers())
        self.storages.exclude(v for m in module.modules() for v in vars(m).values() if isinstance(v, Tensor))
        self.forwards: list[ForwardAccount] = []
        """The last one is what is written to: the forward that runs, or the innermost call being recorded."""
        self.journal = Journal()
        self.replayer: Replayer | None = None
        self.events_dropped = 0
        self._caches = CacheUses(self.storages)
        self.failed_in: str | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and the guard costs as much as an operator

    # -- forwards ----------------------------------------------------------------------------------

    @property
    def frames(self) -> list[Frame]:
        """The calls that are running, the innermost last."""
        return self._frames

    def is_own(self, function: Any) -> bool:
        """Whether a module's ``forward`` is what this recorder put around a method of the module's class."""
        return function in self._own

    def live_at_peak(self) -> list[Birth]:
        """The storages that were live when most storage was, the largest first."""
        moment = self.journal.peak_moment
        live = [*self.storages.live_at(moment.clock, gone=moment.gone), *moment.born]
        return sorted(live, key=lambda birth: -birth.size)

    def assume(self, operator: str, rule: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        """Write down a value that was supplied to the innermost module that is running."""
        if self.where:
            self.journal.assumptions[self.where, operator, rule, shape, str(dtype)] += 1

    @property
    def where(self) -> str:
        """The innermost module that is running; empty between forwards."""
        return self._frames[-1].name if self._frames else ""

    def begin_forward(self, name: str) -> None:
        """All that follows belongs to this forward."""
        self.forwards.append(ForwardAccount(name))

    def end_forward(self) -> None:
        """Note what the caches hold now."""
        self._caches.end_forward(len(self.forwards))

    @property
    def kv_cache(self) -> dict[str, list[int]]:
        """Bytes that caches held after each forward, by the module that uses them."""
        return self._caches.held

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Wrap every module's forward for the time of a block, and leave nothing behind."""
        wrapped: list[tuple[nn.Module, bool, Any]] = []
        try:
            for submodule in self._module.modules():
                had = "forward" in submodule.__dict__
                original = submodule.forward
                wrapped.append((submodule, had, original))
                wrapper = self._wrap(submodule, original)
                if not had:
                    self._own.add(wrapper)
                submodule.__dict__["forward"] = wrapper
            yield
        finally:
            for submodule, had, original in wrapped:
                if had:
                    submodule.__dict__["forward"] = original
                else:
                    submodule.__dict__.pop("forward", None)
            self._frames.clear()
            self._own.clear()

    def _wrap(self, module: nn.Module, original: Callable[..., Any]) -> Callable[..., Any]:
        name = self._names[id(module)]
        reader = SignatureReader(argument_names(original), details=self._details)
        stage_name = self.stage_of(name)
        layer_idx = getattr(module, "layer_idx", None)
        layer = layer_idx if isinstance(layer_idx, int) else None

        @functools.wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            if not self.forwards:
                return original(*args, **kwargs)
            with torch._C.DisableTorchFunction():
                frame = self._enter(name, stage_name, reader, layer, args, kwargs)
                attempt = None if self.replayer is None else self.replayer.begin(module, frame, args, kwargs)
                if attempt is not None and attempt.known:
                    result = attempt.replay()
                    self._exit(frame, result)
                    return result
            try:
                result = original(*args, **kwargs)
            except BaseException:
                self._abandon(frame)
                raise
            with torch._C.DisableTorchFunction():
                if attempt is not None:
                    attempt.finish(args, kwargs, result)
                self._exit(frame, result)
            return result

        return forward

    def _enter(
        self,
        name: str,
        stage_name: str | None,
        reader: SignatureReader,
        layer: int | None,
        args: Any,
        kwargs: Any,
    ) -> Frame:
        forward = self.forwards[-1]
        caller = self._frames[-1] if self._frames else None
        if stage_name is None:
            stage_name = caller.stage_name if caller is not None else "prefill"
        if forward.name.startswith(("decode", BACKWARD)):
            stage_name = "decode" if forward.name.startswith("decode") else BACKWARD
        self.journal.module_stages.setdefault(name, stage_name)
        signature, tensors, caches = reader.read(args, kwargs)
        account = forward.modules[name]
        account.calls += 1
        account.inputs[signature] += 1
        frame = Frame(name, account, stage_name, forward.stage(stage_name))
        for cache in caches:
            self.note_cache(cache, name, layer)
        self.storages.maker = (name, "input")
        self.storages.made_here = False
        serials = [self.storages.serial(tensor) for tensor in tensors]
        if caller is not None:
            forward.edges[f"{caller.name}->{name}"] += 1
            for serial in serials:
                for producer in caller.producers.get(serial, _NOBODY):
                    forward.data_edges[f"{producer}->{name}"] += 1
        self.note_event("enter", name, caller.name if caller else None)
        frame.peak = self.storages.live_bytes
        self._note_peak(name, "input")
        self.journal.series.add(frame.peak, name, "input", stage_name)
        self._running[name] += 1
        self._frames.append(frame)
        return frame

    def _note_peak(self, module: str, operator: str) -> None:
        """Remember the moment when most storage was live."""
        journal = self.journal
        if self.storages.live_bytes > journal.peak_bytes:
            journal.peak_bytes = self.storages.live_bytes
            journal.peak_moment = Moment(self.storages.clock, self.forwards[-1].name, module, operator)

    def _exit(self, frame: Frame, result: Any) -> None:
        self.failed_in = None  # an error below was handled
        signature, tensors, caches = read_output(result, details=self._details)
        account = frame.account
        account.outputs[signature] += 1
        for cache in caches:
            self.note_cache(cache, frame.name, None)
        self._frames.pop()
        self._running[frame.name] -= 1
        caller = self._frames[-1] if self._frames else None
        self.note_event("exit", frame.name, caller.name if caller else None)
        if not self._running[frame.name]:
            # A module within itself is part of its outer call's total already.
            add_costs(account.total, frame.costs)
            add_flops(account.total_by_dtype, frame.by_dtype)
        account.result_bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        account.peak = max(account.peak, frame.peak)
        if caller is None:
            return
        add_costs(caller.costs, frame.costs)
        add_flops(caller.by_dtype, frame.by_dtype)
        caller.peak = max(caller.peak, frame.peak)
        producers = caller.producers
        for tensor in tensors:
            serial = self.storages.serial(tensor)
            producers[serial] = producers.get(serial, _NOBODY) | {frame.name}

    def _abandon(self, frame: Frame) -> None:
        """A call that raised: what it did counts for its caller, who may handle the error and go on."""
        if self.failed_in is None:
            self.failed_in = frame.name
        if self.replayer is not None:
            self.replayer.abandon(frame)
        if frame not in self._frames:
            return
        del self._frames[self._frames.index(frame) :]
        self._running[frame.name] -= 1
        if self._frames:
            caller = self._frames[-1]
            add_costs(caller.costs, frame.costs)
            add_flops(caller.by_dtype, frame.by_dtype)
            caller.peak = max(caller.peak, frame.peak)

    def note_event(self, kind: str, name: str, caller: str | None) -> None:
        """Keep an enter or exit event, as many as are asked for; a call that is recorded keeps all of its own."""
        if not self._max_events:
            return
        events = self.journal.events
        if len(events) < self._max_events or self.journal.is_of_call:
            events.append(Event(kind, name, caller, len(events)))
        else:
            self.events_dropped += 1

    def note_cache(self, cache: Any, name: str, layer: int | None) -> None:
        """A module was handed a cache, or handed it back; it has this index if it is the one of a layer."""
        if self.replayer is not None:
            self.replayer.note_cache(cache, name, layer)
        if isinstance(cache, (list, tuple)):
            self._caches.note_plain(cache, name, outermost=[frame.name for frame in self._frames] == [name])
        else:
            self._caches.note(cache, name, layer)

    # -- operators ---------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():
            operator = self._operators.get(func)
            if operator is None:
                operator = self._operators[func] = describe_operator(func)
            if self.replayer is not None:
                self.replayer.before(func, operator, args, kwargs)
            result = self._execute(func, args, kwargs or {})
            if not operator.skipped:
                self._observe(operator, args, kwargs, result)
            return result

    def _outside(self) -> Frame | None:
        """The call that an operation outside of all running calls belongs to: none in a forward."""
        return None

    def _observe(self, operator: Operator, args: Any, kwargs: Any, result: Any) -> None:
        serial_of = self.storages.serial
        lifted = operator.name == "aten.lift_fresh"  # made of Python's own values just before
        self.storages.made_here = lifted
        inputs = _tensors(args)
        if kwargs:
            inputs += _tensors(kwargs.values())
        outputs = [result] if isinstance(result, Tensor) else _tensors((result,))
        if not outputs and operator.in_place:
            outputs = _tensors(args[:1])  # operators on lists return nothing
        frame = self._frames[-1] if self._frames else self._outside()
        if frame is None:
            self.storages.maker = ("", operator.name)
            for tensor in outputs:
                serial_of(tensor)
            return
        self.storages.maker = (frame.name, operator.name)
        producers: frozenset[str] = _NOBODY
        if frame.producers:
            for tensor in inputs:
                found = frame.producers.get(serial_of(tensor))
                if found:
                    producers = producers | found if producers else found
        self.storages.made_here = lifted or not (operator.is_view or operator.in_place)
        for tensor in outputs:
            serial = serial_of(tensor)
            if producers:
                held = frame.producers.get(serial)
                frame.producers[serial] = producers | held if held else producers
        live = self.storages.live_bytes
        self.journal.series.add(live, frame.name, operator.name, frame.stage_name)
        if live > frame.peak:
            frame.peak = live
            self._note_peak(frame.name, operator.name)
        peaks = self.forwards[-1].stage_peaks
        if live > peaks[frame.stage_name]:
            peaks[frame.stage_name] = live

        known = frame.account.operators.get(operator.name)
        if known is None:
            known = frame.account.operators[operator.name] = new_costs()
        known[CALLS] += 1
        frame.costs[CALLS] += 1
        if not operator.launches:
            return
        matrix = 0
        if operator.matrix is not None:
            matrix = operator.matrix(*args, **{**(kwargs or {}), "out": result})
            dtype = next((t.dtype for t in inputs), torch.float32)
            products = frame.account.product_dtypes.setdefault(operator.name, {})
            for flops in (products, frame.account.own_by_dtype, frame.by_dtype, frame.stage[1]):
                flops[dtype] = flops.get(dtype, 0) + matrix
        elif operator.unknown:
            self.journal.unknown[operator.name] += 1
        vector = vector_flops(operator, args, inputs, outputs)
        read, written = moved_bytes(operator, inputs, outputs)
        fresh = 0 if operator.in_place else written
        for costs in (known, frame.costs, frame.stage[0]):
            costs[MATRIX] += matrix
            costs[VECTOR] += vector
            costs[READ] += read
            costs[WRITTEN] += written
            costs[LAUNCHES] += 1
            costs[OUTPUT] += fresh


def _tensors(values: Any) -> list[Tensor]:
    """All tensors of an operator's arguments or results, lists looked into."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += [item for item in value if isinstance(item, Tensor)]
    return found
