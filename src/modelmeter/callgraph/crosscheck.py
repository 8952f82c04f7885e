"""Runtime loop events beside the call graph: what the model said it loops over, and what was recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelmeter.callgraph.folded import FoldedGraph
from modelmeter.schema.callgraph import CallGraph, Forward


def disagreements(folded: FoldedGraph) -> list[str]:
    """One line for every runtime event that the graph contradicts."""
    graph = folded.source
    forwards = {forward.name: forward for forward in graph.forwards}
    found: list[str] = []
    for event in graph.runtime_events:
        name = event.get("forward")
        forward = forwards.get(name) if isinstance(name, str) else None
        if forward is None:
            continue
        try:
            found += _compare(folded, forward, event)
        except (KeyError, TypeError, AttributeError):
            found.append(f"{forward.name}: a runtime event is not understood: {str(event)[:80]}")
    return list(dict.fromkeys(found))


def _compare(folded: FoldedGraph, forward: Forward, event: dict[str, Any]) -> list[str]:
    kind = event.get("kind")
    if kind == "llm_stack":
        return list(_stack(folded, forward, event))
    if kind == "expert_tokens":
        return list(_experts(folded.source, forward, event))
    if kind == "vision_inputs" and event.get("image_index") == 0:
        return list(_images(folded.source, forward))
    return []


def _stack(folded: FoldedGraph, forward: Forward, event: dict[str, Any]) -> Iterator[str]:
    """A stack of N layers is N modules that ran, and a series of N."""
    container, expected = event["module"], event["num_layers"]
    ran = [name for name in forward.call_counts if _is_child(name, container)]
    if len(ran) != expected:
        yield f"{forward.name}: {container} holds {expected} layers, {len(ran)} ran"
    elif expected > 1:
        families = {f.id: f for f in folded.families.values() if set(ran) & set(f.members)}
        repeated = [f for f in families.values() if f.repetition == "for" and expected in f.counts]
        if len(families) != 1 or not repeated:
            labels = ", ".join(sorted(f.label for f in families.values()))
            yield f"{container} is said to run for {expected}, the data flow shows {labels}"


def _experts(graph: CallGraph, forward: Forward, event: dict[str, Any]) -> Iterator[str]:
    """An expert ran if and only if it got tokens, on as many rows as it got."""
    dispatcher = event["module"]
    for expert, tokens in enumerate(event["counts"]):
        name = f"{dispatcher}.experts.{expert}"
        if name not in graph.module_types:
            return
        signatures = forward.input_metadata.get(name, [])
        seen = sum(s.tensors[0].shape[0] * s.calls for s in signatures if s.tensors and s.tensors[0].shape)
        if seen != tokens:
            yield f"{forward.name}: {dispatcher} gave expert {expert} {tokens} tokens, it ran on {seen}"


def _images(graph: CallGraph, forward: Forward) -> Iterator[str]:
    """Every page runs the vision towers once for its crops, if it has any, and once for its global view."""
    events = [e for e in graph.runtime_events if e.get("kind") == "vision_inputs" and e.get("forward") == forward.name]
    expected = sum(2 if event["num_crops"] else 1 for event in events)
    towers = [name for name, stage in graph.module_stages.items() if stage == "vision" and "." not in name]
    for tower in towers:
        calls = forward.call_counts.get(tower, 0)
        if calls != expected:
            yield f"{forward.name}: {len(events)} pages need {expected} calls of {tower}, it ran {calls} times"


def _is_child(name: str, container: str) -> bool:
    return name.startswith(f"{container}.") and "." not in name[len(container) + 1 :]
