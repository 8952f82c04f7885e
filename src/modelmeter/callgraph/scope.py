"""Repeats among the callees of one caller, read off the data that flows between them.

B follows A if A is the only producer of B's input that does not itself feed A. Modules of one class
that follow each other are a series; modules alike in class, configuration and subtree that do not feed
each other are parallel.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

from attrs import frozen

Key = Hashable


@frozen
class Group:
    """Callees of one caller that are taken together: ``series``, ``parallel`` or a ``single`` one."""

    kind: str
    members: tuple[str, ...]


class Scope:
    """The callees of one caller and what flows between them."""

    def __init__(self, callees: Sequence[str], producers: Mapping[str, Sequence[str]]) -> None:
        inside = set(callees)
        self.callees = list(callees)
        self.producers = {name: [p for p in producers.get(name, ()) if p in inside and p != name] for name in callees}

    def follows(self, name: str) -> str | None:
        """The module that this one follows, if there is exactly one."""
        producers = self.producers[name]
        if len(producers) <= 1:
            return producers[0] if producers else None
        last = [p for p in producers if all(p == q or self._feeds(q, p) for q in producers)]
        if len(last) > 1:  # a loop: each of them feeds the others
            return None
        return last[0] if last else None

    def _feeds(self, source: str, target: str) -> bool:
        """Whether data from one callee reaches another, directly or through others."""
        seen = {target}
        stack = [target]
        while stack:
            for producer in self.producers[stack.pop()]:
                if producer == source:
                    return True
                if producer not in seen:
                    seen.add(producer)
                    stack.append(producer)
        return False

    def series(self, may_join: Callable[[str, str], bool]) -> list[tuple[str, ...]]:
        """Maximal chains of at least two modules that may join and follow each other."""
        following: dict[str, list[str]] = {}
        for name in self.callees:
            before = self.follows(name)
            if before is not None and before != name and may_join(before, name):
                following.setdefault(before, []).append(name)
        after = {before: names[0] for before, names in following.items() if len(names) == 1}
        chains: list[tuple[str, ...]] = []
        used: set[str] = set()
        targets = set(after.values())
        starts = [name for name in self.callees if name in after and name not in targets]
        for start in [*starts, *(name for name in self.callees if name in after)]:
            chain = []
            current: str | None = start
            while current is not None and current not in used:
                used.add(current)
                chain.append(current)
                current = after.get(current)
            if len(chain) > 1:
                chains.append(tuple(chain))
        return chains

    def levels(self, keys: Mapping[str, Key]) -> dict[str, int | None]:
        """For each module how many of its own kind lie before it on the longest way; None within a loop."""
        levels: dict[str, int | None] = {}
        below: dict[int, dict[Key, int]] = {}
        components, members = _components(self.callees, self.producers)
        for component, names in enumerate(members):
            reached: dict[Key, int] = {}
            for name in names:
                for producer in self.producers[name]:
                    source = components[producer]
                    if source != component:
                        for key, level in below[source].items():
                            if level > reached.get(key, -1):
                                reached[key] = level
            for name in names:
                levels[name] = reached.get(keys[name], 0) if len(names) == 1 else None
            for name in names:
                reached[keys[name]] = max(reached.get(keys[name], 0), (levels[name] or 0) + 1)
            below[component] = reached
        return levels

    def groups(
        self, series_key: Mapping[str, Key], parallel_key: Mapping[str, Key], order: Mapping[str, int]
    ) -> list[Group]:
        """Series first, then parallel siblings, then what is left, in the static order of their first members."""
        chains = self.series(lambda a, b: series_key[a] == series_key[b])
        chained = {name for chain in chains for name in chain}
        found = [Group("series", chain) for chain in chains]
        levels = self.levels(parallel_key)
        together: dict[tuple[Key, int], list[str]] = {}
        for name in self.callees:
            level = levels[name]
            if name in chained:
                continue
            if level is None:
                found.append(Group("single", (name,)))
            else:
                together.setdefault((parallel_key[name], level), []).append(name)
        for names in together.values():
            found.append(Group("parallel" if len(names) > 1 else "single", tuple(names)))
        return sorted(found, key=lambda group: min(order[name] for name in group.members))


def _components(names: Sequence[str], producers: Mapping[str, Sequence[str]]) -> tuple[dict[str, int], list[list[str]]]:
    """Strongly connected components, producers before consumers (Tarjan, 1972, without recursion)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    component: dict[str, int] = {}
    members: list[list[str]] = []
    open_names: list[str] = []
    for root in names:
        if root in index:
            continue
        work = [(root, iter(producers[root]))]
        index[root] = low[root] = len(index)
        open_names.append(root)
        while work:
            name, rest = work[-1]
            for producer in rest:
                if producer not in index:
                    index[producer] = low[producer] = len(index)
                    open_names.append(producer)
                    work.append((producer, iter(producers[producer])))
                    break
                if producer not in component:
                    low[name] = min(low[name], index[producer])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == index[name]:
                    group = []
                    while True:
                        last = open_names.pop()
                        component[last] = len(members)
                        group.append(last)
                        if last == name:
                            break
                    members.append(group[::-1])
    return component, members
