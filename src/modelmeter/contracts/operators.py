"""The operator list: which module classes a model is made of, and the category that each is of by default."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from modelmeter.contracts.fields import Name, RelativePath
from modelmeter.contracts.operator_classes import CATEGORY_NAMES, category_of_class
from modelmeter.contracts.report import OperatorCategory
from modelmeter.errors import DocumentError
from modelmeter.schema.callgraph import CallGraph
from modelmeter.schema.codec import read_json

_CATEGORIES = tuple(CATEGORY_NAMES)


@frozen(kw_only=True)
class OperatorSpec:
    """One module class. ``children_classes`` are the qualified names of the classes right below it, sorted."""

    class_name: Name
    class_name_qualified: Name
    is_pytorch_builtin: bool
    is_custom: bool
    children_classes: tuple[str, ...] = ()
    default_category_id: Name


@frozen(kw_only=True)
class TargetOperatorList:
    """The classes of one model, ordered by qualified name.

    ``snapshot_id`` says which listing it is of: when it was made, or a hash of the module tree. The paths say
    what it was read from, relative to where the list lies; a list that was derived has none.
    """

    snapshot_id: str
    source_artifact_dir: RelativePath | None = None
    layers_md_path: RelativePath | None = None
    layers_json_path: RelativePath | None = None
    stages_json_path: RelativePath | None = None
    operators: tuple[OperatorSpec, ...] = ()

    @classmethod
    def load(cls, path: str | Path) -> TargetOperatorList:
        """Read a torchinfo-style listing: an object with ``layers``, each with ``class_name`` and the like.

        A layer may have ``class_name_qualified``, ``is_torch_builtin`` and ``children`` (names of classes). Other
        keys are another program's own and are not looked at. Raises DocumentError that names the field.
        """
        source = Path(path)
        if source.is_dir():
            source = source / "torchinfo-unique-layers.json"
        return cls.from_listing(read_json(source), str(source), layers_json_path=source.name)

    @classmethod
    def from_listing(cls, data: Any, where: str, *, layers_json_path: str | None = None) -> TargetOperatorList:
        """The same from parsed JSON. Raises DocumentError."""
        layers = data.get("layers") if isinstance(data, dict) else None
        if not isinstance(layers, list):
            raise _refused(where, "expected an object with a list 'layers'", "$.layers")
        specs: dict[str, OperatorSpec] = {}
        for index, layer in enumerate(layers):
            spec = _layer(layer, where, f"$.layers[{index}]")
            if spec.class_name_qualified in specs:
                raise _refused(where, f"{spec.class_name_qualified!r:.80} stands there twice", f"$.layers[{index}]")
            specs[spec.class_name_qualified] = spec
        made = data.get("generated_at", "")
        if not isinstance(made, str):
            raise _refused(where, f"expected str, got {type(made).__name__}", "$.generated_at")
        operators = _sorted(specs.values())
        return cls(snapshot_id=made or _hash(operators), layers_json_path=layers_json_path, operators=operators)

    @classmethod
    def of_modules(
        cls,
        children: Mapping[str, Sequence[str]],
        types: Mapping[str, str],
        classes: Mapping[str, str] | None = None,
    ) -> TargetOperatorList:
        """Derived from a module tree: id to children, to class name and, where it is known, to qualified name."""
        qualified = {module: (classes or {}).get(module) or name for module, name in types.items()}
        below: dict[str, set[str]] = {name: set() for name in qualified.values()}
        for parent, names in children.items():
            if parent in qualified:
                below[qualified[parent]] |= {qualified[child] for child in names if child in qualified}
        operators = _sorted(_spec(name, None, below[name]) for name in below)
        return cls(snapshot_id=_hash(operators), operators=operators)

    @classmethod
    def of_call_graph(cls, graph: CallGraph) -> TargetOperatorList:
        """Derived from a call graph document."""
        return cls.of_modules(graph.module_children, graph.module_types, graph.module_classes)

    def categories(self, names: Iterable[str] = _CATEGORIES) -> tuple[OperatorCategory, ...]:
        """The categories in order, each with the qualified names of its classes; ``other`` is always there."""
        return tuple(
            OperatorCategory(
                category_id=name,
                display_name=name.replace("_", " ").capitalize(),
                description=CATEGORY_NAMES.get(name, name),
                match_classes=tuple(
                    spec.class_name_qualified for spec in self.operators if spec.default_category_id == name
                ),
            )
            for name in names
        )


def _spec(qualified: str, builtin: bool | None, children: Iterable[str]) -> OperatorSpec:
    is_builtin = qualified.startswith("torch.nn.") if builtin is None else builtin
    return OperatorSpec(
        class_name=qualified.rpartition(".")[2],
        class_name_qualified=qualified,
        is_pytorch_builtin=is_builtin,
        is_custom=not is_builtin,
        children_classes=tuple(sorted(set(children))),
        default_category_id=category_of_class(qualified),
    )


def _layer(layer: Any, where: str, place: str) -> OperatorSpec:
    if not isinstance(layer, dict):
        raise _refused(where, f"expected an object, got {type(layer).__name__}", place)
    name = _text(layer, "class_name", where, place)
    qualified = _text(layer, "class_name_qualified", where, place) if "class_name_qualified" in layer else name
    if qualified.rpartition(".")[2] != name:
        raise _refused(where, f"{qualified!r:.80} does not end in {name!r:.80}", f"{place}.class_name_qualified")
    builtin = layer.get("is_torch_builtin")
    if builtin is not None and not isinstance(builtin, bool):
        raise _refused(where, f"expected bool, got {builtin!r:.40}", f"{place}.is_torch_builtin")
    children = layer.get("children", [])
    if not isinstance(children, list) or not all(isinstance(child, str) and child for child in children):
        raise _refused(where, "expected a list of class names", f"{place}.children")
    return _spec(qualified, builtin, children)


def _text(layer: dict[str, Any], key: str, where: str, place: str) -> str:
    value = layer.get(key)
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise _refused(where, f"expected the name of a class, got {value!r:.40}", f"{place}.{key}")
    return value


def _sorted(specs: Iterable[OperatorSpec]) -> tuple[OperatorSpec, ...]:
    return tuple(sorted(specs, key=lambda spec: spec.class_name_qualified))


def _hash(operators: tuple[OperatorSpec, ...]) -> str:
    tree = [[spec.class_name_qualified, list(spec.children_classes)] for spec in operators]
    return hashlib.sha256(json.dumps(tree, separators=(",", ":")).encode()).hexdigest()[:16]


def _refused(where: str, problem: str, place: str) -> DocumentError:
    return DocumentError(f"{where} is no operator listing: {problem} @ {place}", remedy="give torchinfo's listing")
