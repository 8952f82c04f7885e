"""What the modules are: classes, members, callers, stages and the configuration that shapes their tensors."""

from __future__ import annotations

from typing import Any

from modelmeter.schema.callgraph import CallGraph
from modelmeter.schema.cost import CostNode, CostTree
from modelmeter.verify.difference import Difference
from modelmeter.verify.traced import members


def compare_structure(tree: CostTree, document: CallGraph) -> tuple[list[Difference], int]:
    """Every node beside the modules that it stands for: (differences, compared).

    Of the configuration, what both sides know by the same name.
    """
    callers = _callers(document)
    found: list[Difference] = []
    compared = 0
    for node in tree.nodes:
        for what, closed, traced in _facts(node, document, callers):
            compared += 1
            if closed != traced:
                found.append(Difference(node.id, "all", what, _shown(closed), _shown(traced)))
    return found, compared


def _facts(node: CostNode, document: CallGraph, callers: dict[str, set[str]]) -> list[tuple[str, Any, Any]]:
    names = members(node.id)
    called = [name for name in names if name in document.call_counts]
    facts: list[tuple[str, Any, Any]] = [("members", node.members, len(names))]
    classes = {document.module_types.get(name, "") for name in names}
    facts.append(("class", node.class_name, _only(classes)))
    if called:
        facts.append(("stage", node.stage, _only({document.module_stages.get(name, "") for name in called})))
        above = set().union(*(callers.get(name, set()) for name in called))
        expected = set(members(node.caller)) if node.caller else set()
        facts.append(("caller", node.caller, node.caller if above <= expected else ", ".join(sorted(above - expected))))
    for key, value in node.configuration.items():
        given = {_side(document.constructor_params.get(name, {}).get(key)) for name in names} - {None}
        if given:
            facts.append((f"configuration.{key}", value, _only(given)))
    return facts


def _callers(document: CallGraph) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for edge in document.edges:
        caller, _, callee = edge.partition("->")
        found.setdefault(callee, set()).add(caller)
    return found


def _side(value: Any) -> Any:
    """One number for both sides of a square kernel; other lists as they are."""
    if isinstance(value, (list, tuple)):
        return value[0] if len(set(value)) == 1 else tuple(value)
    return value


def _only(values: set[Any]) -> Any:
    return next(iter(values)) if len(values) == 1 else tuple(sorted(values, key=str))


def _shown(value: Any) -> int | str:
    return value if isinstance(value, int) else str(value)
