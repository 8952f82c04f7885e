"""SVG by Graphviz, with tooltips as titles, which every browser shows."""

from __future__ import annotations

import shutil
import subprocess
from xml.etree import ElementTree

from modelmeter.callgraph.axis import Axis
from modelmeter.callgraph.folded import FoldedGraph
from modelmeter.errors import InternalError, MissingDependencyError
from modelmeter.render.dot import to_dot
from modelmeter.render.labels import title

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
    return _with_titles(drawn.stdout.decode(), title(folded))


def _with_titles(text: str, name: str) -> str:
    """Graphviz puts tooltips into links that lead nowhere, and node ids into titles."""
    # Its comments name the version that drew it; parsing drops them.
    root = ElementTree.fromstring(text)
    for group in root.iter(f"{{{_SVG}}}g"):
        own = group.find(f"{{{_SVG}}}title")
        link = group.find(f".//{{{_SVG}}}a")
        kind = group.get("class")
        if own is not None and kind in ("node", "edge") and link is not None:
            own.text = link.get(f"{{{_LINK}}}title")
        elif own is not None and kind in ("graph", "cluster"):
            own.text = name if kind == "graph" else (own.text or "").removeprefix("cluster_")
    for link in list(root.iter(f"{{{_SVG}}}a")):
        link.tag = f"{{{_SVG}}}g"
        link.attrib.pop(f"{{{_LINK}}}title", None)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _LINK)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
