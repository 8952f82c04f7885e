"""``modelmeter diff``: what changed between two call graphs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from attrs import asdict

from modelmeter.cli.arguments import Json, Whole


def diff(first: Path, second: Path, /, *, rows: Whole = 60, as_json: Json = False) -> int:
    """Compare two call graphs: structure, counts, shapes, cost. Exit code 1 if anything differs.

    Example:

        modelmeter diff runs/a/callgraph.json runs/b/callgraph.json

    Parameters
    ----------
    first, second
        Two callgraph.json files.
    rows
        Lines of the table; totals come first.
    as_json
        Print all changes as JSON.
    """
    from modelmeter.callgraph.difference import difference
    from modelmeter.schema.callgraph import CallGraph

    changes = difference(CallGraph.load(first), CallGraph.load(second))
    if as_json:
        document = {"changed": bool(changes), "changes": [asdict(change) for change in changes]}
        sys.stdout.write(json.dumps(document, indent=1, sort_keys=True) + "\n")
    else:
        from modelmeter.render.changes import changes_view
        from modelmeter.render.terminal import console

        console().print(changes_view(changes, rows))
    return 1 if changes else 0
