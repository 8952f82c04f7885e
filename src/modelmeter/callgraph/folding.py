"""Folding: modules that play the same part become one node, by structure alone.

A series folds on class where its modules call others, on class and configuration where they are
leaves; parallel siblings fold on class, configuration and subtree. Inside a family, the callees of all
members fold by their place among their callers' callees, and split where configuration or subtree
differs. Counts, shapes, bytes and a layer's index never split a family.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from fractions import Fraction

from attrs import evolve

from modelmeter.callgraph.crosscheck import disagreements
from modelmeter.callgraph.folded import Family, FoldedEdge, FoldedGraph
from modelmeter.callgraph.scope import Group, Scope
from modelmeter.patterns import pattern, static_order
from modelmeter.schema.callgraph import CallGraph, Signature

Key = Hashable


def fold(graph: CallGraph) -> FoldedGraph:
    """The folded graph of a call graph."""
    return Folder(graph).fold()


class Folder:
    """Folds one call graph; ``assemble`` makes a folded graph of any families of its modules."""

    def __init__(self, graph: CallGraph) -> None:
        self.graph = graph
        self.order = static_order(graph.module_children, sorted({*graph.call_counts, *graph.module_types}))
        self.callees: dict[str, list[str]] = {}
        self.callers: dict[str, list[str]] = {}
        for edge in graph.edges:
            caller, _, callee = edge.partition("->")
            self.callees.setdefault(caller, []).append(callee)
            self.callers.setdefault(callee, []).append(caller)
        for names in self.callees.values():
            names.sort(key=self._rank)
        self.producers: dict[str, list[str]] = {}
        for edge in graph.data_edges:
            producer, _, consumer = edge.partition("->")
            self.producers.setdefault(consumer, []).append(producer)
        self.keys: dict[Key, int] = {}
        self.own: dict[str, int] = {}
        self.subtree: dict[str, int] = {}
        self.groups: dict[str, list[Group]] = {}
        self.group_keys: dict[tuple[str, tuple[str, ...]], int] = {}

    def _rank(self, name: str) -> tuple[int, str]:
        return self.order.get(name, len(self.order)), name

    # -- bottom up: what lies below each module ----------------------------------------------------

    def _intern(self, key: Key) -> int:
        """A small number for a key, equal for equal keys, so that deep keys stay cheap to compare."""
        return self.keys.setdefault(key, len(self.keys))

    def _own_key(self, name: str) -> int:
        key = self.own.get(name)
        if key is None:
            config = self.graph.constructor_params.get(name)
            text = json.dumps(config, sort_keys=True) if config else ""
            key = self.own[name] = self._intern(("own", self._class(name), text))
        return key

    def _class(self, name: str) -> str:
        return self.graph.module_classes.get(name) or self.graph.module_types.get(name, "")

    def _describe(self) -> None:
        """Groups and subtree keys of every module, callees before callers."""
        done: set[str] = set()
        for start in sorted(self.graph.call_counts, key=self._rank):
            stack = [(start, False)]
            while stack:
                name, ready = stack.pop()
                if ready:
                    self._describe_one(name)
                    continue
                if name in done:
                    continue
                done.add(name)
                stack.append((name, True))
                stack.extend((callee, False) for callee in self.callees.get(name, ()) if callee not in done)

    def _describe_one(self, name: str) -> None:
        # A callee that is not described yet calls this module in turn: it is known by its own key only.
        callees = [callee for callee in self.callees.get(name, ()) if callee != name]
        if not callees:
            self.groups[name] = []
            self.subtree[name] = self._intern(("subtree", self._own_key(name), ()))
            return
        parallel = {callee: self.subtree.get(callee, self._own_key(callee)) for callee in callees}
        series = {
            callee: self._intern(("class", self._class(callee))) if self.callees.get(callee) else self._own_key(callee)
            for callee in callees
        }
        ranks = {callee: index for index, callee in enumerate(callees)}
        groups = Scope(callees, self.producers).groups(series, parallel, ranks)
        self.groups[name] = groups
        parts = []
        for group in groups:
            first = group.members[0]
            inner = series[first] if group.kind == "series" else parallel[first]
            kind = "series" if group.kind == "series" else "any"
            # How many parallel siblings there are does not matter: experts without tokens are gaps.
            key = self._intern((kind, inner))
            self.group_keys[name, group.members] = key
            parts.append(key)
        self.subtree[name] = self._intern(("subtree", self._own_key(name), tuple(parts)))

    # -- top down: families --------------------------------------------------------------------------

    def fold(self) -> FoldedGraph:
        self._describe()
        roots = [name for name in self.graph.call_counts if not set(self.callers.get(name, ())) - {name}]
        if self.graph.root in self.graph.call_counts:
            roots = [self.graph.root, *(name for name in sorted(roots, key=self._rank) if name != self.graph.root)]
        family_of: dict[str, int] = {}
        families: list[tuple[tuple[str, ...], str]] = []
        parents: dict[int, int] = {}
        waiting: list[int] = []

        def found(members: Sequence[str], kind: str, parent: int | None) -> None:
            # Several members of a caller's family may call one module.
            fresh = tuple(dict.fromkeys(name for name in members if name not in family_of))
            if not fresh:
                return
            number = len(families)
            families.append((fresh, kind))
            for name in fresh:
                family_of[name] = number
            if parent is not None:
                parents[number] = parent
            waiting.append(number)

        for start in [*roots, *sorted(self.graph.call_counts, key=self._rank)]:
            found((start,), "single", None)
            while waiting:
                number = waiting.pop()
                for members, kind in self._callee_families(families[number][0]):
                    found(members, kind, number)
        return self.assemble(families, family_of, parents)

    def _callee_families(self, members: Sequence[str]) -> list[tuple[list[str], str]]:
        """Callees of a family's members, those in the same place of the same kind together."""
        together: dict[tuple[int, int], tuple[list[str], str]] = {}
        for member in members:
            seen: dict[int, int] = {}
            for group in self.groups.get(member, ()):
                key = self.group_keys[member, group.members]
                place = seen.get(key, 0)
                seen[key] = place + 1
                names, kind = together.setdefault((key, place), ([], group.kind))
                names.extend(group.members)
                if kind == "single" and group.kind != "single":
                    together[key, place] = (names, group.kind)
        return [(list(dict.fromkeys(names)), kind) for names, kind in together.values()]

    # -- results -----------------------------------------------------------------------------------

    def assemble(
        self, families: list[tuple[tuple[str, ...], str]], family_of: dict[str, int], parents: dict[int, int]
    ) -> FoldedGraph:
        """The folded graph of these families: members with their kind, family of each module, parents."""
        ids = _unique([pattern(sorted(members, key=self._rank)) for members, _ in families])
        calls: dict[tuple[int, int], dict[str, int]] = {}
        for edge, count in self.graph.edges.items():
            caller, _, callee = edge.partition("->")
            if caller in family_of and callee in family_of:
                calls.setdefault((family_of[caller], family_of[callee]), {})[edge] = count
        made: dict[str, Family] = {}
        for number, (members, kind) in enumerate(families):
            counts = self._counts(members, kind)
            repeated = max(counts, default=1) > 1
            repetition = ("for" if kind == "series" else "parfor") if repeated else "none"
            made[ids[number]] = self._family(ids[number], members, repetition, counts)
        edges = [
            FoldedEdge(ids[a], ids[b], dict(sorted(edge_calls.items())), made[ids[b]].repeat_label)
            for (a, b), edge_calls in sorted(calls.items())
        ]
        depths: dict[str, int] = {}
        for number in range(len(families)):
            parent = parents.get(number)
            depths[ids[number]] = 0 if parent is None else depths[ids[parent]] + 1
        folded = FoldedGraph(
            root=ids[0] if ids else "",
            families=made,
            edges=edges,
            source=self.graph,
            depths=depths,
            parents={ids[child]: ids[parent] for child, parent in sorted(parents.items())},
        )
        return evolve(folded, disagreements=disagreements(folded))

    def _counts(self, members: Sequence[str], kind: str) -> tuple[int, ...]:
        """How many of a family run per call of a caller, one number per caller, the distinct ones."""
        by_caller: dict[str, list[str]] = {}
        for name in members:
            for caller in self.callers.get(name, ()):
                by_caller.setdefault(caller, []).append(name)
        counts: set[int] = set()
        for caller, names in by_caller.items():
            if kind == "series":
                counts.add(len(names))
            else:
                counts.add(self._per_call(caller, names))
        return tuple(sorted(counts))

    def _per_call(self, caller: str, names: Sequence[str]) -> int:
        """Most calls of these modules per call of their caller, over the forwards."""
        parts = [(f.edges, f.call_counts) for f in self.graph.forwards] or [(self.graph.edges, self.graph.call_counts)]
        most = Fraction(0)
        for edges, call_counts in parts:
            made = sum(edges.get(f"{caller}->{name}", 0) for name in names)
            if made and call_counts.get(caller):
                most = max(most, Fraction(made, call_counts[caller]))
        return max(1, -(-most.numerator // most.denominator))

    def _family(self, name: str, members: Sequence[str], repetition: str, counts: tuple[int, ...]) -> Family:
        graph = self.graph
        family = Family(
            id=name,
            class_name=graph.module_types.get(members[0], ""),
            repetition=repetition,
            count=max(counts, default=1),
            counts=counts if repetition != "none" else (),
            members={member: graph.call_counts[member] for member in members},
            op_call_counts={m: graph.op_call_counts[m] for m in members if m in graph.op_call_counts},
            stage=graph.module_stages.get(members[0], "other"),
            constructor_params=_common([graph.constructor_params.get(member, {}) for member in members]),
        )
        for member in members:
            info = graph.parameters.get(member)
            if info is not None:
                family.parameters += info.count
                family.parameter_bytes += info.bytes
            cost = graph.costs.get(member)
            if cost is not None:
                family.cost.own.add(cost.own)
                family.cost.total.add(cost.total)
        family.inputs = _distinct([graph.input_metadata.get(member, []) for member in members])
        family.outputs = _distinct([graph.output_metadata.get(member, []) for member in members])
        return family


def _unique(ids: list[str]) -> list[str]:
    """The same ids, numbered where two families have one name."""
    seen: dict[str, int] = {}
    result = []
    for name in ids:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result


def _common(configs: Sequence[dict[str, object]]) -> dict[str, object]:
    """What all have: one value where they agree, the list of values where they differ."""
    result: dict[str, object] = {}
    for key in dict.fromkeys(key for config in configs for key in config):
        values = []
        for config in configs:
            if config.get(key) not in values:
                values.append(config.get(key))
        result[key] = values[0] if len(values) == 1 else {"one of": values}
    return result


def _distinct(parts: Sequence[Sequence[Signature]]) -> list[Signature]:
    found: dict[Key, Signature] = {}
    for signatures in parts:
        for signature in signatures:
            key = (tuple(signature.tensors), tuple(signature.non_tensor))
            if key in found:
                found[key].calls += signature.calls
            else:
                found[key] = evolve(signature)
    return list(found.values())
