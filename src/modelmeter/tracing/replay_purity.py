"""A call that is being recorded, and what shows that it is no pure function of what it was given.

Writes into tensors from outside, random numbers, tensors from outside that die or appear, and whatever
changed in its module and arguments: each is a doubt. What Python does elsewhere cannot be seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from typing import Any

import torch
from attrs import define, field, frozen
from torch import Tensor

from modelmeter.routing import BalancedRouting, WorstRouting, ZipfRouting
from modelmeter.tracing.accounts import ForwardAccount
from modelmeter.tracing.frames import Frame
from modelmeter.tracing.operators import Operator
from modelmeter.tracing.replay_description import REAL, SHARED, TAINTED, CannotDescribeError, Description
from modelmeter.tracing.replay_journal import Journal, Moment
from modelmeter.tracing.replay_modules import Place
from modelmeter.tracing.replay_places import FOR_A_CACHE, IN_A_SLICE, OPEN
from modelmeter.tracing.replay_surroundings import attributes, random_states
from modelmeter.tracing.storages import StorageTracker
from modelmeter.tracing.weightless import WeightlessExecutor
from modelmeter.tracing.writes import written_by

_STEADY = (BalancedRouting, WorstRouting, ZipfRouting)
"""Routing policies that answer every decision alike."""

_INDEXING = frozenset(("aten.select", "aten.slice", "aten.index", "aten.index_put_"))
_REPLACE_STORAGE = frozenset(("aten.set_", "aten.resize_", "aten.resize_as_"))


@frozen(eq=False)
class Seen:
    """What a call can see: the keys of its module, arguments and settings, and all tensors but those in caches."""

    trees: Hashable
    kinds: tuple[str, ...]
    places: tuple[tuple[Any, ...], ...]
    own_tensors: int
    """So many of the tensors, the first ones, are the module's own."""


class CacheTensors:
    """Tensors in a call's part of its caches before it runs. They are not kept alive."""

    def __init__(self, seen: Seen, description: Description, storages: StorageTracker) -> None:
        first = len(seen.kinds)
        self._first = first
        self._storages = storages
        self.serials = [storages.known_serial(tensor) for tensor in description.tensors[first:]]
        self._references = [weakref.ref(tensor) for tensor in description.tensors[first:]]
        self._before = list(zip(description.kinds[first:], description.places[first:], strict=True))

    def add_to(self, after: Description) -> None:
        """Let a description know them by the same numbers. Raises CannotDescribeError if they are not as they were."""
        for number, (reference, before) in enumerate(zip(self._references, self._before, strict=True), self._first):
            tensor = reference()
            if tensor is None:
                after.add_gone()
                continue
            if after.tensor(tensor, own=True) != number:
                raise CannotDescribeError("a tensor of a cache was handed over twice")
            if (after.kinds[number], *_alone(after.places[number])) != (before[0], *_alone(before[1])):
                raise CannotDescribeError("a tensor of a cache was written")

    def gone_at(self, moment: Moment) -> tuple[int, ...]:
        """Numbers of those whose storage had died at a moment of the call."""
        found = []
        for number, serial in enumerate(self.serials, self._first):
            death = self._storages.death_of(serial)
            if serial in moment.gone or (death is not None and death <= moment.clock):
                found.append(number)
        return tuple(found)


def _alone(place: tuple[Any, ...]) -> tuple[Any, ...]:
    """A tensor's place, but for the number of its storage, which depends on what else is there."""
    return (*place[:SHARED], *place[SHARED + 1 :])


@define(eq=False)
class OpenCall:
    """A call that is being recorded: what was there when it began, and what was seen since."""

    key: Hashable
    places: tuple[Place, ...]
    seen: Seen
    caches: tuple[int, ...]
    """The caches among its arguments, by identity."""
    layer: int | None
    in_caches: CacheTensors
    visible: frozenset[int]
    """Serial numbers of the storages in its description."""
    inside: frozenset[str]
    frame: Frame
    first_new: int
    base_bytes: int
    outer_journal: Journal
    outer_forward: ForwardAccount
    decision: int
    runtime_event: int
    random_states: Hashable
    attributes: Hashable
    executor: WeightlessExecutor
    storages: StorageTracker
    journal: Journal | None = None
    forward: ForwardAccount | None = None
    doubt: str = ""
    written: set[int] = field(factory=set)
    """Serial numbers of real storages from outside that were written."""
    uses: set[str] = field(factory=set)
    """What was made of the indices of its modules."""
    slices: bool = False
    """The next operation must take a slice of a tensor without values, by an index that was read."""
    cache_uses: list[tuple[str, int, bool]] = field(factory=list)

    def before(self, func: Any, operator: Operator, args: Any, kwargs: Any) -> None:
        """Look at an operator that is about to run within the call."""
        if operator.skipped:
            return
        if self.slices:
            self.slices = False
            sliced = operator.name in _INDEXING and self.executor.is_shape_only(args[0])
            self.uses.add(IN_A_SLICE if sliced else OPEN)
        if torch.Tag.nondeterministic_seeded in func.tags and not self.executor.touches_shape_only(args, kwargs):
            self.doubt = self.doubt or f"random numbers of {operator.name}"
        for value in (*args, *kwargs.values()):
            for item in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(item, Tensor):
                    self.read(item, lifted=operator.name == "aten.lift_fresh")
        for tensor in written_by(func, operator, args, kwargs):
            serial = self.storages.known_serial(tensor)
            if serial >= self.first_new:
                continue
            if serial < 0 or torch.Tag.inplace_view in func.tags or operator.name in _REPLACE_STORAGE:
                self.doubt = self.doubt or f"{operator.name} of a tensor from outside"
            elif not self.executor.is_shape_only(tensor):
                self.written.add(serial)

    def read(self, tensor: Tensor, *, lifted: bool = False) -> None:
        """A tensor is read: it must be the call's own, or one that its description has.

        ``lifted``: torch has just made it of Python's own values.
        """
        serial = self.storages.known_serial(tensor)
        if serial < self.first_new and serial not in self.visible and not (lifted and serial < 0):
            self.doubt = self.doubt or "a tensor from elsewhere is read"

    def note_cache(self, cache: Any, name: str, layer: int | None) -> None:
        """A module was handed a cache, as that of a layer if it has an index."""
        if id(cache) not in self.caches or layer not in (None, self.layer):
            self.doubt = self.doubt or f"a {type(cache).__name__} that {name} uses"
        else:
            self.cache_uses.append((name, self.caches.index(id(cache)), layer is not None))

    def note_use(self, use: str) -> None:
        """An index of a module within was read, and this is what the source makes of it."""
        if use == IN_A_SLICE:
            self.slices = True
        else:
            self.uses.add(use)

    def depends_on_place(self) -> bool:
        """Whether another index could have made another call."""
        return self.slices or OPEN in self.uses or (FOR_A_CACHE in self.uses and len(self.caches) != 1)

    def decisions(self) -> int:
        """How many routing decisions were made; they must not depend on how many were made before."""
        policy = self.executor.policy
        if policy.decision != self.decision and type(policy.routing) not in _STEADY:
            raise CannotDescribeError(f"routing {policy.routing.name} decides anew each time")
        return policy.decision - self.decision

    def tainted(self, seen: Seen, after: Description) -> tuple[int, ...]:
        """Numbers of the arguments that the call wrote something shape-only into.

        Raises CannotDescribeError if anything else is not as it was before the call.
        """
        if seen.trees != self.seen.trees or len(seen.kinds) != len(self.seen.kinds):
            raise CannotDescribeError("the module or the arguments were changed")
        if attributes(after.opaque) != self.attributes or random_states() != self.random_states:
            raise CannotDescribeError("an object's attributes or a random state were changed")
        tainted = []
        compared = zip(seen.kinds, self.seen.kinds, seen.places, self.seen.places, strict=True)
        for number, (kind, was, place, before) in enumerate(compared):
            if kind is TAINTED and was is REAL and number >= self.seen.own_tensors and place[:-1] == before[:-1]:
                tainted.append(number)
            elif kind is not was or place != before:
                raise CannotDescribeError("a tensor from outside was changed")
        if not self.written <= {self.storages.known_serial(tensor) for tensor in after.tensors}:
            raise CannotDescribeError("a tensor was written that is no argument")
        self.in_caches.add_to(after)
        return tuple(tainted)
