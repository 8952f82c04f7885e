"""A cost tree from a trace: the same data as the closed forms give, from what really ran.

Every family of the folded graph is a node, every operator of every forward an entry. FLOPs, launches and eager
bytes are the trace's. Ideal bytes are known where a module is one operator (a product, a norm, an activation: it
calls no other and multiplies at most once a call): its inputs and weights once, its results once. What a module
runs beside its callees is taken kernel by kernel.

The document must hold the operators of every forward (``TraceOptions.forward_operators``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from modelmeter.callgraph.folded import Family, FoldedGraph
from modelmeter.callgraph.leaf_bytes import leaf_bytes
from modelmeter.callgraph.operator_categories import traced_category
from modelmeter.errors import DocumentError
from modelmeter.schema.callgraph import BACKWARD, CallGraph, Forward
from modelmeter.schema.cost import DECODE, PREFILL, Amount, CostNode, CostTree, OperatorCosts, Peak, total

WAITING_OPERATORS = frozenset(("aten.nonzero", "aten._local_scalar_dense", "aten.item", "aten.equal"))
"""Operators whose result the host reads: it waits for the device."""


class Entry(NamedTuple):
    """One operator of one family, in products of one dtype."""

    family: str
    operator: str
    dtype: str
    stage: str
    segment: str


class ForwardCosts(NamedTuple):
    """What one forward cost, by family."""

    name: str
    entries: dict[Entry, Amount]
    calls: dict[str, int]
    output_bytes: dict[str, int]
    peak_bytes: dict[str, int]
    cache_bytes: dict[str, int]


def is_decode(name: str) -> bool:
    """Whether a forward's name says that it is a decode step."""
    return name.startswith(DECODE)


def forward_costs(folded: FoldedGraph) -> list[ForwardCosts]:
    """Every forward's costs by family, in order.

    Raises DocumentError for a document without the operators of its forwards, and for one of a training run.
    """
    graph = folded.source
    if any(forward.name.startswith(BACKWARD) for forward in graph.forwards):
        raise DocumentError(
            "the call graph is of a training run, and a report is of inference", remedy="trace again without training"
        )
    if not any(forward.operators for forward in graph.forwards):
        raise DocumentError(
            "the call graph does not hold the operators of every forward", remedy="trace with --forward-operators"
        )
    segments = _segments(folded)
    callers = {edge.caller for edge in folded.edges}
    return [_forward(folded, place, forward, segments, callers) for place, forward in enumerate(graph.forwards)]


def cost_tree(folded: FoldedGraph, forwards: Iterable[ForwardCosts]) -> CostTree:
    """The tree of some forwards; decode steps are summed, peaks are the largest."""
    forwards = list(forwards)
    own_weights = _parameters(folded)
    nodes = []
    for identity in _in_order(folded):
        family = folded.families[identity]
        count, weights = own_weights[identity]
        nodes.append(
            CostNode(
                id=identity,
                class_name=family.class_name,
                caller=folded.parents.get(identity, ""),
                members=len(family.members),
                stage=family.stage,
                configuration=dict(family.constructor_params),
                parameter_count=count,
                weight_bytes=weights,
                calls=_by_run(forwards, "calls", identity),
                output_bytes=_by_run(forwards, "output_bytes", identity),
                operators=_operators(forwards, identity),
                kv_cache_bytes=_last_by_run(forwards, identity),
                own_peak_bytes=_largest_by_run(forwards, identity),
                series=family.repetition == "for",
            )
        )
    return CostTree(str(folded.source.model.get("name", folded.root)), tuple(nodes), _peak(folded, forwards))


def run_of(forward: ForwardCosts) -> str:
    """The part of the run that a forward belongs to."""
    return DECODE if is_decode(forward.name) else PREFILL


# -- one forward ---------------------------------------------------------------------------------------


def _forward(
    folded: FoldedGraph, place: int, forward: Forward, segments: Mapping[str, str], callers: set[str]
) -> ForwardCosts:
    graph = folded.source
    entries: dict[Entry, Amount] = {}
    calls: dict[str, int] = {}
    returned: dict[str, int] = {}
    peaks: dict[str, int] = {}
    caches: dict[str, int] = {}
    for identity, family in folded.families.items():
        names = [name for name in family.members if name in forward.call_counts]
        if not names:
            continue
        stage = DECODE if is_decode(forward.name) else family.stage
        calls[identity] = sum(forward.call_counts[name] for name in names)
        costs = [forward.costs[name].total for name in names if name in forward.costs]
        returned[identity] = sum(cost.output_bytes for cost in costs)
        peaks[identity] = max((cost.peak_bytes or 0 for cost in costs), default=0)
        held = [graph.kv_cache[name] for name in names if len(graph.kv_cache.get(name, ())) > place]
        if held:
            caches[identity] = sum(sizes[place] for sizes in held)
        found = _family_entries(family, forward, names, stage, segments.get(identity, ""))
        if identity not in callers:
            found = _as_one_kernel(found, calls[identity], graph, forward, names)
        entries |= found
    return ForwardCosts(forward.name, entries, calls, returned, peaks, caches)


def _family_entries(
    family: Family, forward: Forward, names: Iterable[str], stage: str, segment: str
) -> dict[Entry, Amount]:
    """Operators that start kernels, with what each moves by itself."""
    found: dict[Entry, Amount] = {}
    for name in names:
        for operator, cost in forward.operators.get(name, {}).items():
            if not cost.launches:
                continue
            label = f"{traced_category(operator, family.class_name)}/{operator}"
            # A product in several dtypes is one entry for each; what is not FLOPs goes with the first.
            products = list(cost.matrix_flops_by_dtype.items()) or [("", 0)]
            for place, (dtype, flops) in enumerate(products):
                entry = Entry(family.id, label, dtype.removeprefix("torch."), stage, segment)
                rest = () if place else (cost.vector_flops, *(cost.bytes_read, cost.bytes_written) * 2, cost.launches)
                amount = Amount(0 if place else cost.launches, flops, *rest)
                found[entry] = found.get(entry, Amount()).plus(amount)
    return found


def _as_one_kernel(
    entries: dict[Entry, Amount], calls: int, graph: CallGraph, forward: Forward, names: Iterable[str]
) -> dict[Entry, Amount]:
    """One entry for modules that call no other and multiply at most once a call: each call is one operator.

    Its kernels, FLOPs and eager bytes are theirs; its ideal bytes are inputs and weights once, results once.
    """
    products = [entry for entry, amount in entries.items() if amount.matrix_flops]
    if len(products) > 1 or sum(entries[entry].calls for entry in products) > calls:
        return entries
    if not entries or any(entry.operator.startswith("embedding/") for entry in entries):
        return entries
    names = list(names)
    read, written = leaf_bytes(names, forward.input_metadata, forward.output_metadata, graph.parameters)
    weights = sum(
        graph.parameters[name].bytes * forward.call_counts[name] for name in names if name in graph.parameters
    )
    whole = total(entries.values())
    read = min(read, whole.eager_bytes_read)
    heaviest = products[0] if products else max(entries, key=lambda entry: entries[entry].eager_bytes)
    category, _, operator = heaviest.operator.partition("/")
    if len(entries) > 1:
        operator = graph.module_types[names[0]]
    return {
        heaviest._replace(operator=f"{category}/{operator}"): whole._replace(
            calls=calls,
            bytes_read=read,
            bytes_written=min(written, whole.eager_bytes_written),
            weight_bytes_read=min(weights, read),
        )
    }


def _segments(folded: FoldedGraph) -> dict[str, str]:
    """Family to what the host issues without waiting: a layer in which it reads a result is a part of its own."""
    graph = folded.source
    waiting = {event["module"] for event in graph.runtime_events if event.get("kind") == "expert_tokens"}
    waiting |= {name for name, operators in graph.operators.items() if not WAITING_OPERATORS.isdisjoint(operators)}
    found: dict[str, str] = {}
    for identity, family in folded.families.items():
        if not waiting.isdisjoint(family.members):
            path = _path(folded, identity)
            layer = next((place for place in path if folded.families[place].repetition == "for"), identity)
            found[layer] = layer
    return {
        identity: next((found[place] for place in _path(folded, identity) if place in found), "")
        for identity in folded.families
    }


def _path(folded: FoldedGraph, identity: str) -> list[str]:
    """A family and those above it, the root first."""
    path = [identity]
    while path[-1] in folded.parents:
        path.append(folded.parents[path[-1]])
    return path[::-1]


# -- the tree ------------------------------------------------------------------------------------------


def _in_order(folded: FoldedGraph) -> list[str]:
    """Families as an outline has them: the root, then every family after its caller."""
    below: dict[str, list[str]] = {}
    for identity, parent in folded.parents.items():
        below.setdefault(parent, []).append(identity)
    found: list[str] = []
    waiting = [identity for identity in folded.families if identity not in folded.parents]
    while waiting:
        identity = waiting.pop()
        found.append(identity)
        waiting += reversed(below.get(identity, ()))
    return found


def _operators(forwards: Iterable[ForwardCosts], identity: str) -> tuple[OperatorCosts, ...]:
    sums: dict[tuple[str, Entry], Amount] = {}
    for forward in forwards:
        for entry, amount in forward.entries.items():
            if entry.family == identity:
                place = (run_of(forward), entry)
                sums[place] = sums.get(place, Amount()).plus(amount)
    return tuple(
        OperatorCosts(entry.operator, run, entry.stage, entry.dtype, amount, entry.segment)
        for (run, entry), amount in sums.items()
    )


def _by_run(forwards: Iterable[ForwardCosts], what: str, identity: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for forward in forwards:
        number = getattr(forward, what).get(identity)
        if number is not None:
            found[run_of(forward)] = found.get(run_of(forward), 0) + number
    return found


def _largest_by_run(forwards: Iterable[ForwardCosts], identity: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for forward in forwards:
        if identity in forward.peak_bytes:
            found[run_of(forward)] = max(found.get(run_of(forward), 0), forward.peak_bytes[identity])
    return found


def _last_by_run(forwards: Iterable[ForwardCosts], identity: str) -> dict[str, int]:
    return {run_of(forward): forward.cache_bytes[identity] for forward in forwards if identity in forward.cache_bytes}


def _peak(folded: FoldedGraph, forwards: Iterable[ForwardCosts]) -> Peak:
    """The most live bytes, and the innermost family that ran then: of those with the peak, the deepest."""
    most = max(forwards, key=lambda forward: forward.peak_bytes.get(folded.root, 0))
    peak = most.peak_bytes.get(folded.root, 0)
    moment = folded.source.peak
    holders = [identity for identity, bytes_ in most.peak_bytes.items() if bytes_ == peak]
    if moment is not None and moment.bytes == peak:
        holders = [name for name in holders if moment.module in folded.families[name].members] or holders
    deepest = max(holders, key=lambda identity: folded.depths.get(identity, 0), default=folded.root)
    return Peak(peak, run_of(most), deepest)


def _parameters(folded: FoldedGraph) -> dict[str, tuple[int, int]]:
    """Own parameters of every family, (count, bytes); those of modules that never ran go to what holds them."""
    graph = folded.source
    parent = {child: name for name, children in graph.module_children.items() for child in children}
    family_of = {name: identity for identity, family in folded.families.items() for name in family.members}
    found = dict.fromkeys(folded.families, (0, 0))
    for name, info in graph.parameters.items():
        holder = name
        while holder not in family_of and holder in parent:
            holder = parent[holder]
        identity = family_of.get(holder, folded.root)
        count, bytes_ = found[identity]
        found[identity] = (count + info.count, bytes_ + info.bytes)
    return found
