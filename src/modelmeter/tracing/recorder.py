"""The recorder: which module ran which operators, and what they cost, call by call.

Module entries and exits come from wrapped ``forward`` methods, so a module entered through
``.forward`` directly is recorded like one that is called. Operators come from a dispatch mode and
belong to the innermost module that is running.
"""

from __future__ import annotations

import functools
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from modelmeter.schema.callgraph import Event
from modelmeter.tracing.accounts import (
    CALLS,
    LAUNCHES,
    MATRIX,
    OUTPUT,
    READ,
    VECTOR,
    WRITTEN,
    CostList,
    DtypeFlops,
    ForwardAccount,
    ModuleAccount,
    add_costs,
    add_flops,
    new_costs,
)
from modelmeter.tracing.memory_series import MemorySeries
from modelmeter.tracing.movement import moved_bytes, vector_flops
from modelmeter.tracing.operators import Operator, describe_operator
from modelmeter.tracing.signatures import (
    SignatureReader,
    argument_names,
    cache_layers,
    cache_tensors,
    read_output,
)
from modelmeter.tracing.storages import StorageTracker

Execute = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
StageOf = Callable[[str], str | None]

_NOBODY: frozenset[str] = frozenset()


class Frame:
    """One module call that is running."""

    __slots__ = ("account", "by_dtype", "costs", "name", "peak", "producers", "stage", "stage_name")

    def __init__(self, name: str, account: ModuleAccount, stage_name: str, stage: tuple[CostList, DtypeFlops]) -> None:
        self.name = name
        self.account = account
        self.stage_name = stage_name
        self.stage = stage
        self.costs = new_costs()
        self.by_dtype: DtypeFlops = {}
        self.peak = 0
        self.producers: dict[int, frozenset[str]] = {}
        """Storage serial to the callees of this call whose outputs went into it."""


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
        self._stage_of = stage_of
        self._max_events = max_events
        self._operators: dict[Any, Operator] = {}
        self._frames: list[Frame] = []
        self._running: Counter[str] = Counter()
        self.storages = StorageTracker()
        self.storages.exclude(module.parameters())
        self.storages.exclude(module.buffers())
        self.storages.exclude(v for m in module.modules() for v in vars(m).values() if isinstance(v, Tensor))
        self.forwards: list[ForwardAccount] = []
        self.events: list[Event] = []
        self.events_dropped = 0
        self._event_count = 0
        self.unknown: Counter[str] = Counter()
        self.kv_cache: dict[str, list[int]] = {}
        self._caches: dict[int, Callable[[], Any]] = {}
        self._cache_owners: dict[tuple[int, int | None], str] = {}
        self.failed_in: str | None = None
        self.module_stages: dict[str, str] = {}
        self.series = MemorySeries()
        self.peak_bytes = 0
        self.peak_moment = (0, "", "", "")

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and the guard costs as much as an operator

    # -- forwards ----------------------------------------------------------------------------------

    @property
    def where(self) -> str:
        """The innermost module that is running; empty between forwards."""
        return self._frames[-1].name if self._frames else ""

    def begin_forward(self, name: str) -> None:
        """All that follows belongs to this forward."""
        self.forwards.append(ForwardAccount(name))

    def end_forward(self) -> None:
        """Note what the caches hold now."""
        for (key, layer), owner in self._cache_owners.items():
            sizes = cache_layers(self._caches[key]())
            size = sum(sizes) if layer is None else sizes[layer] if layer < len(sizes) else 0
            held = self.kv_cache.setdefault(owner, [])
            held.extend([0] * (len(self.forwards) - 1 - len(held)))
            held.append(size)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Wrap every module's forward for the time of a block, and leave nothing behind."""
        wrapped: list[tuple[nn.Module, bool, Any]] = []
        try:
            for submodule in self._module.modules():
                had = "forward" in submodule.__dict__
                original = submodule.forward
                wrapped.append((submodule, had, original))
                submodule.__dict__["forward"] = self._wrap(submodule, original)
            yield
        finally:
            for submodule, had, original in wrapped:
                if had:
                    submodule.__dict__["forward"] = original
                else:
                    submodule.__dict__.pop("forward", None)
            self._frames.clear()

    def _wrap(self, module: nn.Module, original: Callable[..., Any]) -> Callable[..., Any]:
        name = self._names[id(module)]
        reader = SignatureReader(argument_names(original), details=self._details)
        stage_name = self._stage_of(name)
        layer_idx = getattr(module, "layer_idx", None)
        layer = layer_idx if isinstance(layer_idx, int) else None

        @functools.wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            if not self.forwards:
                return original(*args, **kwargs)
            with torch._C.DisableTorchFunction():
                frame = self._enter(name, stage_name, reader, layer, args, kwargs)
            try:
                result = original(*args, **kwargs)
            except BaseException:
                self._abandon(frame)
                raise
            with torch._C.DisableTorchFunction():
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
        if forward.name.startswith("decode"):
            stage_name = "decode"
        self.module_stages.setdefault(name, stage_name)
        signature, tensors, caches = reader.read(args, kwargs)
        account = forward.modules[name]
        account.calls += 1
        account.inputs[signature] += 1
        frame = Frame(name, account, stage_name, forward.stage(stage_name))
        for cache in caches:
            self._note_cache(cache, name, layer)
        self.storages.maker = (name, "input")
        serials = [self.storages.serial(tensor) for tensor in tensors]
        if caller is not None:
            forward.edges[f"{caller.name}->{name}"] += 1
            for serial in serials:
                for producer in caller.producers.get(serial, _NOBODY):
                    forward.data_edges[f"{producer}->{name}"] += 1
        self._event("enter", name, caller)
        frame.peak = self.storages.live_bytes
        self._note_peak(name, "input")
        self.series.add(frame.peak, name, "input", stage_name)
        self._running[name] += 1
        self._frames.append(frame)
        return frame

    def _note_peak(self, module: str, operator: str) -> None:
        """Remember the moment when most storage was live."""
        if self.storages.live_bytes > self.peak_bytes:
            self.peak_bytes = self.storages.live_bytes
            self.peak_moment = (self.storages.clock, self.forwards[-1].name, module, operator)

    def _exit(self, frame: Frame, result: Any) -> None:
        self.failed_in = None  # an error below was handled
        signature, tensors, caches = read_output(result, details=self._details)
        account = frame.account
        account.outputs[signature] += 1
        for cache in caches:
            self._note_cache(cache, frame.name, None)
        self._frames.pop()
        self._running[frame.name] -= 1
        caller = self._frames[-1] if self._frames else None
        self._event("exit", frame.name, caller)
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
        if frame not in self._frames:
            return
        del self._frames[self._frames.index(frame) :]
        self._running[frame.name] -= 1
        if self._frames:
            caller = self._frames[-1]
            add_costs(caller.costs, frame.costs)
            add_flops(caller.by_dtype, frame.by_dtype)
            caller.peak = max(caller.peak, frame.peak)

    def _event(self, kind: str, name: str, caller: Frame | None) -> None:
        if not self._max_events:
            return
        if len(self.events) < self._max_events:
            self.events.append(Event(kind, name, caller.name if caller else None, self._event_count))
        else:
            self.events_dropped += 1
        self._event_count += 1

    def _note_cache(self, cache: Any, name: str, layer: int | None) -> None:
        """Remember who uses a cache: of nested modules the innermost one of each layer."""
        key = id(cache)
        if key not in self._caches:
            self._caches[key] = _weakly(cache)
            for tensor in cache_tensors(cache):
                self.storages.serial(tensor)
        if layer is not None:
            self._cache_owners.pop((key, None), None)
            self._cache_owners[key, layer] = name
        elif not any(owner == key for owner, _ in self._cache_owners):
            self._cache_owners[key, None] = name

    # -- operators ---------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():
            operator = self._operators.get(func)
            if operator is None:
                operator = self._operators[func] = describe_operator(func)
            result = self._execute(func, args, kwargs or {})
            if not operator.skipped:
                self._observe(operator, args, kwargs, result)
            return result

    def _observe(self, operator: Operator, args: Any, kwargs: Any, result: Any) -> None:
        serial_of = self.storages.serial
        inputs = _tensors(args)
        if kwargs:
            inputs += _tensors(kwargs.values())
        outputs = [result] if isinstance(result, Tensor) else _tensors((result,))
        if not outputs and operator.in_place:
            outputs = _tensors(args[:1])  # operators on lists return nothing
        if not self._frames:
            self.storages.maker = ("", operator.name)
            for tensor in outputs:
                serial_of(tensor)
            return
        frame = self._frames[-1]
        self.storages.maker = (frame.name, operator.name)
        producers: frozenset[str] = _NOBODY
        if frame.producers:
            for tensor in inputs:
                found = frame.producers.get(serial_of(tensor))
                if found:
                    producers = producers | found if producers else found
        for tensor in outputs:
            serial = serial_of(tensor)
            if producers:
                held = frame.producers.get(serial)
                frame.producers[serial] = producers | held if held else producers
        live = self.storages.live_bytes
        self.series.add(live, frame.name, operator.name, frame.stage_name)
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
            self.unknown[operator.name] += 1
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


def _weakly(value: Any) -> Callable[[], Any]:
    """A weak reference where the type allows one, so that noting a cache does not keep it alive."""
    try:
        return weakref.ref(value)
    except TypeError:
        return lambda: value


def _tensors(values: Any) -> list[Tensor]:
    """All tensors of an operator's arguments or results, lists looked into."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += [item for item in value if isinstance(item, Tensor)]
    return found
