"""``modelmeter graph``: draw a call graph, folded, in one of many formats."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from modelmeter.cli.arguments import Flag, Json, Whole
from modelmeter.cli.console import printing, write_text
from modelmeter.errors import DocumentError, UnknownNameError, UsageError
from modelmeter.schema.files import check_writable, write_file

if TYPE_CHECKING:
    from modelmeter.callgraph.axis import Axis
    from modelmeter.callgraph.folded import FoldedGraph
    from modelmeter.schema.callgraph import CallGraph

SUFFIXES = {
    "tree": (".txt",),
    "dot": (".dot",),
    "svg": (".svg",),
    "mermaid": (".mmd",),
    "markdown": (".md",),
    "chrome": (".json",),
    "graphml": (".graphml",),
    "json": (".json",),
}
"""Suffixes of each format; the first format that has a suffix is the one it stands for."""


def graph(
    call_graph: Path,
    /,
    *,
    format: str | None = None,
    out: Path | None = None,
    depth: Whole | None = None,
    stage: str | None = None,
    unfold: tuple[str, ...] = (),
    axis: str | None = None,
    as_json: Json = False,
    force: Flag = False,
    quiet: Flag = False,
) -> None:
    """Draw a call graph with equal modules as one node each.

    Examples:

        modelmeter graph runs/a/callgraph.json

        modelmeter graph runs/a/callgraph.json --out graph.svg

        modelmeter graph runs/a/callgraph.json --format mermaid --stage vision --depth 3

        modelmeter graph runs/a/callgraph.json --unfold layers --axis bytes --out trace.json

    Parameters
    ----------
    call_graph
        A callgraph.json.
    format
        tree, dot, svg, mermaid, markdown, chrome, graphml or json; by --out's suffix, or tree.
    out
        File to write: .txt, .dot, .svg, .mmd, .md, .json (chrome) or .graphml.
    depth
        Levels below the model; the deepest shown stand for all below them.
    stage
        Only this stage: vision, projector, prefill, decode or other.
    unfold
        Show the members of these families as nodes of their own; a name, or what names begin with.
    axis
        What widths, shares and the Chrome trace's time axis follow: flops, bytes, time or operations.
    as_json
        Print the folded graph as JSON to stdout.
    force
        Overwrite a file that exists.
    quiet
        No notes on stderr; warnings stay.
    """
    chosen = _format(format, out, as_json)
    if depth is not None and depth < 0:
        raise UsageError(f"--depth is {depth}", remedy="give a number of at least 0")
    if out is not None:
        check_writable(out.parent, [out.name], force=force)
    from modelmeter.callgraph.axis import choose_axis
    from modelmeter.callgraph.folding import fold
    from modelmeter.callgraph.selection import select

    source = _loaded(call_graph, quiet)
    measure = choose_axis(source, axis)
    folded = select(fold(source), stage=stage, unfold=unfold, depth=depth)
    if stage is not None:
        measure = choose_axis(folded.source, measure.name)
    for line in folded.disagreements:
        _say(f"warning: {line}")
    with printing():
        if out is not None:
            write_file(out, _drawn(chosen, folded, measure), force=force)
        if as_json:
            write_text(_drawn("json", folded, measure))
        elif out is not None:
            if not quiet:
                print(f"Wrote {out}")
        elif chosen == "tree":
            _show(folded, measure)
        else:
            write_text(_drawn(chosen, folded, measure))


def _format(format: str | None, out: Path | None, as_json: bool) -> str:
    """The format that --format, --out and --json ask for together."""
    known = {suffix: name for name, suffixes in reversed(SUFFIXES.items()) for suffix in suffixes}
    if format is not None and format not in SUFFIXES:
        raise UnknownNameError("format", format, SUFFIXES)
    if out is None:
        if as_json and format not in (None, "json"):
            raise UsageError(
                f"--json and --format {format} contradict each other",
                remedy=f"give one of them, or a file for the {format} with --out",
            )
        return format or ("json" if as_json else "tree")
    suffix = out.suffix.lower()
    if format is None:
        if suffix not in known:
            raise UnknownNameError("suffix of --out", suffix, known)
        return known[suffix]
    if suffix in known and suffix not in SUFFIXES[format]:
        raise UsageError(
            f"--format {format} and --out {out.name} contradict each other",
            remedy=f"name it {out.with_suffix(SUFFIXES[format][0]).name}, or leave out --format",
        )
    return format


def _loaded(path: Path, quiet: bool) -> CallGraph:
    """The document; of one from elsewhere it is said what its edges count, and they are made to count calls."""
    from modelmeter.callgraph.edge_kinds import edge_kind, with_edges_of_calls
    from modelmeter.schema.callgraph import CallGraph

    source = CallGraph.load(path)
    if not source.call_counts:
        raise DocumentError(f"{path} holds no module that ran", remedy="trace the model again")
    found = edge_kind(source)
    if found.kind == "operations":
        _say(f"warning: {path.name}: {found.sentence}")
        return with_edges_of_calls(source)
    if not source.tool and not quiet:
        flow = "" if source.data_edges else "; it tells no data flow, so that layers in series show as parfor"
        _say(f"note: {path.name}: {found.sentence}{flow}")
    return source


def _drawn(format: str, folded: FoldedGraph, measure: Axis) -> str:
    from modelmeter.render.chrome import to_chrome
    from modelmeter.render.dot import to_dot
    from modelmeter.render.folded_json import to_json
    from modelmeter.render.graphml import to_graphml
    from modelmeter.render.markdown import to_markdown
    from modelmeter.render.mermaid import to_mermaid, too_large
    from modelmeter.render.svg import to_svg
    from modelmeter.render.tree import to_tree

    views: dict[str, Callable[[FoldedGraph, Axis], str]] = {
        "tree": to_tree,
        "dot": to_dot,
        "svg": to_svg,
        "mermaid": to_mermaid,
        "markdown": to_markdown,
        "chrome": to_chrome,
        "graphml": to_graphml,
        "json": to_json,
    }
    text = views[format](folded, measure)
    if format == "mermaid" and (why := too_large(text, folded)):
        _say(f"warning: {why}")
    return text


def _show(folded: FoldedGraph, measure: Axis) -> None:
    from modelmeter.render.terminal import console
    from modelmeter.render.tree import tree_view

    console().print(tree_view(folded, measure))


def _say(text: str) -> None:
    line = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
    print(f"modelmeter: {line}", file=sys.stderr)
