"""What a report keeps of a trace: the cost tree and what the model is, as plain data.

A report made from a trace alone answers what another device, another price or captured launches change. For that it
holds what every operator of every family cost; no network and no configuration is needed to ask again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from attrs import asdict, field, fields, frozen

from modelmeter.errors import DocumentError
from modelmeter.schema.callgraph import STAGES
from modelmeter.schema.cost import Amount, CostNode, CostTree, OperatorCosts, Peak

T = TypeVar("T")

KINDS = ("family", "hugging_face", "function", "document")
"""What was traced: a family's configuration, a Hugging Face one, a function's module, or a document from before."""


@frozen
class TracedRun:
    """A traced run: its costs, and what a report says of the model."""

    tree: CostTree
    kind: str
    name: str
    configuration: Mapping[str, Any]
    """The model's configuration, as published; empty for a function's module."""
    described: Mapping[str, Any]
    """The scenario as it was run."""
    class_names: Mapping[str, str]
    """Class to the class with its module."""
    prompt: tuple[int, int] | None = None
    """Requests and token ids of a prompt, where that is what was run."""
    notes: tuple[str, ...] = ()
    """What the trace had to assume."""

    def to_data(self) -> dict[str, Any]:
        """All of it but configuration and scenario, which a report holds elsewhere, as JSON would give it back."""
        return {
            "class_names": dict(sorted(self.class_names.items())),
            "kind": self.kind,
            "name": self.name,
            "notes": list(self.notes),
            "peak": asdict(self.tree.peak),
            "prompt": None if self.prompt is None else list(self.prompt),
            "tree": [_node_data(node) for node in self.tree.nodes],
        }

    @classmethod
    def from_data(
        cls, data: Mapping[str, Any], configuration: Mapping[str, Any], described: Mapping[str, Any]
    ) -> TracedRun:
        """The run whose ``to_data`` this is. Raises DocumentError, with the place, for what it is not."""
        known = {attribute.name for attribute in fields(cls)} - {"configuration", "described"} | {"peak"}
        if set(data) != known:
            raise _refused(f"trace has the keys {', '.join(sorted(data))}, expected {', '.join(sorted(known))}")
        if data["kind"] not in KINDS:
            raise _refused(f"trace.kind is {data['kind']!r:.40}, expected one of {', '.join(KINDS)}")
        peak = _object(data["peak"], "trace.peak", {"bytes": int, "run": str, "module": str})
        _count(peak["bytes"], "trace.peak.bytes")
        listed = _list(data["tree"], "trace.tree")
        nodes = tuple(_node(node, f"trace.tree[{place}]") for place, node in enumerate(listed))
        _check_tree(nodes)
        prompt = data["prompt"]
        if prompt is not None and (
            len(_list(prompt, "trace.prompt")) != 2 or any(type(n) is not int or n < 1 for n in prompt)
        ):
            raise _refused(f"trace.prompt is {prompt!r:.40}, expected two whole numbers")
        return cls(
            tree=CostTree(_typed(data["name"], str, "trace.name"), nodes, Peak(**peak)),
            kind=data["kind"],
            name=data["name"],
            configuration=configuration,
            described=described,
            class_names=_mapping(data["class_names"], str, "trace.class_names"),
            prompt=None if prompt is None else (prompt[0], prompt[1]),
            notes=tuple(_typed(note, str, "trace.notes") for note in _list(data["notes"], "trace.notes")),
        )


@frozen
class _Field:
    """How one field of a node is written and read."""

    read: Callable[[Any, str], Any]
    write: Callable[[Any], Any] = field(default=lambda value: value)


def _node_data(node: CostNode) -> dict[str, Any]:
    return {name: kind.write(getattr(node, name)) for name, kind in _NODE.items()}


def _node(data: Any, where: str) -> CostNode:
    if not isinstance(data, Mapping) or set(data) != set(_NODE):
        raise _refused(f"{where} is no node of a cost tree, with the keys {', '.join(sorted(_NODE))}")
    return CostNode(**{name: kind.read(data[name], f"{where}.{name}") for name, kind in _NODE.items()})


def _operator(data: Any, where: str) -> OperatorCosts:
    """``[operator, run, stage, dtype, segment, amounts…]``."""
    if len(_list(data, where)) != 5 + len(Amount._fields):
        raise _refused(f"{where} has {len(data)} entries, expected {5 + len(Amount._fields)}")
    operator, run, stage, dtype, segment = (_typed(text, str, where) for text in data[:5])
    if stage not in STAGES:
        raise _refused(f"{where} has the stage {stage!r:.40}, expected one of {', '.join(STAGES)}")
    return OperatorCosts(operator, run, stage, dtype, Amount(*(_count(n, where) for n in data[5:])), segment)


def _stage(value: Any, where: str) -> str:
    if value not in STAGES:
        raise _refused(f"{where} is {value!r:.40}, expected one of {', '.join(STAGES)}")
    return str(value)


def _text(value: Any, where: str) -> str:
    return _typed(value, str, where)


def _count(value: Any, where: str) -> int:
    if type(value) is not int or value < 0:
        raise _refused(f"{where} is {value!r:.40}, expected a whole number of at least 0")
    return value


def _counts(value: Any, where: str) -> dict[str, int]:
    found = _mapping(value, int, where)
    for name, number in found.items():
        _count(number, f"{where}.{name}")
    return found


_COUNTS = _Field(_counts, dict)
_NODE: dict[str, _Field] = {
    "id": _Field(_text),
    "class_name": _Field(_text),
    "caller": _Field(_text),
    "members": _Field(_count),
    "stage": _Field(_stage),
    "configuration": _Field(lambda value, where: dict(_typed(value, dict, where)), dict),
    "parameter_count": _Field(_count),
    "weight_bytes": _Field(_count),
    "calls": _COUNTS,
    "output_bytes": _COUNTS,
    "operators": _Field(
        lambda value, where: tuple(_operator(item, f"{where}[{i}]") for i, item in enumerate(_list(value, where))),
        lambda entries: [[e.operator, e.run, e.stage, e.dtype, e.segment, *e.amount] for e in entries],
    ),
    "kv_cache_bytes": _COUNTS,
    "own_peak_bytes": _COUNTS,
    "series": _Field(lambda value, where: _typed(value, bool, where)),
}


def _check_tree(nodes: tuple[CostNode, ...]) -> None:
    if not nodes:
        raise _refused("trace.tree is empty, expected at least the model")
    seen: set[str] = set()
    for place, node in enumerate(nodes):
        if node.id in seen:
            raise _refused(f"trace.tree[{place}].id {node.id!r:.60} stands twice")
        if (node.caller not in seen) if place else node.caller:
            raise _refused(f"trace.tree[{place}].caller {node.caller!r:.60} names no node before it")
        seen.add(node.id)


def _typed(value: Any, kind: type[T], where: str) -> T:
    if type(value) is not kind:
        raise _refused(f"{where} is {value!r:.40}, expected {kind.__name__}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    return _typed(value, list, where)


def _mapping(value: Any, kind: type[T], where: str) -> dict[str, T]:
    return {name: _typed(entry, kind, f"{where}.{name}") for name, entry in _typed(value, dict, where).items()}


def _object(value: Any, where: str, kinds: Mapping[str, type]) -> dict[str, Any]:
    if set(_typed(value, dict, where)) != set(kinds):
        raise _refused(f"{where} has the keys {', '.join(sorted(value))}, expected {', '.join(sorted(kinds))}")
    return {name: _typed(value[name], kind, f"{where}.{name}") for name, kind in kinds.items()}


def _refused(problem: str) -> DocumentError:
    return DocumentError(f"the report's {problem}", remedy="take it as it was written")
