"""A log of module calls: entries and exits in order, as every back end can give them.

It holds what follows from them alone: call counts, edges, signatures, events, cache sizes. Nothing here
knows of operations, so nothing is said about costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve

from modelmeter.schema.callgraph import Event, Forward
from modelmeter.tracing.accounts import ForwardAccount
from modelmeter.tracing.signatures import SignatureKey, cache_layers

StageOf = Callable[[str], str | None]


class CallLog:
    """Module calls of one run, forward by forward."""

    def __init__(self, stage_of: StageOf = lambda _: None, max_events: int = 0) -> None:
        self._stage_of = stage_of
        self._max_events = max_events
        self._forwards: list[ForwardAccount] = []
        self._running: list[tuple[str, str]] = []
        self._event_count = 0
        self._caches: dict[int, Any] = {}
        self._cache_owners: dict[tuple[int, int | None], str] = {}
        self._failure: tuple[BaseException, str] | None = None
        self.events: list[Event] = []
        self.kv_cache: dict[str, list[int]] = {}
        self.module_stages: dict[str, str] = {}

    def begin_forward(self, name: str) -> None:
        """All that follows belongs to this forward."""
        self._forwards.append(ForwardAccount(name))

    def end_forward(self) -> None:
        """Note what the caches hold now."""
        for (key, layer), owner in self._cache_owners.items():
            sizes = cache_layers(self._caches[key])
            size = sum(sizes) if layer is None else sizes[layer] if layer < len(sizes) else 0
            held = self.kv_cache.setdefault(owner, [])
            held.extend([0] * (len(self._forwards) - 1 - len(held)))
            held.append(size)

    def enter(self, name: str, signature: SignatureKey | None) -> None:
        """A module begins; its caller is the innermost one that is running."""
        forward = self._forwards[-1]
        caller, stage = self._running[-1] if self._running else (None, "prefill")
        stage = "decode" if forward.name.startswith("decode") else self._stage_of(name) or stage
        self.module_stages.setdefault(name, stage)
        account = forward.modules[name]
        account.calls += 1
        if signature is not None:
            account.inputs[signature] += 1
        if caller is not None:
            forward.edges[f"{caller}->{name}"] += 1
        self._event("enter", name, caller)
        self._running.append((name, stage))

    def exit(self, name: str, signature: SignatureKey | None) -> None:
        """The innermost module ends; ``signature`` None if what it returned is not known."""
        self._running.pop()
        if signature is not None:
            self._forwards[-1].modules[name].outputs[signature] += 1
        self._event("exit", name, self._running[-1][0] if self._running else None)

    def fail(self, name: str, error: BaseException) -> None:
        """A module ends by an exception; the first that does so is where it was raised."""
        if self._failure is None or self._failure[0] is not error:
            self._failure = (error, name)
        self.exit(name, None)

    def failed_in(self, error: BaseException) -> str | None:
        """Where an exception was raised; None if in no module."""
        return self._failure[1] if self._failure is not None and self._failure[0] is error else None

    def note_cache(self, cache: Any, name: str, layer: int | None) -> None:
        """Remember who uses a cache: of nested modules the innermost one of each layer."""
        key = id(cache)
        self._caches[key] = cache
        if layer is not None:
            self._cache_owners.pop((key, None), None)
            self._cache_owners[key, layer] = name
        elif not any(owner == key for owner, _ in self._cache_owners):
            self._cache_owners[key, None] = name

    def forget_caches(self) -> None:
        """Caches seen so far are replaced by copies in what follows."""
        self._caches.clear()
        self._cache_owners.clear()

    def forwards(self) -> list[Forward]:
        """The forwards as schema objects, without costs."""
        return [evolve(account.as_forward(), costs={}) for account in self._forwards]

    def _event(self, kind: str, name: str, caller: str | None) -> None:
        if len(self.events) < self._max_events:
            self.events.append(Event(kind, name, caller, self._event_count))
        self._event_count += 1
