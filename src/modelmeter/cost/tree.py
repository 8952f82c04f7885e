"""From a tape to a cost tree: which numbers are worked out, in which order, and the tree made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from modelmeter.cost.arithmetic import Number, largest, total
from modelmeter.cost.records import AMOUNTS, Module, Place
from modelmeter.cost.tape import Tape
from modelmeter.schema.cost import Amount, CostNode, CostTree, OperatorCosts, Peak


class TreePlan:
    """Lists a tape's numbers as ``roots``, and makes the tree once they are plain integers.

    ``kv_cache_bytes``: node id to bytes held after a forward.
    """

    def __init__(self, family: str, tape: Tape, kv_cache_bytes: Mapping[str, Mapping[str, Number]]) -> None:
        self.family = family
        self.places: list[Place] = list(tape.record.costs)
        self._modules = list(tape.modules.values())
        self._moments = {
            (run, name): largest(moments) * tape.present.get(run, 1) for (run, name), moments in tape.moments.items()
        }
        self._held = kv_cache_bytes
        self.roots: list[Number] = []
        for place in self.places:
            amounts = tape.record.costs[place]
            self.roots += [getattr(amounts, name) for name in AMOUNTS]
        self.roots += self._moments.values()
        runs_of: dict[str, list[str]] = {}
        for name, run in tape.record.calls:
            runs_of.setdefault(name, []).append(run)
        self._columns: list[tuple[Module, tuple[Number, Number], list[str], list[str]]] = []
        """Modules, their own parameters and bytes of these, their runs, and forwards after which they hold a cache."""
        for module in self._modules:
            runs, held = runs_of.get(module.id, []), kv_cache_bytes.get(module.id, {})
            self._columns.append((module, (module.parameter_count, module.weight_bytes), runs, list(held)))
            self.roots += [tape.record.calls[module.id, run] for run in runs]
            self.roots += [tape.record.outputs.get((module.id, run), 0) for run in runs]
            self.roots += held.values()

    def totals(self) -> dict[str, Number]:
        """Sums over all modules: parameters, weights, cache after each forward, and the largest peak."""
        modules = self._modules
        found: dict[str, Number] = {
            "parameters": total(module.parameter_count for module in modules),
            "peak_live_bytes": largest(self._moments.values()),
            "weight_bytes": total(module.weight_bytes for module in modules),
        }
        for held in self._held.values():
            for forward, number in held.items():
                name = f"kv_cache_bytes.{forward}"
                found[name] = found.get(name, 0) + number
        return found

    def held(self, module: str) -> Mapping[str, Number]:
        """Bytes of the cache that a module holds, by the forward after which it does."""
        return self._held.get(module, {})

    def build(self, numbers: Sequence[Any]) -> CostTree:
        """The tree; what did not run is left out of it."""
        left = iter(numbers)
        entries: dict[str, list[OperatorCosts]] = {}
        for place in self.places:
            amount = Amount._make(islice(left, len(AMOUNTS)))
            if amount.calls and amount.launches:
                entry = OperatorCosts(place.operator, place.run, place.stage, place.dtype, amount, place.segment)
                entries.setdefault(place.module, []).append(entry)
        peak = Peak(0, "", "")
        peaks: dict[str, dict[str, int]] = {}
        for (run, name), most in zip(self._moments, left, strict=False):
            if most:
                peaks.setdefault(name, {})[run] = most
                if most > peak.bytes:
                    peak = Peak(most, run, name)
        nodes = []
        for module, weights, runs, forwards in self._columns:
            calls = {run: number for run, number in zip(runs, left, strict=False) if number}
            outputs = {run: number for run, number in zip(runs, left, strict=False) if number}
            cache = {forward: number for forward, number in zip(forwards, left, strict=False) if number}
            nodes.append(
                CostNode(
                    module.id,
                    module.class_name,
                    module.caller,
                    module.members,
                    module.stage,
                    module.configuration,
                    *weights,
                    calls,
                    outputs,
                    tuple(entries.get(module.id, ())),
                    cache,
                    peaks.get(module.id, {}),
                    module.series,
                )
            )
        return CostTree(self.family, tuple(nodes), peak)


def tree_of(family: str, tape: Tape, kv_cache_bytes: Mapping[str, Mapping[str, int]]) -> CostTree:
    """The cost tree of a tape that was written with plain integers."""
    plan = TreePlan(family, tape, kv_cache_bytes)
    return plan.build(plan.roots)
