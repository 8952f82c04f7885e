"""Parts of a folded graph: one stage, some families unfolded, the upper levels; in the order of execution."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import evolve, frozen

from modelmeter.callgraph.contract import of_forwards
from modelmeter.callgraph.folded import Family, FoldedEdge, FoldedGraph
from modelmeter.callgraph.folding import Folder
from modelmeter.errors import UnknownNameError, UsageError
from modelmeter.patterns import static_order
from modelmeter.schema.callgraph import BACKWARD, STAGES, CallGraph, Cost, ModuleCost


def select(
    folded: FoldedGraph, *, stage: str | None = None, unfold: Iterable[str] = (), depth: int | None = None
) -> FoldedGraph:
    """The part of a folded graph that is to be drawn, siblings in the order in which data flows."""
    if stage is not None:
        folded = only_stage(folded, stage)
    for name in unfold:
        folded = unfolded(folded, name)
    if depth is not None:
        folded = to_depth(folded, depth)
    return in_order(folded)


# -- other families over the same modules ----------------------------------------------------------------


@frozen
class _Part:
    """Modules that become one family, the repetition that they had, and the part that calls them."""

    members: tuple[str, ...]
    repetition: str
    parent: int | None


_KINDS = {"for": "series", "parfor": "parallel", "none": "single"}


def _rebuilt(folded: FoldedGraph, graph: CallGraph, parts: Sequence[_Part]) -> FoldedGraph:
    """Families of these parts, parents before children. What the run said about its loops stays said."""
    made = Folder(graph).assemble(
        [(part.members, _KINDS[part.repetition]) for part in parts],
        {name: number for number, part in enumerate(parts) for name in part.members},
        {number: part.parent for number, part in enumerate(parts) if part.parent is not None},
    )
    return evolve(made, disagreements=folded.disagreements)


def _callers(graph: CallGraph) -> dict[str, list[str]]:
    callers: dict[str, list[str]] = {}
    for edge in graph.edges:
        caller, _, callee = edge.partition("->")
        callers.setdefault(callee, []).append(caller)
    return callers


# -- one stage -------------------------------------------------------------------------------------------


def only_stage(folded: FoldedGraph, stage: str) -> FoldedGraph:
    """Families of one stage over the forwards that run it, below the families that call them.

    Raises UnknownNameError for what is no stage, UsageError where no module ran in it.
    """
    if stage not in STAGES:
        raise UnknownNameError("stage", stage, STAGES)
    graph = folded.source
    decode = stage == "decode"
    inference = [forward for forward in graph.forwards if not forward.name.startswith(BACKWARD)]
    forwards = [forward for forward in inference if forward.name.startswith("decode") == decode]
    names: set[str] = set()
    if forwards or not (decode or graph.forwards):
        # The document does not tell data flow by forward; all of it tells the order.
        graph = evolve(of_forwards(graph, forwards), data_edges=graph.data_edges)
        if decode:  # a module's stage is the one in which it first ran
            graph = evolve(graph, module_stages=dict.fromkeys(graph.call_counts, "decode"))
        names = {name for name in graph.call_counts if graph.module_stages.get(name) == stage}
    if not names:
        stages = {value for name, value in folded.source.module_stages.items() if name in folded.source.call_counts}
        if any(forward.name.startswith("decode") for forward in folded.source.forwards):
            stages.add("decode")
        ran = [known for known in STAGES if known in stages]
        raise UsageError(
            f"no module ran in stage {stage!r}",
            remedy=f"stages of this document: {', '.join(ran)}" if ran else "the document tells no stages",
        )
    kept: dict[str, tuple[str, ...]] = {}
    for family in folded.families.values():
        kept[family.id] = tuple(name for name in family.members if name in names)
    for name in [name for name, members in kept.items() if members]:
        above = folded.parents.get(name)
        while above is not None and not kept[above]:
            kept[above] = tuple(member for member in folded.families[above].members if member in graph.call_counts)
            above = folded.parents.get(above)
    numbers: dict[str, int] = {}
    parts: list[_Part] = []
    for name, family in folded.families.items():
        if kept[name]:
            numbers[name] = len(parts)
            parent = folded.parents.get(name)
            parts.append(_Part(kept[name], family.repetition, None if parent is None else numbers[parent]))
    return _rebuilt(folded, graph, parts)


# -- members apart ---------------------------------------------------------------------------------------


def unfolded(folded: FoldedGraph, name: str) -> FoldedGraph:
    """The members of the matching families as families of their own, and those below split accordingly.

    A family matches by its pattern, by a member, or by what its members' names begin with; of
    families below each other the topmost. Raises UnknownNameError where nothing matches.
    """
    apart = _matching(folded, name)
    callers = _callers(folded.source)
    owners: dict[str, frozenset[str]] = {}
    parts: list[_Part] = []
    part_of: dict[str, int] = {}
    parts_of: dict[str, list[int]] = {}
    split: set[str] = set()
    for family in folded.families.values():
        above = folded.parents.get(family.id)
        groups: dict[frozenset[str], list[str]] = {}
        if family.id in apart or above in split:
            split.add(family.id)
        for member in family.members:
            if family.id in apart:
                owners[member] = frozenset((member,))
            elif family.id in split:
                owners[member] = frozenset().union(*(owners.get(caller, ()) for caller in callers.get(member, ())))
            groups.setdefault(owners.get(member, frozenset()), []).append(member)
        for members in groups.values():
            called_by = [part_of[c] for c in callers.get(members[0], ()) if c in part_of]
            possible = parts_of.get(above, []) if above is not None else []
            parent = next((number for number in called_by if number in possible), next(iter(possible), None))
            repetition = "none" if family.id in apart else family.repetition
            parts_of.setdefault(family.id, []).append(len(parts))
            part_of.update(dict.fromkeys(members, len(parts)))
            parts.append(_Part(tuple(members), repetition, parent))
    return _rebuilt(folded, folded.source, parts)


def _matching(folded: FoldedGraph, name: str) -> set[str]:
    """Ids of the topmost families with several members that a name means."""
    name = name.strip().rstrip(".")
    known = False
    found: set[str] = set()
    if name in folded.families:
        known = True
        found = {name} if len(folded.families[name].members) > 1 else set()
    if not found:
        for family in folded.families.values():
            if any(member == name or member.startswith(f"{name}.") for member in family.members):
                known = True
                if len(family.members) > 1:
                    found.add(family.id)
    if not known:
        raise UnknownNameError("family or module", name, {*folded.families, *folded.source.module_children})
    topmost = {family for family in found if not found.intersection(_above(folded, family))}
    if not topmost:
        raise UsageError(f"{name} stands for one module", remedy="unfold a family of several, for example one with [ ]")
    return topmost


def _above(folded: FoldedGraph, family: str) -> Iterable[str]:
    parent = folded.parents.get(family)
    while parent is not None:
        yield parent
        parent = folded.parents.get(parent)


# -- upper levels ----------------------------------------------------------------------------------------


def to_depth(folded: FoldedGraph, depth: int) -> FoldedGraph:
    """Families down to a depth. The deepest shown stand for all below: their own costs, operations and parameters."""
    shown: dict[str, str] = {}
    for name in folded.families:
        parent = folded.parents.get(name)
        shown[name] = name if folded.depths[name] <= depth or parent is None else shown[parent]
    families = {name: evolve(folded.families[name]) for name, anchor in shown.items() if name == anchor}
    for name, anchor in shown.items():
        if name != anchor:
            families[anchor] = _with(families[anchor], folded.families[name])
    edges: dict[tuple[str, str], FoldedEdge] = {}
    for edge in folded.edges:
        key = shown[edge.caller], edge.callee
        if edge.callee not in families or (edge.caller not in families and key[0] == key[1]):
            continue
        calls = {**(edges[key].calls if key in edges else {}), **edge.calls}
        edges[key] = FoldedEdge(*key, dict(sorted(calls.items())), edge.label)
    return evolve(
        folded,
        families=families,
        edges=list(edges.values()),
        depths={name: folded.depths[name] for name in families},
        parents={name: parent for name, parent in folded.parents.items() if name in families},
    )


def _with(family: Family, below: Family) -> Family:
    own = Cost()
    own.add(family.cost.own)
    own.add(below.cost.own)
    return evolve(
        family,
        op_call_counts={**family.op_call_counts, **below.op_call_counts},
        cost=ModuleCost(own=own, total=family.cost.total),
        parameters=family.parameters + below.parameters,
        parameter_bytes=family.parameter_bytes + below.parameter_bytes,
    )


# -- order -----------------------------------------------------------------------------------------------


def in_order(folded: FoldedGraph) -> FoldedGraph:
    """The same graph with families, edges and siblings in the order of execution."""
    rank = execution_order(folded.source)
    first = {
        family.id: min((rank.get(member, len(rank)) for member in family.members), default=len(rank))
        for family in folded.families.values()
    }
    below: dict[str | None, list[str]] = {}
    for name in folded.families:
        below.setdefault(folded.parents.get(name), []).append(name)
    for names in below.values():
        names.sort(key=first.__getitem__)
    order: list[str] = []
    stack = below.get(None, [])[::-1]
    while stack:
        order.append(stack.pop())
        stack.extend(reversed(below.get(order[-1], [])))
    place = {name: index for index, name in enumerate(order)}
    return evolve(
        folded,
        families={name: folded.families[name] for name in order},
        edges=sorted(folded.edges, key=lambda edge: (place[edge.caller], place[edge.callee])),
        depths={name: folded.depths[name] for name in order},
        parents={name: folded.parents[name] for name in order if name in folded.parents},
    )


def execution_order(graph: CallGraph) -> dict[str, int]:
    """Rank of every module: callers first, then their callees stage by stage, producers before consumers.

    Where data flow does not tell, the static order does.
    """
    static = static_order(graph.module_children, sorted({*graph.call_counts, *graph.module_types}))
    stages = {stage: index for index, stage in enumerate(STAGES)}
    callees: dict[str, list[str]] = {}
    for edge in graph.edges:
        caller, _, callee = edge.partition("->")
        callees.setdefault(caller, []).append(callee)
    producers: dict[str, list[str]] = {}
    for edge in graph.data_edges:
        producer, _, consumer = edge.partition("->")
        producers.setdefault(consumer, []).append(producer)

    def key(name: str) -> tuple[int, int, str]:
        stage = graph.module_stages.get(name, "")
        return stages.get(stage, len(stages)), static.get(name, len(static)), name

    called = {name for names in callees.values() for name in names}
    rank: dict[str, int] = {}
    starts = sorted((name for name in graph.call_counts if name not in called), key=key)
    stack = [*sorted(graph.call_counts, key=key, reverse=True), *reversed(starts)]
    while stack:
        name = stack.pop()
        if name not in rank:
            rank[name] = len(rank)
            stack.extend(reversed(_producers_first(sorted(callees.get(name, ()), key=key), producers)))
    return rank


def _producers_first(names: Sequence[str], producers: Mapping[str, Sequence[str]]) -> list[str]:
    """Depth first through the producers, so that a loop is entered where the given order begins it."""
    inside = set(names)
    done: dict[str, None] = {}
    seen: set[str] = set()
    for start in names:
        stack = [(start, False)]
        while stack:
            name, ready = stack.pop()
            if ready:
                done[name] = None
            elif name not in seen:
                seen.add(name)
                stack.append((name, True))
                before = sorted((p for p in producers.get(name, ()) if p in inside and p not in seen), key=names.index)
                stack.extend((producer, False) for producer in reversed(before))
    return list(done)
