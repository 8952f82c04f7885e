"""GraphML, for networkx, yEd, Gephi and other graph programs."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree

from modelmeter.callgraph.axis import Axis
from modelmeter.callgraph.folded import FoldedGraph
from modelmeter.render.colours import colour, pen_width, stages_below
from modelmeter.render.labels import configuration, plain, rows, shapes, title

_NAMESPACE = "http://graphml.graphdrawing.org/xmlns"
_TYPES = {str: "string", int: "long", float: "double"}

Values = Mapping[str, str | int | float]


def to_graphml(folded: FoldedGraph, axis: Axis) -> str:
    """The graph as GraphML; a node's id is its family's pattern."""
    whole = max((axis.of(family) for family in folded.families.values()), default=0)
    names = _names(folded)
    stages = stages_below(folded)
    nodes: dict[str, Values] = {}
    for row in rows(folded):
        family, total = row.family, row.family.cost.total
        nodes[names[family.id]] = {
            "label": plain(family.label),
            "class": plain(family.class_name),
            "stage": plain(family.stage),
            "repetition": family.repetition,
            "count": family.count,
            "depth": row.depth,
            "members": plain(" ".join(family.members)),
            "modules": len(family.members),
            "calls": family.calls,
            "operations": sum(family.op_call_counts.values()),
            "parameters": family.parameters,
            "parameter_bytes": family.parameter_bytes,
            "matrix_flops": total.matrix_flops,
            "vector_flops": total.vector_flops,
            "bytes_read": total.bytes_read,
            "bytes_written": total.bytes_written,
            "launches": total.launches,
            "configuration": configuration(family),
            "inputs": "; ".join(shapes(family.inputs)),
            "outputs": "; ".join(shapes(family.outputs)),
            "colour": colour(stages[family.id]).fill,
        }
    edges: list[tuple[str, str, Values]] = []
    for edge in folded.edges:
        width = pen_width(axis.of(folded.families[edge.callee]), whole)
        values: Values = {"label": edge.label, "calls": edge.count, "width": width}
        edges.append((names[edge.caller], names[edge.callee], values))
    root = ElementTree.Element("graphml", xmlns=_NAMESPACE)
    _declare(root, "node", next(iter(nodes.values()), {}))
    _declare(root, "edge", edges[0][2] if edges else {})
    _declare(root, "graph", {"name": "", "width_follows": ""})
    graph = ElementTree.SubElement(root, "graph", edgedefault="directed")
    _add(graph, "graph", {"name": title(folded), "width_follows": axis.title})
    for name, values in nodes.items():
        _add(ElementTree.SubElement(graph, "node", id=name), "node", values)
    for caller, callee, values in edges:
        _add(ElementTree.SubElement(graph, "edge", source=caller, target=callee), "edge", values)
    ElementTree.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _names(folded: FoldedGraph) -> dict[str, str]:
    """Ids that XML can hold; those that become equal by it are numbered."""
    names: dict[str, str] = {}
    used: set[str] = set()
    for family in folded.families:
        name = plain(family) or "(no name)"
        number = 1
        while (found := name if number == 1 else f"{name} #{number}") in used:
            number += 1
        used.add(found)
        names[family] = found
    return names


def _declare(root: ElementTree.Element, kind: str, values: Values) -> None:
    for key, value in values.items():
        fields = {"id": f"{kind}_{key}", "for": kind, "attr.name": key, "attr.type": _TYPES[type(value)]}
        ElementTree.SubElement(root, "key", fields)


def _add(element: ElementTree.Element, kind: str, values: Values) -> None:
    for key, value in values.items():
        ElementTree.SubElement(element, "data", key=f"{kind}_{key}").text = str(value)
