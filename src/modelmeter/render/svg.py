"""SVG by Graphviz, with tooltips as titles, which every browser shows."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from xml.etree import ElementTree

from modelmeter.callgraph.axis import Axis
from modelmeter.callgraph.folded import FoldedGraph
from modelmeter.errors import InternalError, MissingDependencyError
from modelmeter.render.dot import to_dot
from modelmeter.render.labels import edge_tooltip, rows, title, tooltip

_SVG = "http://www.w3.org/2000/svg"
_LINK = "http://www.w3.org/1999/xlink"


def to_svg(folded: FoldedGraph, axis: Axis) -> str:
    """The graph as SVG.

    Raises MissingDependencyError where Graphviz is not installed.
    """
    program = shutil.which("dot")
    if program is None:
        raise MissingDependencyError(
            "SVG is drawn by Graphviz, whose program 'dot' was not found",
            remedy="install Graphviz (apt install graphviz, brew install graphviz), or choose another --format",
        )
    drawn = subprocess.run([program, "-Tsvg"], input=to_dot(folded, axis).encode(), capture_output=True, check=False)
    if drawn.returncode:
        raise InternalError(f"dot left with {drawn.returncode}: {drawn.stderr.decode(errors='replace').strip()[:200]}")
    whole = max((axis.of(family) for family in folded.families.values()), default=0)
    numbers: dict[str, int] = {}
    titles: dict[str, str] = {}
    for row in rows(folded):
        numbers[row.family.id] = row.number
        titles[f"n{row.number}"] = "\n".join(tooltip(row.family, axis, whole))
    for edge in folded.edges:
        titles[f"n{numbers[edge.caller]}->n{numbers[edge.callee]}"] = edge_tooltip(edge)
    return _with_titles(drawn.stdout.decode(), title(folded), titles)


def _with_titles(text: str, name: str, titles: Mapping[str, str]) -> str:
    """Graphviz puts ids into titles, and tooltips into links that lead nowhere."""
    # Its comments name the version that drew it; parsing drops them.
    root = ElementTree.fromstring(text)
    for group in root.iter(f"{{{_SVG}}}g"):
        own = group.find(f"{{{_SVG}}}title")
        if own is not None and own.text is not None:
            whole = group.get("class") == "graph"
            own.text = name if whole else titles.get(own.text, own.text.removeprefix("cluster_"))
    for link in list(root.iter(f"{{{_SVG}}}a")):
        link.tag = f"{{{_SVG}}}g"
        link.attrib.pop(f"{{{_LINK}}}title", None)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _LINK)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
